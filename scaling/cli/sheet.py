"""What a training step sees, and a sheet of slices of it."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw

from scaling.augmentation.presets import augment
from scaling.data.cache import Cache
from scaling.data.pipeline import nested_subset
from scaling.objectives.build import build_objective
from scaling.runs.steps import PretrainStep
from scaling.study.config import Augmentation, Execution
from scaling.training.feed import training_batches, training_draw
from scaling.training.heldout import split_heldout
from scaling.training.mesh import make_mesh
from scaling.training.program import data_key, step_keys

CELL, HEADING = 160, 16  # pixels
WINDOW = (-2.5, 2.5)  # what is black and white, in standard deviations of the head


def training_views(
    cache: Cache, config: PretrainStep, step: int, count: int
) -> tuple[list[str], dict[str, np.ndarray]]:
    """What a training step sees: names of the first scans of its batch, and per preset their crops.

    Crops are float32 [count, D, H, W], as the loop reads and the step augments them; the preset
    "none" shows them as read.
    """
    recipe = config.pretrain
    rows = nested_subset(cache, split_heldout(cache, config.data)[0], config.fraction, config.seed)
    volumes = next(
        training_batches(cache, rows, config, make_mesh(1, 1), step, Execution())
    ).astype(jnp.float32)
    scans, _ = training_draw(cache, rows, config)(step)
    names = [
        f"{scan.subject} {scan.sequence} {scan.site}"
        for scan in cache.index.iloc[scans.ravel()[:count]].itertuples()
    ]
    # As `pretraining_program` does: pairs are augmented alike only if they are aligned.
    key, _ = step_keys(data_key(config.seed), step)
    if not build_objective(config.objective, config.encoder, config.decoder, recipe).aligned:
        volumes = volumes.reshape(-1, *recipe.crop)
    change = jax.jit(augment, static_argnums=2)
    seen = {preset: np.asarray(change(volumes, key, preset)) for preset in get_args(Augmentation)}
    return names, {
        preset: crops.reshape(-1, *recipe.crop)[:count] for preset, crops in seen.items()
    }


def draw_sheet(names: list[str], headings: list[str], columns: list[np.ndarray]) -> Image.Image:
    """A sheet of middle axial slices of volumes [n, D, H, W], a column per heading, a row per name.

    Volumes are RAS: the front is above, left on the left.
    """
    low, high = WINDOW
    depth, height = columns[0].shape[1:3]
    tall = round(CELL * height / depth)
    sheet = Image.new("L", (CELL * len(columns), HEADING + (tall + HEADING) * len(names)))
    pen = ImageDraw.Draw(sheet)
    for c, (heading, volumes) in enumerate(zip(headings, columns, strict=True)):
        pen.text((CELL * c + 2, 2), heading, fill=255)
        for r, volume in enumerate(volumes):
            grey = np.clip((volume[:, ::-1, volume.shape[2] // 2].T - low) / (high - low), 0, 1)
            image = Image.fromarray((255 * grey).astype(np.uint8)).resize(
                (CELL, tall), Image.Resampling.BICUBIC
            )
            sheet.paste(image, (CELL * c, HEADING + (tall + HEADING) * r))
    for r, name in enumerate(names):
        pen.text((2, HEADING + (tall + HEADING) * r + tall + 2), name, fill=200)
    return sheet
