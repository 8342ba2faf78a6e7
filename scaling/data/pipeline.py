"""Endless, shuffled batches of crops. A batch is a function of (seed, step) alone, not of hosts or threads.

Which scans and which places a step reads is drawn with NumPy for the whole global batch, one permutation per epoch; grain
reads steps ahead of the training in threads. Nothing is kept between steps, so a run resumes at any step exactly.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from sys import getrefcount
from threading import Lock
from typing import Literal

import grain
import numpy as np

from scaling.data.cache import Cache
from scaling.study.config import Shape3

STEPS = 2**40  # "endless"
Draw = Callable[
    [int], tuple[np.ndarray, np.ndarray]
]  # of a step: scans [B, ...], rows of the index, and corners of crops [B, ..., 3]
ORDER, CORNER, PARTNER, SUBJECTS = range(4)  # independent streams of random numbers of one seed


def draw_crops(cache: Cache, rows: np.ndarray, crop: Shape3, batch: int, seed: int) -> Draw:
    """One crop of each scan: every epoch visits each of `rows` (of the index) once, in a new order, at a random place.

    Raises ValueError if there are no rows or the crop is too large.
    """
    room = _room(cache, rows, crop)

    def draw(step: int) -> tuple[np.ndarray, np.ndarray]:
        return rows[shuffled(len(rows), seed, step, batch)], _stream(seed, CORNER, step).integers(
            0, room + 1, (batch, 3)
        )

    return draw


def draw_pairs(
    cache: Cache,
    rows: np.ndarray,
    crop: Shape3,
    batch: int,
    seed: int,
    pairs: Literal["crops", "sequences"],
) -> Draw:
    """Two views of one subject at a time.

    "crops": two places of one scan; every epoch visits each scan of `rows` once. "sequences": one place in two scans of one
    session that differ in sequence (all scans of a session share their frame); every epoch visits each session of `rows` that
    has two sequences once, in random scans of it, and never the others. Raises ValueError as `draw_crops` does, and when no
    session has two sequences.
    """
    room = _room(cache, rows, crop)

    def two_crops(step: int) -> tuple[np.ndarray, np.ndarray]:
        scans = rows[shuffled(len(rows), seed, step, batch)]
        return np.stack([scans, scans], 1), _stream(seed, CORNER, step).integers(
            0, room + 1, (batch, 2, 3)
        )

    def two_sequences(step: int) -> tuple[np.ndarray, np.ndarray]:
        session = shuffled(len(sessions), seed, step, batch)
        chosen = first[session] + _stream(seed, PARTNER, step).integers(0, count[session])
        corner = _stream(seed, CORNER, step).integers(0, room + 1, (batch, 1, 3))
        return partners[chosen], np.repeat(corner, 2, axis=1)

    if pairs == "crops":
        return two_crops
    sessions = session_pairs(cache, rows)
    partners, count = np.concatenate(sessions), np.array([len(each) for each in sessions])
    first = np.cumsum(count) - count
    return two_sequences


def batches(
    cache: Cache,
    crop: Shape3,
    draw: Draw,
    batch: int,
    start_step: int,
    process_index: int = 0,
    process_count: int = 1,
    threads: int = 4,
) -> Iterator[np.ndarray]:
    """Yield float16 [batch / process_count, ..., D, H, W] from `start_step` on: this process's contiguous part of each global batch that
    `draw` draws. An array is written again once nothing refers to it any more.

    Raises ValueError if the batch cannot be divided.
    """
    if batch % process_count:
        raise ValueError(
            f"batch={batch} is not divisible by the {process_count} processes; choose a multiple of {process_count}"
        )
    local = batch // process_count
    mine = slice(process_index * local, (process_index + 1) * local)
    shard, row = cache.index["shard"].to_numpy(), cache.index["row"].to_numpy()
    # Indexing a np.memmap costs as much again as the copy; a compressed shard is no array.
    shards = [
        np.asarray(volumes) if isinstance(volumes, np.memmap) else volumes
        for volumes in cache.shards
    ]

    line = np.dtype(
        (np.void, 2 * crop[2])
    )  # a line of a crop is copied as one item: a fifth faster than as numbers
    memory = Memory()

    def gather(step: int) -> np.ndarray:
        rows, corners = (part[mine] for part in draw(step))
        out = memory.array((*rows.shape, *crop))
        reads = zip(
            out.view(line).reshape(-1, *crop[:2], 1),
            rows.ravel().tolist(),
            corners.reshape(-1, 3).tolist(),
            strict=True,
        )
        for window, i, (d, h, w) in reads:
            window[...] = shards[shard[i]][
                row[i], d : d + crop[0], h : h + crop[1], w : w + crop[2]
            ].view(line)
        return out

    steps = grain.MapDataset.range(STEPS).map(gather)
    return iter(
        steps[start_step:].to_iter_dataset(
            grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
        )
    )


class Memory:
    """Arrays that are written again once nothing refers to them, not even a device that reads them in place: where the system does not
    hand out huge pages, touching fresh memory takes longer than a crop's copy.
    """

    def __init__(self) -> None:
        self.owners: list[np.ndarray] = []
        self.lock = Lock()

    def array(self, shape: tuple[int, ...]) -> np.ndarray:
        """float16 of that shape, the same in every call; contents are undefined."""
        with self.lock:
            # An owner that is free is referred to by the list, the loop and the call: all views of it keep it as their base.
            owner = next((owner for owner in self.owners if getrefcount(owner) == 3), None)
            if owner is None:
                owner = np.empty(shape, np.float16)
                self.owners.append(owner)
            return owner.view()


def nested_subset(cache: Cache, rows: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """The scans among `rows` of a `fraction` of their subjects, at least one: a smaller fraction of the same seed is a part of a larger."""
    people = (cache.index["source"] + "/" + cache.index["subject"]).to_numpy()[rows]
    everybody = np.unique(people)
    kept = _stream(seed, SUBJECTS, 0).permutation(everybody)[
        : max(1, round(fraction * len(everybody)))
    ]
    return rows[np.isin(people, kept)]


def session_pairs(cache: Cache, rows: np.ndarray) -> list[np.ndarray]:
    """For every session that has two sequences among `rows`, all ordered pairs int [P, 2] of its scans that differ in sequence.

    A session is one (source, subject, session) of the index. Raises ValueError when none has two.
    """
    described = cache.index.iloc[rows][["source", "subject", "session", "sequence"]].assign(i=rows)
    pairs = []
    for _, scans in described.groupby(["source", "subject", "session"]):
        sequence, i = scans["sequence"].to_numpy(), scans["i"].to_numpy()
        one, other = np.nonzero(sequence[:, None] != sequence[None, :])
        if len(one):
            pairs.append(np.stack([i[one], i[other]], 1))
    if not pairs:
        raise ValueError(
            f"none of the {len(rows)} scans has another sequence of its session beside it; expected sessions of two or more"
        )
    return pairs


def shuffled(n: int, seed: int, step: int, batch: int) -> np.ndarray:
    """Items int [batch] of a step, from an endless row of permutations of range(n), one per epoch."""
    begin, end = step * batch, (step + 1) * batch
    epochs = range(begin // n, -(-end // n))
    return np.concatenate([_permutation(n, seed, epoch) for epoch in epochs])[
        begin - epochs[0] * n :
    ][:batch]


@lru_cache(maxsize=8)
def _permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    return _stream(seed, ORDER, epoch).permutation(n)


def _stream(seed: int, purpose: int, number: int) -> np.random.Generator:
    return np.random.default_rng((seed, purpose, number))


def _room(cache: Cache, rows: np.ndarray, crop: Shape3) -> np.ndarray:
    """Where a crop may begin: int [3], the largest corner. Raises ValueError if there is nothing to crop or it does not fit."""
    if len(rows) == 0:
        raise ValueError("no scans to sample from; expected at least one row of the cache")
    room = np.asarray(cache.volumes.shape) - np.asarray(crop)
    if room.min() < 0:
        raise ValueError(
            f"crop {tuple(crop)} does not fit into volumes of {tuple(cache.volumes.shape)}; make it smaller"
        )
    return room
