"""Endless, shuffled batches of crops. A batch is a function of (seed, step) alone, not of hosts or threads."""

from collections.abc import Iterator

import grain
import numpy as np

from scaling.data.cache import Cache
from scaling.study.config import Shape3

STEPS = 2**40  # "endless"


def batches(
    cache: Cache,
    rows: np.ndarray,
    crop: Shape3,
    batch: int,
    seed: int,
    start_step: int,
    process_index: int = 0,
    process_count: int = 1,
    threads: int = 4,
) -> Iterator[np.ndarray]:
    """Yield float16 [batch / process_count, D, H, W] from `start_step` on: this process's contiguous part of each
    global batch.

    `rows` are rows of the index; every epoch visits each once, in a new order, at a random place. Only places travel
    through grain; a batch's voxels are copied once, from the memory map. Threads prefetch, the order never changes.
    """
    if batch % process_count:
        raise ValueError(f"batch={batch} is not divisible by the {process_count} processes; choose a multiple of {process_count}")
    if len(rows) == 0:
        raise ValueError("no scans to sample from; expected at least one row of the cache")
    room = np.asarray(cache.volumes.shape) - np.asarray(crop)
    if room.min() < 0:
        raise ValueError(f"crop {tuple(crop)} does not fit into volumes of {tuple(cache.volumes.shape)}; make it smaller")
    shard, row = cache.index["shard"].to_numpy(), cache.index["row"].to_numpy()

    def place(i: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        d, h, w = (int(x) for x in rng.integers(0, room + 1))
        return i, d, h, w

    samples = grain.MapDataset.source([int(i) for i in rows]).seed(seed).shuffle().repeat()
    placed = samples.random_map(place) if room.any() else samples.map(lambda i: (i, 0, 0, 0))
    local = batch // process_count

    def gather(step: int) -> np.ndarray:
        out = np.empty((local, *crop), np.float16)
        first = step * batch + process_index * local
        for n in range(local):
            i, d, h, w = placed[first + n]
            out[n] = cache.shards[shard[i]][row[i], d : d + crop[0], h : h + crop[1], w : w + crop[2]]
        return out

    steps = grain.MapDataset.range(STEPS).map(gather)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    yield from steps[start_step:].to_iter_dataset(options)
