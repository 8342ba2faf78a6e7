"""The same volumes in less space: one Blosc2 file per volume, of which a crop decompresses the
blocks that it touches.

Several times slower to crop than the memory-mapped shards; for when the disk is short.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scaling.files import write_bytes

BLOCK = 32  # voxels per side of what is decompressed at once


@dataclass(frozen=True)
class CompressedShard:
    """Volumes [n, D, H, W] of a shard, read as an array is: shard[row] or shard[row, d0:d1, h0:h1,
    w0:w1]. Zeros where none was written. `check` is called with a file before it is read.
    """

    stem: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    check: Callable[[Path], None]

    def __getitem__(self, key: Any) -> np.ndarray:
        import blosc2

        row, *window = key if isinstance(key, tuple) else (key,)
        file = volume_file(self.stem, int(row))
        self.check(file)
        if not file.exists():
            return np.zeros(self.shape[1:], self.dtype)[tuple(window)]
        return np.asarray(blosc2.open(str(file), mode="r")[tuple(window)])


def volume_file(stem: Path, row: int) -> Path:
    """File of one volume of a shard."""
    return stem.with_name(f"{stem.name}_{row:05d}.b2nd")


def write_compressed(stem: Path, row: int, volume: np.ndarray) -> None:
    """Write a volume, whole or not at all. Raises OSError (ENOSPC) when the disk is full."""
    import blosc2

    blocks = tuple(min(BLOCK, size) for size in volume.shape)
    parameters = blosc2.CParams(
        codec=blosc2.Codec.ZSTD, clevel=5, filters=[blosc2.Filter.SHUFFLE], nthreads=1
    )
    array = blosc2.asarray(
        np.ascontiguousarray(volume), chunks=volume.shape, blocks=blocks, cparams=parameters
    )
    write_bytes(volume_file(stem, row), array.to_cframe())


def require_blosc2() -> None:
    """Raises ValueError when the package is not installed."""
    if importlib.util.find_spec("blosc2") is None:
        raise ValueError(
            "a compressed cache needs the package blosc2, which is not installed; run "
            "pip install blosc2, or do without compression"
        )
