"""The prepared volumes of a study: stacked float16 shards that are read through memory maps, and an index. `scaling.data.prepare` makes it.

cache.json          what they were made from: the grid, and a fingerprint of the files
shard_00000.npy     float16 [n, D, H, W]; row r of the table is row r % n of shard r // n (zeros where it failed)
masks_00000.npy     uint8 [n, D, H, W]
*.b2nd              one file per volume instead of both, where the cache is compressed
parts/              one file per finished group of sessions, until index.parquet exists
index.parquet       the table, with shard, row, mask_shard, mask_row (-1: no mask), status, reason, content_hash, the share of the head
                    that the grid holds (covered) and the grid's spacing in mm
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from scaling.data.compressed import CompressedShard, require_blosc2
from scaling.data.shards import TYPES, Shards
from scaling.study.config import Volumes

KINDS = (
    ("shard", "shard"),
    ("masks", "mask_shard"),
)  # of shards, and the column of the index that says which


@dataclass(frozen=True)
class Cache:
    """A finished cache. `index` has one row per scan, `status` "ok" or "failed"."""

    path: Path
    volumes: Volumes
    index: pd.DataFrame
    shards: tuple[np.ndarray | CompressedShard, ...]
    mask_shards: tuple[np.ndarray | CompressedShard, ...]

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


def open_cache(cache: Path) -> Cache:
    """Open what `prepare` finished. Raises FileNotFoundError if it did not, ValueError if a shard is not as it was written."""
    if not (cache / "index.parquet").exists():
        raise FileNotFoundError(
            f"{cache} holds no finished cache; run `scaling data prepare` (it continues where it stopped)"
        )
    identity = json.loads((cache / "cache.json").read_text())
    volumes, compressed = identity["volumes"], identity["compressed"]
    index = pd.read_parquet(cache / "index.parquet")
    shape = tuple(volumes["shape"])
    if compressed:
        require_blosc2()
    shards, masks = (
        _open_shards(Shards(cache, shape, compressed), kind, index[kind_column])
        for kind, kind_column in KINDS
    )
    return Cache(cache, Volumes(**{**volumes, "shape": shape}), index, shards, masks)


def _open_shards(
    shards: Shards, kind: str, numbers: "pd.Series[int]"
) -> tuple[np.ndarray | CompressedShard, ...]:
    size = shards.per_shard if kind == "shard" else shards.masks_per_shard
    opened: list[np.ndarray | CompressedShard] = []
    for number in range(int(numbers.max()) + 1):
        file = shards.file(kind, number)
        if shards.compressed:
            opened.append(CompressedShard(file.with_suffix(""), (size, *shards.shape), TYPES[kind]))
            continue
        again = f"delete {shards.folder} and prepare it again"
        try:
            volumes = np.load(file, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise ValueError(f"{file} cannot be read ({error}); {again}") from error
        if volumes.shape[1:] != shards.shape or volumes.dtype != TYPES[kind]:
            raise ValueError(
                f"{file} holds {volumes.dtype} {volumes.shape}, not volumes of {shards.shape}; {again}"
            )
        opened.append(volumes)
    return tuple(opened)
