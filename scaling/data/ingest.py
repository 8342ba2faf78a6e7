"""What a worker of `prepare` does: read the scans of some sessions, write them to their places, report on each."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scaling.data.compressed import write_compressed
from scaling.data.reading import Scan, UnreadableVolume, read_mask, read_scan
from scaling.data.volume import mask_to_grid, session_volume
from scaling.study.config import Volumes
from scaling.study.rundir import write_text

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
        file, temporary = self.file(kind, number), self.folder / f".{kind}_{number:05d}.{os.getpid()}"
        if not file.exists() and not self.compressed:
            np.lib.format.open_memmap(temporary, "w+", TYPES[kind], (size, *self.shape)).flush()
            os.replace(temporary, file)

    def write(self, kind: str, number: int, row: int, volume: np.ndarray) -> None:
        """Put a volume into its row. Raises OSError (ENOSPC) when the disk is full."""
        if self.compressed:
            write_compressed(self.file(kind, number).with_suffix(""), row, volume.astype(TYPES[kind]))
            return
        content = np.ascontiguousarray(volume, TYPES[kind]).tobytes()
        with self.file(kind, number).open("r+b") as file:
            version = np.lib.format.read_magic(file)
            read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            read_header(file)
            file.seek(file.tell() + row * len(content))
            file.write(content)


@dataclass(frozen=True)
class Job:
    """Sessions for one worker; each a list of scans (rows of the index as dictionaries)."""

    number: int
    sessions: list[list[dict[str, Any]]]


def ingest(job: Job, volumes: Volumes, shards: Shards) -> int:
    """Write the volumes and masks of a job, then its report, parts/NUMBER.json: the mark that it is done. Returns the
    number.
    """
    reports = [report for session in job.sessions for report in ingest_session(session, volumes, shards)]
    write_text(shards.folder / "parts" / f"{job.number:06d}.json", json.dumps(reports))
    return job.number


def ingest_session(session: list[dict[str, Any]], volumes: Volumes, shards: Shards) -> list[dict[str, Any]]:
    """Bring the scans of one session, and its masks, to one grid: the one of its first usable scan.

    A scan without its mask is still a scan: `masked` says whether the mask is there, `reason` why not.
    """
    grid: np.ndarray | None = None
    masks: dict[str, str] = {"": ""}
    reports = []
    for scan in session:
        report = {"row_of_table": scan["row_of_table"], "status": "failed", "reason": scan["problem"], "content_hash": ""}
        report |= {"covered": 0.0, "spacing": "", "masked": False}
        reports.append(report)
        if scan["problem"]:
            continue
        try:
            path = Path(scan["path"])
            image: Scan = read_scan(path)
            volume, report["covered"], grid = session_volume(path, image, volumes, grid)
        except UnreadableVolume as error:
            report["reason"] = str(error)
            continue
        shards.write("shard", scan["shard"], scan["row"], volume)
        if scan["mask"] not in masks:
            masks[scan["mask"]] = ingest_mask(scan, volumes, shards, grid)
        report |= {"status": "ok", "reason": masks[scan["mask"]], "masked": scan["mask"] != "" and not masks[scan["mask"]]}
        report |= {
            "content_hash": image.content_hash(),
            "spacing": " x ".join(f"{size:.4g}" for size in np.linalg.norm(grid[:3, :3], axis=0)),
        }
    return reports


def ingest_mask(scan: dict[str, Any], volumes: Volumes, shards: Shards, grid: np.ndarray) -> str:
    """Write a session's mask; returns "" or why it cannot be used."""
    try:
        mask = mask_to_grid(read_mask(Path(scan["mask"])), volumes, grid)
    except UnreadableVolume as error:
        return f"its mask cannot be used: {error}"
    shards.write("masks", scan["mask_shard"], scan["mask_row"], mask)
    return ""
