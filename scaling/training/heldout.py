"""The loss of pretraining, a picture of it and what the embeddings are like, on subjects that
pretraining never sees.
"""

from itertools import islice

import jax
import numpy as np
from jaxtyping import Array

from scaling.data.cache import Cache
from scaling.data.layout import select
from scaling.data.pipeline import batches, draw_pairs, session_pairs
from scaling.study.config import Data, Pretrain
from scaling.study.objectives import ObjectiveConfig
from scaling.training.program import Program, State

MAX_BATCHES = 8


def split_heldout(cache: Cache, data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the cache for training, and rows of the last twentieth of the subjects (at least
    one), held out.

    Raises ValueError when fewer than two subjects have a readable scan.
    """
    index = cache.index
    chosen = np.logical_or.reduce([select(index, source) for source in data.pretraining]) & (
        index["status"] == "ok"
    )
    rows = np.flatnonzero(chosen)
    subjects = (index["source"] + "/" + index["subject"]).to_numpy()[rows]
    ids = sorted(set(subjects))
    if len(ids) < 2:
        names = ", ".join(f"{source.path} ({source.part})" for source in data.pretraining)
        raise ValueError(
            f"pretraining has {len(ids)} subjects with a readable scan in {names}; expected at "
            "least 2: see `scaling data check`"
        )
    heldout = np.isin(subjects, ids[len(ids) - max(1, len(ids) // 20) :])
    return rows[~heldout], rows[heldout]


def heldout_crops(cache: Cache, rows: np.ndarray, recipe: Pretrain) -> np.ndarray:
    """Central crops float16 [n, D, H, W] of the held-out scans, at most eight batches of them, the
    same for every run.
    """
    crops = []
    for row in rows[: MAX_BATCHES * recipe.batch]:
        volume = cache.volume(row)
        corner = [(have - want) // 2 for have, want in zip(volume.shape, recipe.crop, strict=True)]
        window = tuple(slice(a, a + want) for a, want in zip(corner, recipe.crop, strict=True))
        crops.append(volume[window])
    return np.stack(crops)


def heldout_batches(crops: np.ndarray, batch: int) -> np.ndarray:
    """Crops [n, D, H, W] in batches [K, B, D, H, W], the last one filled up in a circle."""
    count = -(-len(crops) // batch)
    return crops[np.arange(count * batch) % len(crops)].reshape(count, batch, *crops.shape[1:])


def heldout_pairs(
    cache: Cache, rows: np.ndarray, recipe: Pretrain, objective: ObjectiveConfig
) -> np.ndarray:
    """Views of the held-out scans in batches float16 [K, B, V, D, H, W], K at most eight, the same
    for every run.

    No batch has a scan (a session, for pairs of sequences) twice: a repeated one would be its own
    negative. Where there are fewer than half a training batch, B is their number.
    """
    pairs, views = objective.pairs, objective.views
    assert pairs is not None
    available = len(rows) if pairs == "crops" else len(session_pairs(cache, rows))
    batch = min(available, recipe.batch // views)
    count = min(MAX_BATCHES, available // batch)
    draw = draw_pairs(cache, rows, recipe.crop, batch, 0, pairs, views)
    return np.stack(list(islice(batches(cache, recipe.crop, draw, batch, 0), count)))


def heldout_inputs(
    cache: Cache, rows: np.ndarray, recipe: Pretrain, objective: ObjectiveConfig
) -> np.ndarray:
    """What the held-out loss of an objective is evaluated on: views of scans where it compares
    them, else central crops; batches [K, B, ..., D, H, W].
    """
    if objective.pairs:
        return heldout_pairs(cache, rows, recipe, objective)
    return heldout_batches(heldout_crops(cache, rows, recipe), recipe.batch)


def heldout_losses(program: Program, state: State, batches: np.ndarray) -> list[Array]:
    """The loss of each held-out batch as a value on the device: nothing waits for it.

    Masks (and for pairs, augmentations) are the same for every run.
    """
    keys = jax.random.split(jax.random.key(0), len(batches))
    return [program.evaluate(state, part, key) for part, key in zip(batches, keys, strict=True)]


def heldout_loss(program: Program, state: State, batches: np.ndarray) -> float:
    """Mean loss over held-out batches, on the host."""
    return float(np.mean(heldout_losses(program, state, batches)))


def heldout_mean(program: Program, state: State, batches: np.ndarray) -> Array:
    """Mean loss over held-out batches, on the device."""
    losses = heldout_losses(program, state, batches)
    return sum(losses[1:], start=losses[0]) / len(losses)


def heldout_embeddings(program: Program, state: State, crops: np.ndarray, batch: int) -> np.ndarray:
    """Pooled tokens float32 [n, E] of held-out crops [n, D, H, W]."""
    return np.concatenate(
        [np.asarray(program.embed(state, part)) for part in heldout_batches(crops, batch)]
    )[: len(crops)]


def reconstruct_heldout(
    program: Program, state: State, volumes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """The first of held-out volumes or pairs: the original, what the encoder saw, and the
    reconstruction, each float16 [D, H, W].

    None for an objective that reconstructs nothing.
    """
    if program.reconstruct is None:
        return None
    original, seen, filled = program.reconstruct(state, volumes[:1], jax.random.key(0))
    return (
        np.asarray(original[0], np.float16),
        np.asarray(seen[0], np.float16),
        np.asarray(filled[0], np.float16),
    )
