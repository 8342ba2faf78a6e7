"""The reconstruction loss of pretraining, and a picture of it, on subjects that pretraining never sees."""

import jax
import jax.numpy as jnp
import numpy as np

from scaling.data.cache import Cache
from scaling.data.layout import select
from scaling.study.config import Data, Pretrain
from scaling.training.step import Program, State

MAX_BATCHES = 8


def split_heldout(cache: Cache, data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the cache for training, and rows of the last twentieth of the subjects (at least one), held out.

    Raises ValueError when fewer than two subjects have a readable scan.
    """
    index = cache.index
    chosen = np.logical_or.reduce([select(index, source) for source in data.pretraining]) & (index["status"] == "ok")
    rows = np.flatnonzero(chosen)
    subjects = (index["source"] + "/" + index["subject"]).to_numpy()[rows]
    ids = sorted(set(subjects))
    if len(ids) < 2:
        names = ", ".join(f"{source.path} ({source.part})" for source in data.pretraining)
        raise ValueError(
            f"pretraining has {len(ids)} subjects with a readable scan in {names}; expected at least 2: see `scaling data check`"
        )
    heldout = np.isin(subjects, ids[len(ids) - max(1, len(ids) // 20) :])
    return rows[~heldout], rows[heldout]


def heldout_crops(cache: Cache, rows: np.ndarray, recipe: Pretrain) -> np.ndarray:
    """Central crops float16 [n, D, H, W] of the held-out scans, at most eight batches of them, the same for every run."""
    crops = []
    for row in rows[: MAX_BATCHES * recipe.batch]:
        volume = cache.volume(row)
        corner = [(have - want) // 2 for have, want in zip(volume.shape, recipe.crop, strict=True)]
        window = tuple(slice(a, a + want) for a, want in zip(corner, recipe.crop, strict=True))
        crops.append(volume[window])
    return np.stack(crops)


def heldout_loss(program: Program, state: State, crops: np.ndarray, batch: int) -> float:
    """Mean loss on held-out crops, without augmentation, the same masks for every run (the last batch is filled up in a circle)."""
    count = -(-len(crops) // batch)
    filled = crops[np.arange(count * batch) % len(crops)].reshape(count, batch, *crops.shape[1:])
    keys = jax.random.split(jax.random.key(0), count)
    return float(np.mean([program.evaluate(state.parameters, part, key) for part, key in zip(filled, keys, strict=True)]))


def reconstruct_heldout(program: Program, state: State, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One held-out brain: the original, what the encoder saw, and the reconstruction, each float16 [D, H, W]."""
    volume = crops[:1]
    seen, reconstructed = program.reconstruct(state.parameters, jnp.asarray(volume), jax.random.key(0))
    return volume[0], np.asarray(seen[0], np.float16), np.asarray(reconstructed[0], np.float16)
