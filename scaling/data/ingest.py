"""A worker of `prepare`: read the scans of sessions, write them to their places, report on each."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scaling.data.killed import mark, unmark
from scaling.data.masks import (
    are_labels,
    flat_values,
    loss,
    may_be_labels,
    misplacement,
    oddly_full,
    outside_head,
)
from scaling.data.reading import LARGEST, Scan, UnreadableVolume, read_mask, read_scan
from scaling.data.shards import Shards
from scaling.data.volume import mask_to_grid, prepare_scan
from scaling.files import write_text
from scaling.study.config import BACKGROUND, Volumes

DOUBTFUL_MASK = "its mask is doubtful"  # begins what is said of a mask that is used all the same
BRAIN_ML = (200.0, 2500.0)  # volume of a brain mask: of a newborn's to a generous adult's


@dataclass(frozen=True)
class Job:
    """Sessions for one worker; each a list of scans (rows of the index as dictionaries)."""

    number: int
    sessions: list[list[dict[str, Any]]]


def ingest(job: Job, volumes: Volumes, shards: Shards) -> int:
    """Write the volumes and masks of a job, then its report; returns the job's number.

    The report, parts/NUMBER.json, is the mark that the job is done.
    """
    reports = []
    for session in job.sessions:
        reports += ingest_session(session, volumes, shards)
    scans = [scan for session in job.sessions for scan in session]
    for number in {scan["shard"] for scan in scans}:
        shards.flush("shard", number)
    for number in {scan["mask_shard"] for scan in scans if scan["mask"]}:
        shards.flush("masks", number)
    write_text(shards.folder / "parts" / f"{job.number:06d}.json", json.dumps(reports))
    unmark(shards.folder / "parts")
    return job.number


def ingest_session(
    session: list[dict[str, Any]], volumes: Volumes, shards: Shards
) -> list[dict[str, Any]]:
    """Bring the scans of one session, and its masks, to one grid: the one of its first usable scan.

    A scan without its mask is still a scan: `masked` says whether the mask is there, `reason` why
    not, or what is odd about it.
    """
    grid: np.ndarray | None = None
    masks: dict[str, dict[str, Any]] = {"": {}}
    reports = []
    for scan in session:
        report = {
            "row_of_table": scan["row_of_table"],
            "stamp": scan["stamp"],
            "status": "failed",
            "reason": scan["problem"],
            "content_hash": "",
            "covered": 0.0,
            "spacing": "",
            "background": "",
            "masked": False,
            "mask_hash": "",
            "mask_volumes": "",
        }
        reports.append(report)
        if scan["problem"]:
            continue
        mark(shards.folder / "parts", scan["path"])
        path = Path(scan["path"])
        try:
            image = read_scan(path)
            values = flat_values(image.voxels)
            if are_labels(values):
                raise UnreadableVolume(
                    f"{path} holds labels, not intensities (whole numbers up to "
                    f"{image.voxels.max():g} in flat regions); it is left out"
                )
            brain, remark = read_brain_mask(scan.get("brainmask", ""))
            if may_be_labels(values) and not remark:
                remark = f"{path} has {len(values)} values in all; take it out if they are labels"
            prepared = prepare_scan(path, image, volumes, grid, brain)
        except UnreadableVolume as error:
            report["reason"] = str(error)
            continue
        except MemoryError:
            report["reason"] = f"{path} needs more memory than there is; take it out"
            continue
        grid = prepared.grid
        shards.write("shard", scan["shard"], scan["row"], prepared.volume)
        report |= {
            "status": "ok",
            "reason": remark,
            "content_hash": image.content_hash(),
            "covered": prepared.covered,
            "background": prepared.background,
            "spacing": " x ".join(f"{size:.4g}" for size in np.linalg.norm(grid[:3, :3], axis=0)),
        }
        if scan["mask"] not in masks:
            head = prepared.volume != BACKGROUND
            masks[scan["mask"]] = ingest_mask(scan, volumes, shards, grid, head)
        report |= masks[scan["mask"]]
    return reports


def ingest_mask(
    scan: dict[str, Any], volumes: Volumes, shards: Shards, grid: np.ndarray, head: np.ndarray
) -> dict[str, Any]:
    """Write a session's mask; returns what its scans report of it. `head` bool [D, H, W]."""
    path = Path(scan["mask"])
    try:
        mask = read_mask(path)
        on_grid = mask_to_grid(mask, volumes, grid)
        doubts = [misplacement(path, Path(scan["path"])), loss(path, mask, on_grid, grid)]
        doubts.append(oddly_full(path, mask) or outside_head(path, on_grid, head))
        wrong = "; ".join(filter(None, doubts))
    except UnreadableVolume as error:
        return {"reason": f"its mask cannot be used: {error}"}
    shards.write("masks", scan["mask_shard"], scan["mask_row"], on_grid)
    report: dict[str, Any] = {
        "masked": True,
        "mask_hash": file_hash(path),
        "mask_volumes": label_volumes(mask, on_grid, grid),
    }
    if wrong:
        report["reason"] = f"{DOUBTFUL_MASK}: {wrong}"
    return report


def read_brain_mask(path: str) -> tuple[Scan | None, str]:
    """A scan's brain mask, None without one; and why the mask is not used.

    A mask beside a scan may be one of a lesion: only what is as large as a brain is one.
    """
    if not path:
        return None, ""
    try:
        scan = read_scan(Path(path))
    except UnreadableVolume as error:
        return None, f"its brain mask cannot be used: {error}"
    brain = Scan((np.nan_to_num(scan.voxels) > 0).astype(np.float32), scan.affine)
    millilitres = brain.voxels.sum() * abs(np.linalg.det(scan.affine[:3, :3])) / 1000
    if not BRAIN_ML[0] <= millilitres <= BRAIN_ML[1]:
        return None, (
            f"{path} is not used as a brain mask: it marks {millilitres:.0f} ml, expected "
            f"{BRAIN_ML[0]:g} to {BRAIN_ML[1]:g}"
        )
    return brain, ""


def file_hash(path: Path) -> str:
    """Digest of a file's bytes."""
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def has_changed(row: dict[str, Any]) -> tuple[int, bool]:
    """A row of the index, and whether the content of its scan or mask is another by now."""
    number = int(row["row_of_table"])
    try:
        if row["status"] == "ok":
            if read_scan(Path(row["path"])).content_hash() != row["content_hash"]:
                return number, True
            if row["mask_hash"] and file_hash(Path(row["mask"])) != row["mask_hash"]:
                return number, True
    except (UnreadableVolume, OSError):
        return number, True
    return number, False


def label_volumes(mask: Scan, on_grid: np.ndarray, grid: np.ndarray) -> str:
    """JSON: label -> its volume in mm3 in the file, and on the grid."""
    in_file = np.bincount(mask.voxels.astype(np.int64).ravel(), minlength=LARGEST + 1)
    on_voxels = np.bincount(on_grid.ravel(), minlength=LARGEST + 1)
    # The determinant of an affine is the volume of its voxel, mirrored axes apart.
    file_voxel = abs(np.linalg.det(mask.affine[:3, :3]))
    grid_voxel = abs(np.linalg.det(grid[:3, :3]))
    volumes = {}
    for label in np.flatnonzero(in_file).tolist():
        if label > 0:
            of_file = round(float(in_file[label] * file_voxel), 3)
            of_grid = round(float(on_voxels[label] * grid_voxel), 3)
            volumes[label] = [of_file, of_grid]
    return json.dumps(volumes)
