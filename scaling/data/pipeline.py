"""Endless, shuffled batches of crops.

A batch depends on (seed, step) alone, not on hosts or threads.

The scans and the places that a step reads are drawn with NumPy for the whole global batch, one
permutation per epoch; grain reads ahead of the training in threads. Nothing is kept between steps,
so a run resumes exactly at any step.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from sys import getrefcount
from threading import Lock
from typing import Literal

import grain
import numpy as np

from scaling.data.cache import Cache
from scaling.data.layout import SESSION
from scaling.study.config import Shape3

STEPS = 2**40  # "endless"
# Of a step: scans [B, ...] as rows of the index, and corners of crops [B, ..., 3] in voxels.
Draw = Callable[[int], tuple[np.ndarray, np.ndarray]]
ORDER, CORNER, PARTNER, SUBJECTS = range(4)  # independent streams of random numbers of one seed


def draw_crops(cache: Cache, rows: np.ndarray, crop: Shape3, batch: int, seed: int) -> Draw:
    """One crop of each scan: an epoch visits each of `rows` once, in a new order, at a random
    place.

    Raises ValueError if there are no rows or the crop is too large.
    """
    room = _room(cache, rows, crop)

    def draw(step: int) -> tuple[np.ndarray, np.ndarray]:
        scans = rows[shuffled(len(rows), seed, step, batch)]  # [B]
        corners = _stream(seed, CORNER, step).integers(0, room + 1, (batch, 3))
        return scans, corners

    return draw


def draw_pairs(
    cache: Cache,
    rows: np.ndarray,
    crop: Shape3,
    batch: int,
    seed: int,
    pairs: Literal["crops", "sequences"],
    views: int = 2,
) -> Draw:
    """Two views of one subject at a time, or `views` crops.

    "crops": `views` places of one scan; an epoch visits each scan of `rows` once. "sequences": one
    place in two scans of one session that differ in sequence (all scans of a session share their
    grid); an epoch visits each session of `rows` that has two sequences once, in random scans of
    it, and never the others. Raises ValueError as `draw_crops` does, and when no session has two
    sequences.
    """
    room = _room(cache, rows, crop)

    def crops(step: int) -> tuple[np.ndarray, np.ndarray]:
        scans = rows[shuffled(len(rows), seed, step, batch)]
        corners = _stream(seed, CORNER, step).integers(0, room + 1, (batch, views, 3))
        return np.repeat(scans[:, None], views, axis=1), corners

    if pairs == "crops":
        return crops
    sessions = session_pairs(cache, rows)
    partners = np.concatenate(sessions)  # [P, 2], the pairs of all sessions
    count = np.array([len(session) for session in sessions])
    first = np.cumsum(count) - count  # where a session's pairs begin in `partners`

    def two_sequences(step: int) -> tuple[np.ndarray, np.ndarray]:
        session = shuffled(len(sessions), seed, step, batch)
        chosen = first[session] + _stream(seed, PARTNER, step).integers(0, count[session])
        corner = _stream(seed, CORNER, step).integers(0, room + 1, (batch, 1, 3))
        return partners[chosen], np.repeat(corner, 2, axis=1)

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
    """Yield float16 [batch / process_count, ..., D, H, W] from `start_step` on.

    A process gets its contiguous slice of each global batch that `draw` draws. An array is
    overwritten once nothing refers to it. Raises ValueError if the batch cannot be divided.
    """
    if batch % process_count:
        raise ValueError(
            f"batch={batch} is not divisible by the {process_count} processes; "
            f"choose a multiple of {process_count}"
        )
    local = batch // process_count
    local_batch = slice(process_index * local, (process_index + 1) * local)
    copy_crops = crop_copier(cache, crop)
    memory = Memory()

    def read(step: int) -> np.ndarray:
        rows, corners = draw(step)
        rows, corners = rows[local_batch], corners[local_batch]
        crops = memory.array((*rows.shape, *crop))
        copy_crops(crops, rows, corners)
        return crops

    steps = grain.MapDataset.range(STEPS).map(read)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
    return iter(steps[start_step:].to_iter_dataset(options))


def crop_copier(cache: Cache, crop: Shape3) -> Callable[[np.ndarray, np.ndarray, np.ndarray], None]:
    """A function that fills float16 crops [..., D, H, W] from rows [...] and corners [..., 3]."""
    shard = cache.index["shard"].to_numpy()
    row = cache.index["row"].to_numpy()
    shards = cache.shards  # each is compared with its digest when it is first read
    # A line of a crop is copied as one item, which is a fifth faster than number by number.
    line = np.dtype((np.void, 2 * crop[2]))

    def copy(crops: np.ndarray, rows: np.ndarray, corners: np.ndarray) -> None:
        windows = crops.view(line).reshape(-1, *crop[:2], 1)  # [..., D, H, W] -> [n, D, H, 1 line]
        places = zip(rows.ravel().tolist(), corners.reshape(-1, 3).tolist(), strict=True)
        for window, (i, (d, h, w)) in zip(windows, places, strict=True):
            volumes = shards[shard[i]]
            voxels = volumes[row[i], d : d + crop[0], h : h + crop[1], w : w + crop[2]]
            window[...] = voxels.view(line)

    return copy


class Memory:
    """Arrays that are overwritten once nothing refers to them, not even a device reading in place.

    Where the system does not hand out huge pages, touching fresh memory takes longer than a crop's
    copy.
    """

    def __init__(self) -> None:
        self.owners: list[np.ndarray] = []
        self.lock = Lock()

    def array(self, shape: tuple[int, ...]) -> np.ndarray:
        """float16 of that shape, the same in every call; contents are undefined."""
        with self.lock:
            for position in range(len(self.owners)):
                if self._is_free(position):
                    return self.owners[position].view()
            owner = np.empty(shape, np.float16)
            self.owners.append(owner)
            return owner.view()

    def _is_free(self, position: int) -> bool:
        """Whether nobody else refers to an owner.

        All views of it keep it as their base. CPython counts the list's reference and that of the
        call itself: two. On an interpreter that counts otherwise no array would be free, which is
        slower and never wrong.
        """
        return getrefcount(self.owners[position]) <= 2


def nested_subset(cache: Cache, rows: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """The scans among `rows` of a `fraction` of their subjects, at least of one.

    The subset of a smaller fraction lies within that of a larger one of the same seed.
    """
    people = (cache.index["source"] + "/" + cache.index["subject"]).to_numpy()[rows]
    everybody = np.unique(people)
    count = max(1, round(fraction * len(everybody)))
    chosen = _stream(seed, SUBJECTS, 0).permutation(everybody)[:count]
    return rows[np.isin(people, chosen)]


def session_pairs(cache: Cache, rows: np.ndarray) -> list[np.ndarray]:
    """All ordered pairs int [P, 2] of a session's scans that differ in sequence, session by
    session.

    A session is one (source, subject, session) of the index, and is listed when it has two
    sequences among `rows`. Raises ValueError when none has.
    """
    described = cache.index.iloc[rows][["source", "subject", "session", "sequence"]].assign(i=rows)
    pairs = []
    for _, scans in described.groupby(SESSION):
        sequence, i = scans["sequence"].to_numpy(), scans["i"].to_numpy()
        first, second = np.nonzero(sequence[:, None] != sequence[None, :])
        if len(first):
            pairs.append(np.stack([i[first], i[second]], 1))
    if not pairs:
        raise ValueError(
            f"none of the {len(rows)} scans has another sequence of its session beside it; "
            "expected sessions of two or more"
        )
    return pairs


def shuffled(n: int, seed: int, step: int, batch: int) -> np.ndarray:
    """Items int [batch] of a step, from an endless row of permutations of range(n), one per
    epoch.
    """
    begin, end = step * batch, (step + 1) * batch
    epochs = range(begin // n, -(-end // n))
    order = np.concatenate([_permutation(n, seed, epoch) for epoch in epochs])
    offset = begin - epochs[0] * n
    return order[offset : offset + batch]


@lru_cache(maxsize=8)
def _permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    return _stream(seed, ORDER, epoch).permutation(n)


def _stream(seed: int, purpose: int, number: int) -> np.random.Generator:
    return np.random.default_rng((seed, purpose, number))


def _room(cache: Cache, rows: np.ndarray, crop: Shape3) -> np.ndarray:
    """The largest corner a crop may have, int [3].

    Raises ValueError if there is nothing to crop or the crop does not fit.
    """
    if len(rows) == 0:
        raise ValueError("no scans to sample from; expected at least one row of the cache")
    room = np.asarray(cache.volumes.shape) - np.asarray(crop)
    if room.min() < 0:
        raise ValueError(
            f"crop {tuple(crop)} does not fit into volumes of {tuple(cache.volumes.shape)}; "
            "make it smaller"
        )
    return room
