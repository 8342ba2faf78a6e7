"""How fast do crops come out of a warm cache on one core, next to the readers that others use?

Shows: 64^3 crops per second out of 160 x 192 x 160 volumes: this package without and with what
training needs (shuffling, seeded places, a position to resume from), MONAI's CacheDataset as it
comes and told not to copy volumes before it crops them, TorchIO's Queue, a blosc2 store in chunks
of a crop, and a memory-mapped float32 .npy file per scan (as in the FOMO25 baseline). All read the
same volumes, in turns; ours as float16, which the device casts, the others into float32 tensors, as
their loaders do. Seconds are those of the processor: other work on the machine is not counted.
Costs: about two minutes, 2 GB of disk, and `pip install -e '.[benchmark]'`. Command:

    python experiments/benchmarks/input.py [VOLUMES=32] [SECONDS=1] [ROUNDS=5]
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import blosc2
import monai
import numpy as np
import pandas as pd
import torch
import torchio

from scaling.data.cache import Cache
from scaling.data.pipeline import batches, draw_crops
from scaling.study.config import Volumes

SHAPE, CROP, BATCH = (160, 192, 160), (64, 64, 64), 16
Reader = Iterator[object]


def make_volumes(folder: Path, count: int) -> Cache:
    """Smooth float16 blobs in an ellipsoid, as compressible as brains; once as our shards, once as
    a file per scan.
    """
    rng = np.random.default_rng(0)
    away = sum(
        np.square(np.linspace(-1, 1, n)).reshape([-1 if a == b else 1 for b in range(3)])
        for a, n in enumerate(SHAPE)
    )
    per_shard = 16
    shards = []
    for first in range(0, count, per_shard):
        n = min(per_shard, count - first)
        shard = np.lib.format.open_memmap(
            folder / f"shard_{first}.npy", "w+", np.float16, (n, *SHAPE)
        )
        for row in range(n):
            coarse = rng.normal(size=[side // 4 for side in SHAPE]).astype(np.float16)
            volume = np.where(away < 0.9, np.kron(coarse, np.ones((4, 4, 4), np.float16)), -2.5)
            shard[row] = volume + 0.1 * rng.standard_normal(SHAPE, dtype=np.float32) * (away < 0.9)
            np.save(folder / f"scan_{first + row}.npy", shard[row].astype(np.float32))
            chunks = {"chunks": CROP, "blocks": (16, 16, 16)}
            blosc2.asarray(
                shard[row], urlpath=str(folder / f"scan_{first + row}.b2nd"), mode="w", **chunks
            )
        shards.append(np.load(folder / f"shard_{first}.npy", mmap_mode="r"))
    rows = np.arange(count)
    return Cache(
        folder,
        Volumes(1.0, SHAPE),
        pd.DataFrame({"shard": rows // per_shard, "row": rows % per_shard}),
        tuple(shards),
        (),
    )


def corner(rng: np.random.Generator) -> list[slice]:
    """A random place for a crop."""
    return [
        slice(begin, begin + side)
        for begin, side in zip(rng.integers(0, np.subtract(SHAPE, CROP) + 1), CROP, strict=True)
    ]


def raw(cache: Cache) -> Reader:
    """The copy alone: crops out of the shards into one buffer."""
    rng, out = np.random.default_rng(0), np.empty((BATCH, *CROP), np.float16)
    shards = [np.asarray(shard) for shard in cache.shards]
    while True:
        for n in range(BATCH):
            shard = shards[rng.integers(len(shards))]
            out[n] = shard[(rng.integers(len(shard)), *corner(rng))]
        yield out


def pipeline(cache: Cache) -> Reader:
    """What training reads, from a position in the middle of a run."""
    draw = draw_crops(cache, np.arange(len(cache.index)), CROP, BATCH, seed=0)
    return batches(cache, CROP, draw, BATCH, start_step=1000, threads=0)


class Files(torch.utils.data.Dataset):
    """A random crop of one scan, opened each time."""

    def __init__(
        self, folder: Path, count: int, open_scan: Callable[[str], np.ndarray], suffix: str
    ):
        self.paths = [str(folder / f"scan_{i}{suffix}") for i in range(count)]
        self.open_scan, self.rng = open_scan, np.random.default_rng(0)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> torch.Tensor:
        return torch.from_numpy(
            np.asarray(self.open_scan(self.paths[i])[tuple(corner(self.rng))], np.float32)
        )


def loaded(
    dataset: torch.utils.data.Dataset,
    loader: type[torch.utils.data.DataLoader] = torch.utils.data.DataLoader,
) -> Reader:
    """Endless shuffled batches in this process: on one core, worker processes would only cost
    more.
    """
    return chain.from_iterable(
        iter(lambda: loader(dataset, batch_size=BATCH, shuffle=True, drop_last=True), None)
    )


def monai_cached(cache: Cache, copied: bool) -> Reader:
    """Volumes in memory, a random crop as the one random transform; before it MONAI copies the
    volume, unless told not to.
    """
    crop = monai.transforms.RandSpatialCropd("image", CROP, random_size=False)
    scans = [
        {"image": torch.from_numpy(cache.volume(i).astype(np.float32))[None]}
        for i in range(len(cache.index))
    ]
    return loaded(
        monai.data.CacheDataset(scans, crop, progress=False, copy_cache=copied),
        monai.data.DataLoader,
    )


def torchio_queue(cache: Cache) -> Reader:
    """Volumes in memory, a queue of uniformly sampled patches."""
    scans = [
        torchio.Subject(
            image=torchio.ScalarImage(
                tensor=torch.from_numpy(cache.volume(i).astype(np.float32))[None]
            )
        )
        for i in range(len(cache.index))
    ]
    queue = torchio.Queue(
        torchio.SubjectsDataset(scans), 128, 8, torchio.UniformSampler(CROP), num_workers=0
    )
    while True:
        yield from torchio.SubjectsLoader(queue, batch_size=BATCH)


def readers(folder: Path, cache: Cache) -> dict[str, Reader]:
    """Endless batches of 16 crops, by name."""
    count = len(cache.index)
    return {
        "this package, raw": raw(cache),
        "this package, shuffled, seeded, resumable": pipeline(cache),
        f"MONAI {monai.__version__} CacheDataset": monai_cached(cache, copied=True),
        "the same, copy_cache=False": monai_cached(cache, copied=False),
        f"TorchIO {torchio.__version__} Queue": torchio_queue(cache),
        f"blosc2 {blosc2.__version__}": loaded(
            Files(folder, count, lambda path: blosc2.open(path, mode="r"), ".b2nd")
        ),
        "npy per scan, memory-mapped, float32": loaded(
            Files(folder, count, lambda path: np.load(path, mmap_mode="r"), ".npy")
        ),
    }


def crops_per_second(reader: Reader, seconds: float) -> float:
    """Speed over at least so many seconds of the processor and one batch."""
    began, crops = time.process_time(), 0
    while time.process_time() - began < seconds:
        next(reader)
        crops += BATCH
    return crops / (time.process_time() - began)


def main(count: int = 32, seconds: float = 1.0, rounds: int = 5) -> None:
    """Print the median speed of each reader over the rounds, and how many times ours is as fast."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    blosc2.set_nthreads(1)
    with tempfile.TemporaryDirectory() as name:
        cache = make_volumes(Path(name), count)
        compared = readers(Path(name), cache)
        for reader in compared.values():
            crops_per_second(reader, seconds)  # warm
        speeds = pd.DataFrame(
            [
                {name: crops_per_second(reader, seconds) for name, reader in compared.items()}
                for _ in range(rounds)
            ]
        )
    ours = speeds.iloc[:, 1]
    for name in speeds:
        print(
            f"{name:45s} {speeds[name].median():7.0f} crops/s, "
            f"1/{(ours / speeds[name]).median():.1f} of ours"
        )
    print(
        "ours against the best other reader: "
        f"{(ours / speeds.iloc[:, 2:].max(axis=1)).median():.1f} times as fast"
    )


if __name__ == "__main__":
    main(*(kind(text) for kind, text in zip((int, float, int), sys.argv[1:], strict=False)))
