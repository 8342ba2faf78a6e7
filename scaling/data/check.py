"""Look at a collection before anything is computed from it: a manifest with a verdict per file, and
what was found.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from scaling.data.files import (
    extension,
    folder_problem,
    link_problem,
    name_problem,
    printable,
    walk,
)
from scaling.data.headers import TEXTS, describe_content, describe_header, describe_mask
from scaling.data.killed import mark, named_when_killed, unmark
from scaling.data.layout import COLUMNS, LISTINGS, find_sources, scan_source, with_no_attributes
from scaling.data.leakage import describe_backgrounds
from scaling.data.licences import with_licences
from scaling.data.names import ASIDE, BIDS_ASIDE, MASKS, is_label_map, stem
from scaling.data.opening import EXTENSIONS
from scaling.data.participants import REMARKS
from scaling.data.problems import Finding, judge
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
    content: int = 0,
) -> Checked:
    """Check every file below `root`, or of a table of scans, by its header, and write `manifest`.

    `content` is the number of scans of each source whose voxels are read as well.

    Files that did not change since that manifest was written are not read again, nor after an
    interruption those read before it. `test` names the sources that are test sets (default: those
    with labels, and those with "test" in their name). Raises FileNotFoundError or ValueError when
    there is nothing to check.
    """
    root = root.absolute()  # a manifest may be kept anywhere
    everything = list(walk(root)) if root.is_dir() else []
    files = list_files(root, everything)
    if manifest:
        manifest.parent.mkdir(parents=True, exist_ok=True)
    headers = read_headers(files, manifest, progress, workers or cores())
    described = with_licences(root if root.is_dir() else root.parent, _with_headers(files, headers))
    judged, findings = judge(described, test)
    if manifest:
        write_table(judged, manifest)
        partial_file(manifest).unlink(missing_ok=True)
    findings = [
        *findings,
        *(Finding("tables", remark, {}) for remark in files.attrs[REMARKS]),
        *left_out(root, everything, files),
        *unread_formats(everything),
    ]
    if content:
        findings += judge_content(judged, content, workers or cores())
    return Checked(judged, tuple(findings))


def read_headers(
    files: pd.DataFrame,
    manifest: Path | None,
    progress: Callable[[int, int], None] | None,
    workers: int,
) -> dict[str, dict[str, Any]]:
    """Path -> what its header says, from the manifest where the file did not change since."""
    earlier = read_known(manifest) if manifest else {}
    headers = {}
    for path in files["path"]:
        key = _key(path)
        if key in earlier:
            headers[path] = earlier[key]
    masked = files[files["mask"] != ""].drop_duplicates("mask")
    scan_of = dict(zip(masked["mask"].astype(str), masked["path"].astype(str), strict=True))
    for mask, scan in scan_of.items():
        if scan not in headers:
            headers.pop(mask, None)  # a mask is judged on its scan, which has changed
    waiting = files[~files["path"].isin(headers) & (files["problem"] == "")]
    paths = waiting["path"].tolist()
    blocks = [paths[first : first + BLOCK] for first in range(0, len(paths), BLOCK)]
    if progress is not None:
        progress(len(files) - len(waiting), len(files))
    saved = time.monotonic()
    with TemporaryDirectory() as marks, named_when_killed(Path(marks)):
        describe = partial(_describe, scan_of=scan_of, marks=Path(marks))
        for block in unordered_map(describe, blocks, workers):
            headers |= block
            if progress is not None:
                progress(len(headers), len(files))
            if manifest and time.monotonic() - saved > SAVE_SECONDS:
                read = files[files["path"].isin(headers)]
                write_table(_with_headers(read, headers), partial_file(manifest))
                saved = time.monotonic()
    return headers


def list_files(root: Path, everything: list[Path]) -> pd.DataFrame:
    """One row per scan, mask or stray volume below `root` (or of the table of scans `root`), as
    `scan_sources`, with its role.
    """
    if root.name.endswith(LISTINGS):
        tables = [scan_source(root.parent, root.name)]
    else:
        tables = [scan_source(root, path) for path in find_sources(root)]
    remarks = [remark for table in tables for remark in table.attrs[REMARKS]]
    scans = pd.DataFrame({"path": [], "mask": []})
    if tables:
        scans = pd.concat([with_no_attributes(table) for table in tables], ignore_index=True)
        scans = scans.assign(role="scan")
    masks = scans[scans["mask"] != ""].drop_duplicates("mask")
    masks = masks.assign(path=masks["mask"], sequence="", mask="", role="mask", problem="")
    listed = {*scans["path"], *masks["path"]}
    strays = []
    for file in everything:
        if printable(str(file)) not in listed and is_stray(file, root):
            strays.append(file)
    if scans.empty and not strays:
        raise ValueError(
            f"{root} holds no scans ({', '.join(EXTENSIONS)}); expected folders such as "
            "sub_1/ses_1/ in it"
        )
    others = pd.DataFrame(
        {
            "path": [printable(str(file)) for file in strays],
            "problem": [name_problem(file) or stray_problem(file, root) for file in strays],
            "role": "other",
            "run": 1,
        }
    ).astype({"path": str, "problem": str})
    table = pd.concat([scans, masks, others], ignore_index=True)
    table = table.reindex(
        columns=[*COLUMNS, "role", *table.columns.difference([*COLUMNS, "role"], sort=False)]
    )
    text = table.columns.difference(["age", "run"])
    table[text] = table[text].fillna("").astype(str)
    table = table.assign(age=table["age"].astype(float), run=table["run"].astype(int))
    table = table.drop(columns="part")
    table.attrs = {REMARKS: remarks}
    return table


def is_stray(file: Path, root: Path) -> bool:
    """Whether a file looks like a scan that the layout has no place for."""
    *above, name = file.relative_to(root).parts
    if set(above) & {*ASIDE, *BIDS_ASIDE}:
        return False
    if extension(name):
        return not is_label_map(name)
    return file.is_dir()  # a link to a folder, or a closed one


def stray_problem(file: Path, root: Path) -> str:
    """Why a stray file or folder may not be read."""
    if file.is_dir() and not file.is_symlink():
        return folder_problem(file)
    return link_problem(file, root.resolve())


def _describe(files: list[str], scan_of: dict[str, str], marks: Path) -> dict[str, dict[str, Any]]:
    """Path -> header of some files; `scan_of` has the scan of each mask. The file that is being
    read stands in `marks`.
    """
    out = {}
    for file in files:
        mark(marks, file)
        if file in scan_of:
            out[file] = describe_mask(Path(file), Path(scan_of[file]))
        else:
            out[file] = describe_header(Path(file))
    unmark(marks)
    return out


def left_out(root: Path, everything: list[Path], files: pd.DataFrame) -> list[Finding]:
    """A finding when segmentations lie among the scans, which are left out by their names."""
    used = {*files["mask"], *files.get("brainmask", pd.Series(dtype=str)), *files["path"]}
    maps = []
    for file in everything:
        *above, name = file.relative_to(root).parts
        if set(above) & {*ASIDE, *BIDS_ASIDE} or not extension(name) or str(file) in used:
            continue
        if is_label_map(name) and not MASKS.fullmatch(stem(name)):
            maps.append(printable(str(file)))
    if not maps:
        return []
    return [
        Finding(
            "labelmaps",
            f"{len(maps)} files are label maps by their names and left out; rename one that is a "
            "scan",
            dict.fromkeys(maps, ""),
        )
    ]


def judge_content(manifest: pd.DataFrame, count: int, workers: int) -> list[Finding]:
    """Findings on the voxels of up to `count` scans of each source, evenly spread."""
    usable = manifest[(manifest["role"] == "scan") & (manifest["verdict"] != "bad")]
    findings = []
    for source, scans in usable.groupby("source"):
        chosen = scans.iloc[np.unique(np.linspace(0, len(scans) - 1, count).astype(int))]
        paths = chosen["path"].tolist()
        read = dict(unordered_map(_content, paths, workers))
        maps = {path: "holds labels" for path in paths if read[path]["content"] == "labels"}
        broken = {path: read[path]["unreadable"] for path in paths if "unreadable" in read[path]}
        if maps:
            sentence = f"{len(maps)} of {len(paths)} sampled scans of {source} hold labels"
            findings.append(Finding("labelmaps", sentence, maps))
        if broken:
            sentence = f"{len(broken)} of {len(paths)} sampled scans of {source} cannot be used"
            findings.append(Finding("unusable", sentence, broken))
        kinds = pd.Series([read[path]["content"] for path in paths])
        for sentence in describe_backgrounds(str(source), kinds[kinds != ""]):
            findings.append(Finding("backgrounds", sentence, {}))
    return findings


def _content(path: str) -> tuple[str, dict[str, str]]:
    return path, describe_content(Path(path))


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
        if "values" not in old.columns and "content_hash" in old.columns:
            continue  # of a version that did not write down a mask's values: read anew
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


def unread_formats(everything: list[Path]) -> list[Finding]:
    """A finding when images lie there that are of no format that is read."""
    images = [file for file in everything if file.name.lower().endswith(UNREAD)]
    if not images:
        return []
    kinds = sorted({file.suffix for file in images})
    return [
        Finding(
            "formats",
            f"{len(images)} images ({', '.join(kinds)}) are of a format that is not read; convert "
            "them to NIfTI",
            {printable(str(file)): "" for file in images},
        )
    ]
