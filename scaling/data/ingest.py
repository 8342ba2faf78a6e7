"""What a worker of `prepare` does: read the scans of some sessions, write them to their places,
report on each.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scaling.data.reading import Scan, UnreadableVolume, read_mask, read_scan
from scaling.data.shards import Shards
from scaling.data.volume import mask_to_grid, prepare_scan
from scaling.files import write_text
from scaling.study.config import Volumes


@dataclass(frozen=True)
class Job:
    """Sessions for one worker; each a list of scans (rows of the index as dictionaries)."""

    number: int
    sessions: list[list[dict[str, Any]]]


def ingest(job: Job, volumes: Volumes, shards: Shards) -> int:
    """Write the volumes and masks of a job, then its report, parts/NUMBER.json: the mark that it is
    done. Returns the number.
    """
    reports = [
        report for session in job.sessions for report in ingest_session(session, volumes, shards)
    ]
    scans = [scan for session in job.sessions for scan in session]
    for number in {scan["shard"] for scan in scans}:
        shards.flush("shard", number)
    for number in {scan["mask_shard"] for scan in scans if scan["mask"]}:
        shards.flush("masks", number)
    write_text(shards.folder / "parts" / f"{job.number:06d}.json", json.dumps(reports))
    return job.number


def ingest_session(
    session: list[dict[str, Any]], volumes: Volumes, shards: Shards
) -> list[dict[str, Any]]:
    """Bring the scans of one session, and its masks, to one grid: the one of its first usable scan.

    A scan without its mask is still a scan: `masked` says whether the mask is there, `reason` why
    not.
    """
    grid: np.ndarray | None = None
    masks: dict[str, str] = {"": ""}
    reports = []
    for scan in session:
        report = {
            "row_of_table": scan["row_of_table"],
            "status": "failed",
            "reason": scan["problem"],
            "content_hash": "",
        }
        report |= {"covered": 0.0, "spacing": "", "masked": False, "background": ""}
        reports.append(report)
        if scan["problem"]:
            continue
        try:
            path = Path(scan["path"])
            image: Scan = read_scan(path)
            prepared = prepare_scan(path, image, volumes, grid)
        except UnreadableVolume as error:
            report["reason"] = str(error)
            continue
        grid = prepared.grid
        shards.write("shard", scan["shard"], scan["row"], prepared.volume)
        if scan["mask"] not in masks:
            masks[scan["mask"]] = ingest_mask(scan, volumes, shards, grid)
        report |= {
            "status": "ok",
            "reason": masks[scan["mask"]],
            "masked": scan["mask"] != "" and not masks[scan["mask"]],
        }
        report |= {
            "content_hash": image.content_hash(),
            "covered": prepared.covered,
            "background": prepared.background,
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
