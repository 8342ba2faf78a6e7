"""Look at a collection before anything is computed from it: a manifest with a verdict per file, and
what was found.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from scaling.data.files import extension, link_problem, walk
from scaling.data.headers import TEXTS, describe_header, describe_mask
from scaling.data.layout import (
    ASIDE,
    BIDS_ASIDE,
    COLUMNS,
    LISTINGS,
    MASKS,
    find_sources,
    scan_source,
)
from scaling.data.problems import Finding, judge
from scaling.data.reading import EXTENSIONS
from scaling.files import write_table
from scaling.processes.parallel import cores, unordered_map

BLOCK = 64  # files per piece of work
SAVE_SECONDS = 20.0  # between two marks of progress
UNREAD = (
    ".dcm",
    ".ima",
    ".nrrd",
    ".nhdr",
    ".mha",
    ".mhd",
    ".nii.zst",
    ".minc",
)  # images of formats that are not read
HEADER = (*TEXTS, "bytes", "modified")


@dataclass(frozen=True)
class Checked:
    """`manifest`: one row per file, the columns of `scan_sources`, those of its header, role (scan,
    mask, other), verdict (ok; warning: usable, but look at it; bad: `prepare` leaves it out),
    reason, and the sequences its session misses.
    """

    manifest: pd.DataFrame
    findings: tuple[Finding, ...]


def check(
    root: Path,
    manifest: Path | None = None,
    test: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
    workers: int = 0,
) -> Checked:
    """Check every file below `root`, or of a table of scans, by its header; write the manifest
    (parquet) where one is named.

    Files that did not change since that manifest was written are not read again, nor after an
    interruption those read before it. `test` names the sources that are test sets (default: those
    with labels, and those with "test" in their name). Raises FileNotFoundError or ValueError when
    there is nothing to check.
    """
    files = list_files(root.absolute())  # a manifest may be kept anywhere
    known = read_known(manifest) if manifest else {}
    if manifest:
        manifest.parent.mkdir(parents=True, exist_ok=True)
    headers = {path: known[key] for path in files["path"] if (key := _key(path)) in known}
    waiting = files[~files["path"].isin(headers) & (files["problem"] == "")]
    masks = set(files.loc[files["role"] == "mask", "path"])
    blocks = [
        waiting["path"].iloc[first : first + BLOCK].tolist()
        for first in range(0, len(waiting), BLOCK)
    ]
    if progress is not None:
        progress(len(files) - len(waiting), len(files))
    saved = time.monotonic()
    for block in unordered_map(partial(_describe, masks=masks), blocks, workers or cores()):
        headers |= block
        if progress is not None:
            progress(len(headers), len(files))
        if manifest and time.monotonic() - saved > SAVE_SECONDS:
            write_table(
                _with_headers(files[files["path"].isin(headers)], headers), partial_file(manifest)
            )
            saved = time.monotonic()
    judged, findings = judge(_with_headers(files, headers), test)
    if manifest:
        write_table(judged, manifest)
        partial_file(manifest).unlink(missing_ok=True)
    return Checked(judged, (*findings, *unread_formats(root)))


def list_files(root: Path) -> pd.DataFrame:
    """One row per scan, mask or stray volume below `root` (or of the table of scans `root`), as
    `scan_sources`, with its role.
    """
    if root.name.endswith(LISTINGS):
        tables = [scan_source(root.parent, root.name)]
    else:
        tables = [scan_source(root, path) for path in find_sources(root)]
    scans = (
        pd.concat(tables, ignore_index=True).assign(role="scan")
        if tables
        else pd.DataFrame({"path": [], "mask": []})
    )
    masks = scans[scans["mask"] != ""].drop_duplicates("mask")
    masks = masks.assign(path=masks["mask"], sequence="", mask="", role="mask", problem="")
    known = {*scans["path"], *masks["path"]}
    strays = (
        []
        if root.is_file()
        else [str(file) for file in walk(root) if str(file) not in known and is_stray(file, root)]
    )
    if scans.empty and not strays:
        raise ValueError(
            f"{root} holds no scans ({', '.join(EXTENSIONS)}); expected folders such as "
            "sub_1/ses_1/ in it"
        )
    problems = [link_problem(Path(file), root.resolve()) for file in strays]
    others = pd.DataFrame({"path": strays, "problem": problems, "role": "other", "run": 1}).astype(
        {"path": str, "problem": str}
    )
    table = pd.concat([scans, masks, others], ignore_index=True)
    table = table.reindex(
        columns=[*COLUMNS, "role", *table.columns.difference([*COLUMNS, "role"], sort=False)]
    )
    text = table.columns.difference(["age", "run"])
    table[text] = table[text].fillna("").astype(str)
    return table.assign(age=table["age"].astype(float), run=table["run"].astype(int)).drop(
        columns="part"
    )


def is_stray(file: Path, root: Path) -> bool:
    """Whether a file looks like a scan that the layout has no place for."""
    *above, name = file.relative_to(root).parts
    if set(above) & {*ASIDE, *BIDS_ASIDE}:
        return False
    ending = extension(name)
    return (bool(ending) and not MASKS.fullmatch(name[: -len(ending)].lower())) or (
        file.is_symlink() and file.is_dir()
    )


def _describe(files: list[str], masks: set[str]) -> dict[str, dict[str, Any]]:
    return {
        file: describe_mask(Path(file)) if file in masks else describe_header(Path(file))
        for file in files
    }


def _with_headers(files: pd.DataFrame, headers: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """The header's columns beside those of the layout; what a table says of the scanner goes before
    the sidecar.
    """
    empty = dict.fromkeys(TEXTS, "") | {"bytes": -1, "modified": -1}
    described = pd.DataFrame(
        [empty | headers.get(path, {}) for path in files["path"]],
        index=files.index,
        columns=list(HEADER),
    )
    for column in described.columns.intersection(files.columns):
        described[column] = files[column].where(files[column] != "", described[column])
    return pd.concat([files.drop(columns=described.columns, errors="ignore"), described], axis=1)


def partial_file(manifest: Path) -> Path:
    """Where an unfinished check keeps what it has read."""
    return manifest.with_name(f".{manifest.name}.partial")


def read_known(manifest: Path) -> dict[tuple[str, int, int], dict[str, Any]]:
    """(path, bytes, time) -> header of every file in an earlier manifest, finished or not.

    Raises ValueError if it is none.
    """
    known: dict[tuple[str, int, int], dict[str, Any]] = {}
    for file in (manifest, partial_file(manifest)):
        if not file.exists():
            continue
        try:
            old = pd.read_parquet(file)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{file} exists and is no manifest ({error}); name another file, or delete it"
            ) from error
        if not {"path", *HEADER} <= set(old.columns):
            raise ValueError(
                f"{file} exists and is no manifest of `scaling data check`; name another file, or "
                "delete it"
            )
        old = old[old["bytes"] >= 0]
        for path, header in zip(old["path"], old[list(HEADER)].to_dict("records"), strict=True):
            known[os.path.abspath(path), header["bytes"], header["modified"]] = {
                str(name): value for name, value in header.items()
            }
    return known


def _key(path: str) -> tuple[str, int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return os.path.abspath(path), -1, -1
    return os.path.abspath(path), status.st_size, status.st_mtime_ns


def unread_formats(root: Path) -> list[Finding]:
    """A finding when images lie there that are of no format that is read."""
    found = (
        [str(file) for file in walk(root) if file.name.lower().endswith(UNREAD)]
        if root.is_dir()
        else []
    )
    if not found:
        return []
    kinds = sorted({Path(file).suffix for file in found})
    return [
        Finding(
            "formats",
            f"{len(found)} images ({', '.join(kinds)}) are of a format that is not read; convert "
            "them to NIfTI",
            dict.fromkeys(found, ""),
        )
    ]
