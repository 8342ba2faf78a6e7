"""Where the volumes of a cache lie: stacked npy files, or a compressed file each."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from scaling.data.compressed import write_compressed
from scaling.files import explained, flush, replacing

SHARD_BYTES = 2**29
TYPES: dict[str, np.dtype] = {"shard": np.dtype(np.float16), "masks": np.dtype(np.uint8)}


@dataclass(frozen=True)
class Shards:
    """Where volumes of one shape lie in a folder's npy files. Written by position, so that a full
    disk is an error, not a signal.
    """

    folder: Path
    shape: tuple[int, ...]
    compressed: bool = False

    @property
    def volume_bytes(self) -> int:
        """Bytes of one float16 volume."""
        return 2 * int(np.prod(self.shape))

    @property
    def per_shard(self) -> int:
        """Scans in a full shard."""
        return max(1, SHARD_BYTES // self.volume_bytes)

    @property
    def masks_per_shard(self) -> int:
        """Masks in a full shard."""
        return 2 * self.per_shard

    def file(self, kind: str, number: int) -> Path:
        """Path of a shard; `kind` is "shard" or "masks"."""
        return self.folder / f"{kind}_{number:05d}.npy"

    def files(self) -> list[Path]:
        """Every file of volumes in the folder."""
        return sorted(self.folder.glob("*.b2nd" if self.compressed else "*.npy"))

    def create(self, kind: str, number: int, size: int) -> None:
        """Create a sparse npy file of `size` zero volumes, if it is not there."""
        file = self.file(kind, number)
        if not file.exists() and not self.compressed:
            shape = (size, *self.shape)
            with replacing(file) as temporary:
                np.lib.format.open_memmap(temporary, "w+", TYPES[kind], shape).flush()

    def write(self, kind: str, number: int, row: int, volume: np.ndarray) -> None:
        """Put a volume [D, H, W] into its row. Raises OSError (ENOSPC) when the disk is full.

        It is on the disk for certain only after `flush`.
        """
        if self.compressed:
            stem = self.file(kind, number).with_suffix("")
            write_compressed(stem, row, volume.astype(TYPES[kind]))
            return
        content = np.ascontiguousarray(volume, TYPES[kind]).tobytes()
        path = self.file(kind, number)
        with explained(path), path.open("r+b") as file:
            skip_header(file)
            file.seek(file.tell() + row * len(content))
            file.write(content)

    def flush(self, kind: str, number: int) -> None:
        """Wait until what was written to a shard is on the disk."""
        if not self.compressed:  # those files were flushed one by one
            flush(self.file(kind, number))


def skip_header(file: BinaryIO) -> None:
    """Move an open npy file to its first value."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        np.lib.format.read_array_header_1_0(file)
    else:
        np.lib.format.read_array_header_2_0(file)
