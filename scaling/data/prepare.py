"""Make a cache (`scaling.data.cache`): all scans of a table on one grid, in parallel, from wherever
it stands.
"""

import errno
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scaling.data.cache import DIGESTS, IDENTITY, INDEX, damaged_files, seal
from scaling.data.compressed import require_blosc2, volume_file
from scaling.data.identity import LABELS, cache_identity, claim, differences, stamps
from scaling.data.ingest import Job, has_changed, ingest
from scaling.data.killed import named_when_killed
from scaling.data.layout import SESSION
from scaling.data.shards import Shards
from scaling.files import read_json, read_marker, read_parquet, write_json, write_table
from scaling.processes.parallel import cores, unordered_map
from scaling.runs.digests import record
from scaling.study.config import Volumes

REPORTED = (
    "stamp",
    "status",
    "reason",
    "content_hash",
    "covered",
    "spacing",
    "background",
    "mask_hash",
    "mask_volumes",
)
# What a worker is told of a scan, where the table says it.
OF_JOB = (
    *("path", "mask", "brainmask", "problem", "stamp"),
    *("shard", "row", "mask_shard", "mask_row"),
)
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
    verify: bool = False,
) -> pd.DataFrame:
    """Bring every scan of `table` (see `scan_sources`) to the grid and return the index.

    Done: returns at once; partial: goes on. Scans and masks whose size or time has changed are
    prepared again, with `verify` also those whose content has.

    A scan that cannot be used is listed with status "failed" and its reason. Raises OSError when
    the disk is too small or full (nothing done is lost) and ValueError when `cache` holds something
    else.
    """
    if compressed:
        require_blosc2()
    claim(cache, cache_identity(root, table, volumes, compressed))
    shards = Shards(cache, tuple(volumes.shape), compressed)
    index = place(table, shards).assign(stamp=stamps(table))
    groups = _groups(index)
    finished = finished_index(cache)
    if finished is not None:
        stale = stale_rows(finished, index, verify, workers or cores())
        if not stale.any():
            return finished
        reopen(cache, finished, groups, stale)
    (cache / "parts").mkdir(exist_ok=True)
    for left_over in (cache / "parts").glob(".*"):
        left_over.unlink()
    remove_broken_shards(shards, index)
    scans = index[[name for name in (*SESSION, *OF_JOB) if name in index.columns]]
    waiting = [
        number
        for number, rows in enumerate(groups)
        if report_of(shards, number, scans.loc[rows]) is None
    ]
    done = len(index) - sum(len(groups[number]) for number in waiting)
    try:
        _allocate(shards, index)
        if progress is not None:
            progress(done, len(index))
        jobs = (_job(number, scans.loc[groups[number]]) for number in waiting)
        work = partial(ingest, volumes=volumes, shards=shards)
        with named_when_killed(cache / "parts"):
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
            f"{_size(index, shards)} and run again, it continues there",
        ) from error
    reports = []
    for number, rows in enumerate(groups):
        reports += report_of(shards, number, scans.loc[rows]) or []
    results = pd.DataFrame(reports).set_index("row_of_table")
    index = index.assign(**{name: results[name].reindex(index.index) for name in REPORTED})
    index.loc[~results["masked"].reindex(index.index), ["mask_shard", "mask_row"]] = -1
    write_table(index, cache / INDEX)
    seal(cache, [*shards.files(), cache / INDEX])
    shutil.rmtree(cache / "parts")
    return index


def stale_rows(
    finished: pd.DataFrame, index: pd.DataFrame, verify: bool, workers: int
) -> "pd.Series[bool]":
    """Rows of a finished index whose files are others by now."""
    stale = finished["stamp"] != index["stamp"]
    if verify:
        columns = ["path", "mask", "status", "content_hash", "mask_hash"]
        rows = finished.loc[~stale, columns].assign(row_of_table=finished.index[~stale])
        records = [{str(k): v for k, v in row.items()} for row in rows.to_dict("records")]
        compared = unordered_map(has_changed, records, workers)
        changed = [number for number, has_other_content in compared if has_other_content]
        stale |= finished.index.isin(changed)
    return stale


def reopen(
    cache: Path, finished: pd.DataFrame, groups: list[np.ndarray], stale: "pd.Series[bool]"
) -> None:
    """Make a finished cache a partial one, in which the groups with stale rows are missing."""
    reports = finished[list(REPORTED)].assign(
        row_of_table=finished.index, masked=finished["mask_row"] >= 0
    )
    (cache / "parts").mkdir(exist_ok=True)
    for number, rows in enumerate(groups):
        file = cache / "parts" / f"{number:06d}.json"
        if stale.loc[rows].any():
            file.unlink(missing_ok=True)
        else:
            write_json(file, reports.loc[rows].to_dict("records"))
    (cache / INDEX).unlink()
    (cache / DIGESTS).unlink(missing_ok=True)


