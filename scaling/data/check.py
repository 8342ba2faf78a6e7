"""Look at a collection before anything is computed from it: a manifest with a verdict per file, and
what was found.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from scaling.data.check_listing import left_out, list_files, unread_formats
from scaling.data.check_progress import (
    earlier_headers,
    file_key,
    partial_file,
    with_headers,
)
from scaling.data.files import walk
from scaling.data.headers import describe_content, describe_header, describe_mask
from scaling.data.killed import mark, named_when_killed, unmark
from scaling.data.leakage import describe_backgrounds
from scaling.data.licences import with_licences
from scaling.data.participants import REMARKS
from scaling.data.problems import Finding, judge
from scaling.files import write_table
from scaling.processes.parallel import cores, unordered_map

BLOCK = 64  # files per piece of work
SAVE_SECONDS = 20.0  # between two marks of progress


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
    described = with_licences(root if root.is_dir() else root.parent, with_headers(files, headers))
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
    earlier = earlier_headers(manifest) if manifest else {}
    headers = {}
    for path in files["path"]:
        key = file_key(path)
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
                write_table(with_headers(read, headers), partial_file(manifest))
                saved = time.monotonic()
    return headers


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
