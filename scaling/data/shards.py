"""Where the volumes of a cache lie: stacked npy files, or a compressed file each."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scaling.data.compressed import write_compressed
from scaling.files import replacing

SHARD_BYTES = 2**29
TYPES: dict[str, np.dtype] = {"shard": np.dtype(np.float16), "masks": np.dtype(np.uint8)}


@dataclass(frozen=True)
class Shards:
    """Where volumes of one shape lie in a folder's npy files. Written by position, so that a full disk is an error, not
    a signal.
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

    def create(self, kind: str, number: int, size: int) -> None:
        """Create a sparse npy file of `size` zero volumes, if it is not there."""
        file = self.file(kind, number)
        if not file.exists() and not self.compressed:
            with replacing(file) as temporary:
                np.lib.format.open_memmap(temporary, "w+", TYPES[kind], (size, *self.shape)).flush()

    def write(self, kind: str, number: int, row: int, volume: np.ndarray) -> None:
        """Put a volume into its row. Raises OSError (ENOSPC) when the disk is full."""
        if self.compressed:
            write_compressed(
                self.file(kind, number).with_suffix(""), row, volume.astype(TYPES[kind])
            )
            return
        content = np.ascontiguousarray(volume, TYPES[kind]).tobytes()
        with self.file(kind, number).open("r+b") as file:
            version = np.lib.format.read_magic(file)
            read_header = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            read_header(file)
            file.seek(file.tell() + row * len(content))
            file.write(content)