def report_of(shards: Shards, number: int, rows: pd.DataFrame) -> list[dict[str, Any]] | None:
    """What a worker reported of a group of scans, None when it has not, or when a volume that it
    wrote is gone.
    """
    try:
        reports = json.loads((shards.folder / "parts" / f"{number:06d}.json").read_bytes())
    except (FileNotFoundError, ValueError):  # a loss of power may leave an empty file
        return None
    if [report.get("stamp") for report in reports] != rows["stamp"].tolist():
        return None  # a scan or mask has changed since
    if shards.compressed:
        for report in reports:
            place = rows.loc[report["row_of_table"]]
            stem = shards.file("shard", int(place["shard"])).with_suffix("")
            if report["status"] == "ok" and not volume_file(stem, int(place["row"])).exists():
                return None
    return reports


def remove_broken_shards(shards: Shards, index: pd.DataFrame) -> None:
    """Begin anew where a shard is missing or cut short: whose reports it held is not known."""
    broken = False
    for kind, number, size in wanted_shards(index) if not shards.compressed else ():
        file = shards.file(kind, number)
        try:
            whole = np.load(file, mmap_mode="r").shape == (size, *shards.shape)
        except (OSError, ValueError, EOFError):
            whole = False
        if not whole:
            broken = True
            file.unlink(missing_ok=True)
    if broken:
        for report in (shards.folder / "parts").glob("*.json"):
            report.unlink()


def wanted_shards(index: pd.DataFrame) -> list[tuple[str, int, int]]:
    """Kind, number and size of every stacked file that the scans and masks of an index need."""
    masks = index.loc[index["mask_row"] >= 0, ["mask_shard", "mask_row"]].drop_duplicates()
    sizes = {
        "shard": index.groupby("shard").size(),
        "masks": masks.groupby("mask_shard").size(),
    }
    wanted = []
    for kind, counts in sizes.items():
        wanted += [(kind, int(str(number)), int(size)) for number, size in counts.items()]
    return wanted


def finished_index(cache: Path) -> pd.DataFrame | None:
    """The index of a cache that is finished and whole, else None. What is damaged is removed, so
    that it is prepared again.
    """
    if not (cache / INDEX).exists():
        return None
    damaged = list(damaged_files(cache))
    if not damaged:
        try:
            index = read_parquet(cache / INDEX)
        except ValueError:
            damaged = [cache / INDEX]
        else:
            if read_marker(cache / DIGESTS) is None:  # of format 1, or killed before it was sealed
                seal(cache, [*cache.glob("*.npy"), *cache.glob("*.b2nd"), cache / INDEX])
            return index
    for file in (*damaged, cache / INDEX, cache / DIGESTS):
        file.unlink(missing_ok=True)
    return None


def renew(root: Path, table: pd.DataFrame, volumes: Volumes, cache: Path, compressed: bool) -> None:
    """Let a cache that nothing was trained from follow its collection: new labels of the same files
    enter its index, other files or another grid empty it.
    """
    identity = cache_identity(root, table, volumes, compressed)
    old = read_marker(cache / IDENTITY)
    if old is None or not (changed := differences(old, identity)):
        return
    if changed != [LABELS]:
        shutil.rmtree(cache)
        return
    finished = finished_index(cache)
    if finished is not None:
        described = {name: table[name].to_numpy() for name in table.columns}
        write_table(finished.assign(**described), cache / INDEX)
        sealed = read_json(cache / DIGESTS)
        sealed["files"] |= record(cache, [cache / INDEX])
        write_json(cache / DIGESTS, sealed)
    write_json(cache / IDENTITY, identity)


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
    for _, rows in index.groupby(SESSION, sort=False).groups.items():
        if len(groups[-1]) + len(rows) > GROUP and groups[-1]:
            groups.append([])
        groups[-1].extend(int(row) for row in rows)
    return [np.asarray(group) for group in groups]


def _job(number: int, rows: pd.DataFrame) -> Job:
    sessions: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    scans = rows[[name for name in OF_JOB if name in rows.columns]].to_dict("records")
    of_session = rows[SESSION].itertuples(index=False, name=None)
    for row, scan, session in zip(rows.index, scans, of_session, strict=True):
        described = {str(key): value for key, value in scan.items()}
        sessions.setdefault(session, []).append({"row_of_table": row, **described})
    return Job(number, list(sessions.values()))


def _allocate(shards: Shards, index: pd.DataFrame) -> None:
    """Check the disk's space, then create the (sparse) shard files."""
    masks = index.loc[index["mask_row"] >= 0, ["mask_shard", "mask_row"]].drop_duplicates()
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
            f"{free / 1e9:.1f} GB free; free some, choose another disk, or a coarser "
            "data.volumes.spacing_mm"
        )
    for kind, number, size in wanted_shards(index):
        shards.create(kind, number, size)


def _size(index: pd.DataFrame, shards: Shards) -> str:
    return f"{len(index) * shards.volume_bytes / 1e9:.1f} GB"
