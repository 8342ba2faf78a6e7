"""The prepared volumes of a study: stacked float16 shards that are read through memory maps, and an
index. `scaling.data.prepare` makes it.

    cache.json         what they were made from: the grid, and fingerprints of the files
    shard_00000.npy    float16 [n, D, H, W]; row r of the table is row r % n of shard r // n (zeros
                       where it failed)
    masks_00000.npy    uint8 [n, D, H, W]
    *.b2nd             one file per volume instead of both, where the cache is compressed
    parts/             one file per finished group of sessions, until index.parquet exists
    digests.json       size and digest of every shard; each is compared when this process first
                       reads it
    index.parquet      the table, with shard, row, mask_shard, mask_row (-1: no mask), status,
                       reason, content_hash, the share of the head that the grid holds (covered) and
                       the grid's spacing in mm
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import overload

import numpy as np
import pandas as pd

from scaling.data.compressed import CompressedShard, require_blosc2
from scaling.data.shards import TYPES, Shards
from scaling.files import (
    FORMAT,
    check_format,
    read_json,
    read_marker,
    read_parquet,
    write_json,
)
from scaling.runs.digests import DamagedError, Records, digest_of, record
from scaling.study.config import Volumes

DIGESTS, IDENTITY, INDEX = "digests.json", "cache.json", "index.parquet"
# Kinds of shards, and the column of the index that says in which one a volume lies.
KINDS = (("shard", "shard"), ("masks", "mask_shard"))
CURE = "call `scaling run` or `scaling data prepare` as before to prepare it again"

Volumes4 = np.ndarray | CompressedShard  # volumes [n, D, H, W]


@dataclass(frozen=True)
class Cache:
    """A finished cache. `index` has one row per scan, `status` "ok" or "failed"."""

    path: Path
    volumes: Volumes
    index: pd.DataFrame
    shards: Sequence[Volumes4]
    mask_shards: Sequence[Volumes4]

    def volume(self, i: int) -> np.ndarray:
        """float16 [D, H, W] of row i of the index, a view of the memory map."""
        return self.shards[self.index["shard"].iloc[i]][self.index["row"].iloc[i]]

    def mask(self, i: int) -> np.ndarray:
        """uint8 [D, H, W] of the segmentation label of row i. Raises ValueError if it has none."""
        if self.index["mask_row"].iloc[i] < 0:
            raise ValueError(
                f"row {i} of {self.path} ({self.index['path'].iloc[i]}) has no segmentation label"
            )
        return self.mask_shards[self.index["mask_shard"].iloc[i]][self.index["mask_row"].iloc[i]]


class Integrity:
    """Compares each file of a cache with its digest when this process first reads it."""

    def __init__(self, folder: Path, records: Records):
        self.folder, self.records = folder, records
        self.whole: set[Path] = set()
        self.lock = Lock()

    def check(self, file: Path) -> None:
        """Raises DamagedError when `file` is not what was written. A cache of format 1 has no
        digests.
        """
        if file in self.whole or file.name not in self.records:
            return
        with self.lock:  # several threads read batches; one of them compares
            if file in self.whole:
                return
            if not file.exists():
                raise DamagedError(file, f"it is missing; {CURE}")
            if digest_of(file) != self.records[file.name]["digest"]:
                raise DamagedError(file, f"its content is not what was written; {CURE}")
            self.whole.add(file)


class MappedShards(Sequence[np.ndarray]):
    """Memory maps of stacked npy files, each compared with its digest when it is first asked
    for.
    """

    def __init__(self, files: Iterable[Path], shape: tuple[int, ...], integrity: Integrity):
        self.files, self.shape, self.integrity = tuple(files), shape, integrity
        # The header is read at once: a wrong shape is told before anything is trained.
        self.maps = [self.mapped(file) for file in self.files]
        self.checked = [False] * len(self.maps)

    def mapped(self, file: Path) -> np.ndarray:
        kind = file.name.partition("_")[0]
        cure = f"delete {file.parent} and prepare it again"
        try:
            volumes = np.load(file, mmap_mode="r")
        except FileNotFoundError as error:
            raise DamagedError(file, f"it is missing; {CURE}") from error
        except (OSError, ValueError, EOFError) as error:
            if file.name in self.integrity.records:
                raise DamagedError(file, f"it cannot be read ({error}); {CURE}") from error
            raise ValueError(f"{file} cannot be read ({error}); {cure}") from error
        if volumes.shape[1:] != self.shape or volumes.dtype != TYPES[kind]:
            raise ValueError(
                f"{file} holds {volumes.dtype} {volumes.shape}, not volumes of {self.shape}; {cure}"
            )
        # Indexing a np.memmap costs as much again as the copy of a crop.
        return np.asarray(volumes)

    def __len__(self) -> int:
        return len(self.maps)

    @overload
    def __getitem__(self, number: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[np.ndarray]: ...
    def __getitem__(self, number: int | slice) -> np.ndarray | Sequence[np.ndarray]:
        if isinstance(number, slice):
            return [self[place] for place in range(*number.indices(len(self)))]
        if not self.checked[number]:
            self.integrity.check(self.files[number])
            self.checked[number] = True
        return self.maps[number]


def open_cache(cache: Path) -> Cache:
    """Open what `prepare` finished. Raises FileNotFoundError if it did not, ValueError if a file is
    not as it was written.
    """
    if not (cache / INDEX).exists():
        raise FileNotFoundError(
            f"{cache} holds no finished cache; run `scaling data prepare` (it continues where it "
            "stopped)"
        )
    identity = read_json(cache / IDENTITY)
    digests = read_marker(cache / DIGESTS) or {}
    check_format(digests.get("format", 1), cache / DIGESTS)
    volumes, compressed = identity["volumes"], identity["compressed"]
    integrity = Integrity(cache, digests.get("files", {}))
    integrity.check(cache / INDEX)
    index = read_parquet(cache / INDEX)
    shape = tuple(volumes["shape"])
    if compressed:
        require_blosc2()
    shards = Shards(cache, shape, compressed)
    opened = [opened_shards(shards, kind, index[column], integrity) for kind, column in KINDS]
    return Cache(cache, Volumes(**{**volumes, "shape": shape}), index, *opened)


def opened_shards(
    shards: Shards, kind: str, numbers: "pd.Series[int]", integrity: Integrity
) -> Sequence[Volumes4]:
    """The shards of one kind that an index refers to."""
    files = [shards.file(kind, number) for number in range(int(numbers.max()) + 1)]
    if not shards.compressed:
        return MappedShards(files, shards.shape, integrity)
    size = shards.per_shard if kind == "shard" else shards.masks_per_shard
    shape, dtype = (size, *shards.shape), TYPES[kind]
    return [CompressedShard(file.with_suffix(""), shape, dtype, integrity.check) for file in files]


def seal(cache: Path, files: Iterable[Path]) -> None:
    """Write down the digests of a cache's files: the last thing before its index is renamed."""
    write_json(cache / DIGESTS, {"format": FORMAT, "files": record(cache, files)})


def damaged_files(cache: Path) -> Iterator[Path]:
    """The files of a sealed cache that are missing or not what was written. Every file is read."""
    digests = read_marker(cache / DIGESTS) or {}
    for name, written in digests.get("files", {}).items():
        file = cache / name
        if not file.exists() or digest_of(file) != written["digest"]:
            yield file
