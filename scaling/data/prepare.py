"""Make a cache (`scaling.data.cache`): all scans of a table on one grid, in parallel, from wherever
it stands.
"""

import dataclasses
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scaling.data.compressed import require_blosc2
from scaling.data.ingest import Job, ingest
from scaling.data.shards import Shards
from scaling.files import write_table, write_text
from scaling.processes.parallel import cores, unordered_map
from scaling.study.config import Volumes

GROUP = 16  # scans that one worker reads between two marks of progress
COMPRESSED = 0.5  # of a volume's bytes at most, as far as brains on a constant background go
SPARE = 64 * 2**20  # bytes that must stay free beside the shards


def prepare(
    root: Path,
    table: pd.DataFrame,
    volumes: Volumes,
    cache: Path,
    progress: Callable[[int, int], None] | None = None,
    workers: int = 0,
    compressed: bool = False,
) -> pd.DataFrame:
    """Bring every scan of `table` (see `scan_sources`) to the grid and return the index.

    Done: returns at once; partial: goes on.

    A scan that cannot be used is listed with status "failed" and its reason. Raises OSError when
    the disk is too small or full (nothing done is lost) and ValueError when `cache` holds something
    else.
    """
    if compressed:
        require_blosc2()
    identity = cache_identity(root, table, volumes) | {"compressed": compressed}
    _claim(cache, identity)
    if (cache / "index.parquet").exists():
        return pd.read_parquet(cache / "index.parquet")
    shards = Shards(cache, tuple(volumes.shape), compressed)
    index = place(table, shards)
    groups = _groups(index)
    (cache / "parts").mkdir(exist_ok=True)
    for left_over in (cache / "parts").glob(".*"):
        left_over.unlink()
    waiting = [
        number
        for number in range(len(groups))
        if not (cache / "parts" / f"{number:06d}.json").exists()
    ]
    done = len(index) - sum(len(groups[number]) for number in waiting)
    try:
        _allocate(shards, index)
        if progress is not None:
            progress(done, len(index))
        jobs = (_job(number, index.loc[groups[number]]) for number in waiting)
        work = partial(ingest, volumes=volumes, shards=shards)
        for number in unordered_map(work, jobs, workers or cores()):
            done += len(groups[number])
            if progress is not None:
                progress(done, len(index))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise OSError(
            errno.ENOSPC,
            f"the disk of {cache} is full after {done} of {len(index)} scans; free "
            f"{_size(index, shards)} and run again, "
            "it continues there",
        ) from error
    results = pd.DataFrame(
        [
            row
            for number in range(len(groups))
            for row in json.loads((cache / "parts" / f"{number:06d}.json").read_text())
        ]
    ).set_index("row_of_table")
    found = ("status", "reason", "content_hash", "covered", "spacing", "background")
    index = index.assign(**{name: results[name].reindex(index.index) for name in found})
    index.loc[~results["masked"].reindex(index.index), ["mask_shard", "mask_row"]] = -1
    write_table(index, cache / "index.parquet")
    shutil.rmtree(cache / "parts")
    return index


def cache_identity(root: Path, table: pd.DataFrame, volumes: Volumes) -> dict[str, Any]:
    """What a cache depends on, as JSON: the grid and a fingerprint of every file's name, size and
    description.
    """
    digest = hashlib.blake2b(digest_size=16)
    described = table.drop(columns=["path", "mask"])
    for file, mask, row in zip(
        table["path"], table["mask"], described.itertuples(index=False), strict=True
    ):
        sizes = [
            Path(name).stat().st_size if Path(name).exists() else -1
            for name in (file, mask)
            if name
        ]
        places = [os.path.relpath(name, root) for name in (file, mask) if name]
        digest.update(repr((places, sizes, tuple(row))).encode())
    return {
        "volumes": json.loads(json.dumps(dataclasses.asdict(volumes))),
        "scans": len(table),
        "files": digest.hexdigest(),
    }


def _claim(cache: Path, identity: dict[str, Any]) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    if (cache / "cache.json").exists():
        old = json.loads((cache / "cache.json").read_text())
        changed = [
            f"{key} was {old.get(key)}, is {identity[key]}"
            for key in identity
            if old.get(key) != identity[key]
        ]
        if changed:
            raise ValueError(
                f"{cache} was prepared from something else: {'; '.join(changed)}. Choose another "
                "folder or delete it"
            )
        return
    write_text(cache / "cache.json", json.dumps(identity))


def place(table: pd.DataFrame, shards: Shards) -> pd.DataFrame:
    """Give every scan, and every distinct mask, its place in the shards."""
    index = table.reset_index(drop=True)
    rows = np.arange(len(index))
    masked = index["mask"] != ""
    mask_rows = np.where(masked, pd.factorize(index["mask"].where(masked))[0], -1)
    return index.assign(
        shard=rows // shards.per_shard,
        row=rows % shards.per_shard,
        mask_shard=np.where(masked, mask_rows // shards.masks_per_shard, -1),
        mask_row=np.where(masked, mask_rows % shards.masks_per_shard, -1),
    )


def _groups(index: pd.DataFrame) -> list[np.ndarray]:
    """Rows of whole sessions, about GROUP scans together."""
    groups: list[list[int]] = [[]]
    for _, rows in index.groupby(["source", "subject", "session"], sort=False).groups.items():
        if len(groups[-1]) + len(rows) > GROUP and groups[-1]:
            groups.append([])
        groups[-1].extend(int(row) for row in rows)
    return [np.asarray(group) for group in groups]


def _job(number: int, rows: pd.DataFrame) -> Job:
    columns = ["path", "mask", "problem", "shard", "row", "mask_shard", "mask_row"]
    sessions = [
        [
            {"row_of_table": i, **{str(key): value for key, value in scan.items()}}
            for i, scan in zip(session.index, session[columns].to_dict("records"), strict=True)
        ]
        for _, session in rows.groupby(["source", "subject", "session"], sort=False)
    ]
    return Job(number, sessions)


def _allocate(shards: Shards, index: pd.DataFrame) -> None:
    """Check the disk's space, then create the (sparse) shard files."""
    masks = index.loc[index["mask_row"] >= 0, ["mask_shard", "mask_row"]].drop_duplicates()
    wanted = [("shard", number, size) for number, size in index.groupby("shard").size().items()]
    wanted += [
        ("masks", number, size) for number, size in masks.groupby("mask_shard").size().items()
    ]
    present = sum(
        file.stat().st_blocks * 512
        for pattern in ("*.npy", "*.b2nd")
        for file in shards.folder.glob(pattern)
    )
    full = len(index) * shards.volume_bytes + len(masks) * shards.volume_bytes // 2
    needed = int(full * (COMPRESSED if shards.compressed else 1)) + SPARE - present
    free = shutil.disk_usage(shards.folder).free
    if needed > free:
        raise OSError(
            f"{shards.folder} needs {needed / 1e9:.1f} GB for {len(index)} scans and its disk has "
            f"{free / 1e9:.1f} GB "
            "free; "
            "free some, choose another disk, or a coarser data.volumes.spacing_mm"
        )
    for kind, number, size in wanted:
        shards.create(kind, int(str(number)), int(size))


def _size(index: pd.DataFrame, shards: Shards) -> str:
    return f"{len(index) * shards.volume_bytes / 1e9:.1f} GB"
