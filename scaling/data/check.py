"""Look at a collection before anything is computed from it: a manifest with a verdict per file, and a summary."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scaling.data.headers import describe_header
from scaling.data.layout import find_sources, scan_source
from scaling.data.parallel import cores, unordered_map
from scaling.data.reading import EXTENSIONS

BLOCK = 64  # files per piece of work


def check(root: Path, progress: Callable[[int, int], None] | None = None, workers: int = 0) -> pd.DataFrame:
    """One row per scan below `root`, headers only: the columns of `scan_sources`, those of the header, verdict and
    reason.

    `verdict` is "ok", "warning" (usable, but look at it) or "bad" (`prepare` will leave it out). Raises
    FileNotFoundError or ValueError when there is nothing to check.
    """
    tables = [scan_source(root, path) for path in find_sources(root)]
    known = {path for table in tables for path in table["path"]}
    masks = {label for table in tables for label in table["label"] if label.endswith(".nii.gz")}
    strays = [
        str(file)
        for file in sorted(root.rglob("*"))
        if file.name.endswith(EXTENSIONS)
        and not file.name.startswith(".")
        and str(file) not in known | masks
        and not {"labels", "truth", "derivatives"} & set(file.relative_to(root).parts)
    ]
    empty = {"subject": "", "session": "", "sequence": "", "source": "", "label": "", "site": "", "sex": ""}
    if strays:
        tables.append(pd.DataFrame({"path": strays, **empty, "run": 1, "age": np.nan}))
    if not tables:
        raise ValueError(f"{root} holds no scans ({', '.join(EXTENSIONS)}); expected folders such as sub_1/ses_1/ in it")
    manifest = pd.concat(tables, ignore_index=True)
    text = manifest.columns.difference(["age", "run"])
    manifest[text] = manifest[text].fillna("")
    manifest = manifest.drop(columns="part", errors="ignore")
    files = [*manifest["path"], *sorted(masks)]
    blocks = [files[first : first + BLOCK] for first in range(0, len(files), BLOCK)]
    headers: dict[str, dict[str, Any]] = {}
    for block in unordered_map(partial(_describe, root=root.resolve()), blocks, workers or cores()):
        headers |= block
        if progress is not None:
            progress(len(headers), len(files))
    columns = pd.DataFrame([headers[path] for path in manifest["path"]], index=manifest.index)
    manifest = pd.concat([manifest, columns], axis=1)
    manifest["verdict"] = np.where(manifest["reason"] != "", "bad", "ok")
    _judge(manifest, manifest["subject"] == "", "belongs to no subject; expected a folder such as sub_1/ses_1 around it")
    first = manifest.groupby(["source", "subject", "session"])["affine"].transform("first")
    sizes = manifest.groupby(["source", "subject", "session"])["shape"].transform("first")
    _judge(
        manifest,
        (manifest["subject"] != "") & ((manifest["affine"] != first) | (manifest["shape"] != sizes)),
        "is on another grid than the first scan of its session",
    )
    _judge(
        manifest,
        manifest["content_hash"].duplicated(keep=False) & (manifest["content_hash"] != ""),
        "is stored more than once",
    )
    for row, label in enumerate(manifest["label"]):
        if label in masks and manifest.loc[row, "verdict"] != "bad":
            mask = headers[label]
            if mask["reason"]:
                manifest.loc[row, ["verdict", "reason"]] = ["bad", f"its label cannot be used: {mask['reason']}"]
            elif (mask["shape"], mask["affine"]) != (manifest.loc[row, "shape"], manifest.loc[row, "affine"]):
                manifest.loc[row, ["verdict", "reason"]] = ["warning", f"its label {label} is on another grid"]
        elif label and label not in masks and not _is_number(label):
            manifest.loc[row, ["verdict", "reason"]] = ["warning", f"its label is {label!r}; expected a number"]
    return manifest.drop(columns=["affine", "problem"], errors="ignore")


def _judge(manifest: pd.DataFrame, where: "pd.Series[bool]", reason: str) -> None:
    concerned = where & (manifest["verdict"] == "ok")
    manifest.loc[concerned, ["verdict", "reason"]] = ["warning", reason]


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def _describe(files: list[str], root: Path) -> dict[str, dict[str, Any]]:
    """Headers of some files; a link that leaves the root is not followed."""
    out = {}
    for file in files:
        out[file] = describe_header(Path(file))
        if not Path(file).resolve().is_relative_to(root):
            out[file] |= {"reason": f"{file} is a link that leaves {root}; copy the file into it"}
    return out


def summarise(manifest: pd.DataFrame) -> str:
    """The manifest in words: sources, sequences, sites, labels, and what is wrong."""
    lines = []
    for source, scans in manifest[manifest["subject"] != ""].groupby("source"):
        sessions = scans.groupby(["subject", "session"])
        sequences = scans.drop_duplicates(["subject", "session", "sequence"])["sequence"].value_counts()
        parts = [f"{name} {count / sessions.ngroups:.0%}" for name, count in sequences.items()]
        labelled = int((sessions["label"].first() != "").sum())
        lines.append(
            f"{source}: {len(scans)} scans, {scans['subject'].nunique()} subjects, {sessions.ngroups} sessions, "
            f"{scans['site'].nunique()} sites, {labelled} labelled, {int(sessions['age'].first().notna().sum())} with "
            f"age; {', '.join(parts)}"
        )
    verdicts = manifest["verdict"].value_counts()
    lines.append(
        f"{len(manifest)} files: {verdicts.get('ok', 0)} ok, {verdicts.get('warning', 0)} with a warning, {verdicts.get('bad', 0)} bad"
    )
    for verdict in ("bad", "warning"):
        concerned = manifest[manifest["verdict"] == verdict]
        lines += [f"  {verdict}: {path}: {reason}" for path, reason in zip(concerned["path"][:10], concerned["reason"], strict=False)]
        if len(concerned) > 10:
            lines.append(f"  {verdict}: ... and {len(concerned) - 10} more, in the manifest")
    return "\n".join(lines)
