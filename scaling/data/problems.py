"""What a manifest shows: files that cannot be used, duplicates, leakage, odd sessions, missing
sequences, labels that do not fit.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scaling.data.ages import possible
from scaling.data.layout import SESSION
from scaling.data.leakage import shared
from scaling.data.reading import UnreadableVolume, read_scan
from scaling.study.challenge import (
    ChallengeTask,
    published_challenges,
)

# How remarks on a mask's place and size read (`scaling.data.masks`).
MISPLACED = "has its scan's shape|lies outside its scan|on the grid of|is it inverted"


@dataclass(frozen=True)
class Finding:
    """Something to look at: its kind, one sentence, and the files it concerns with what is odd
    about each.
    """

    kind: str
    sentence: str
    files: dict[str, str]


def judge(files: pd.DataFrame, test: Sequence[str] = ()) -> tuple[pd.DataFrame, list[Finding]]:
    """The manifest with verdict, reason and missing sequences, and the findings.

    Raises ValueError for a test source that is not there.
    """
    manifest = files.assign(
        reason=files["problem"].where(files["problem"] != "", files["unreadable"]), missing=""
    )
    manifest["verdict"] = np.where(manifest["reason"] != "", "bad", "ok")
    unusable = manifest["verdict"] == "bad"
    findings = _group(
        manifest[unusable], "unusable", "{n} cannot be used", manifest.loc[unusable, "reason"]
    )
    scans = (manifest["role"] == "scan") & ~unusable
    # The first doubt about a file is the reason that the manifest gives.
    findings += doubtful_files(manifest)
    findings += doubtful_scans(manifest, scans)
    for source in manifest.loc[scans, "source"].unique():
        findings += judge_source(manifest, scans & (manifest["source"] == source), source)
    findings += [Finding("leakage", sentence, {}) for sentence in leakage(manifest[scans], test)]
    return manifest, findings


def warn(manifest: pd.DataFrame, concerned: "pd.Series[bool]", reasons: "pd.Series[str]") -> None:
    """Turn the verdict "ok" of the files concerned into "warning", with their reasons."""
    fresh = concerned & (manifest["verdict"] == "ok")
    manifest.loc[fresh, "reason"] = reasons[fresh]
    manifest.loc[fresh, "verdict"] = "warning"


def doubt(
    manifest: pd.DataFrame,
    kind: str,
    sentence: str,
    where: "pd.Series[bool]",
    reason: "str | pd.Series[str]",
) -> list[Finding]:
    """Warn of the usable files of `where`; the finding about them, if there are any."""
    concerned = where & (manifest["verdict"] != "bad")
    reasons = pd.Series(reason, manifest.index) if isinstance(reason, str) else reason
    warn(manifest, concerned, reasons)
    return _group(manifest[concerned], kind, sentence, reasons[concerned])


def doubtful_files(manifest: pd.DataFrame) -> list[Finding]:
    """Files that belong to nobody, and doubtful headers and masks."""
    masks = manifest["role"] == "mask"
    remarked = manifest["remark"] != ""
    warn(manifest, masks & remarked & (manifest["verdict"] != "bad"), manifest["remark"])
    findings = doubt(
        manifest,
        "place",
        "{n} in no subject's folder",
        manifest["role"] == "other",
        "belongs to no subject; expected folders such as sub_1/ses_1 around it, or a table that "
        "names it",
    )
    # A misplaced mask is reported with its scan.
    misplaced = masks & manifest["remark"].str.contains(MISPLACED)
    findings += doubt(
        manifest,
        "headers",
        "{n} with a doubtful header or mask",
        remarked & ~misplaced,
        manifest["remark"],
    )
    return findings


def doubtful_scans(manifest: pd.DataFrame, scans: "pd.Series[bool]") -> list[Finding]:
    """Scans that are stored twice, on another grid than their session, or with a bad mask."""
    manifest["content_hash"] = confirmed(manifest, scans)
    hashes = manifest["content_hash"]
    twins = scans & (hashes != "") & hashes.where(scans).duplicated(keep=False)
    findings = doubt(
        manifest,
        "duplicates",
        "{n} with a scan that is stored more than once",
        twins,
        "is stored more than once",
    )
    findings += doubt(
        manifest,
        "grids",
        "{n} on another grid than the first of the session",
        off_grid(manifest, scans),
        "is on another grid than its session",
    )
    with_bad_mask, reasons = bad_masks(manifest, scans)
    findings += doubt(
        manifest,
        "masks",
        "{n} with a mask that cannot be used, is misplaced or too small",
        with_bad_mask,
        reasons,
    )
    return findings


def judge_source(manifest: pd.DataFrame, rows: "pd.Series[bool]", source: str) -> list[Finding]:
    """Labels and ages that do not fit, and sequences and labels that are missing, in the scans
    `rows` of one source. Fills in the column "missing".
    """
    kind, sequences = task_of(manifest[rows], source)
    findings = doubt(
        manifest,
        "labels",
        f"{{n}} of {source} with a label that does not fit {kind}",
        rows & unfit_labels(manifest, kind),
        "has a label that does not fit: " + manifest["label"],
    )
    findings += doubt(
        manifest,
        "labels",
        f"{{n}} of {source} with an impossible age",
        rows & manifest["age"].notna() & possible(manifest["age"]).isna(),
        "has an age of " + manifest["age"].astype(str),
    )
    manifest.loc[rows, "missing"] = missing(manifest[rows], sequences)
    findings += lacking_sequences(manifest[rows], source)
    if kind:
        findings += unlabelled_sessions(manifest[rows], source, kind)
    return findings


def lacking_sequences(scans: pd.DataFrame, source: str) -> list[Finding]:
    """The sessions of a source that miss a sequence of their task."""
    sessions = scans[scans["missing"] != ""].drop_duplicates(SESSION)
    if sessions.empty:
        return []
    counts = sessions["missing"].str.split(", ").explode().value_counts()
    per_sequence = ", ".join(f"{name} in {count}" for name, count in counts.items())
    sentence = (
        f"{len(sessions)} sessions of {source} miss a sequence of their task ({per_sequence})"
    )
    files = dict(zip(sessions["path"], "misses " + sessions["missing"], strict=True))
    return [Finding("missing", sentence, files)]


def unlabelled_sessions(scans: pd.DataFrame, source: str, kind: str) -> list[Finding]:
    """The sessions of a source without a label, where others have one."""
    column = "mask" if kind == "segmentation" else "label"
    sessions = scans[scans[column] == ""].drop_duplicates(SESSION)
    if not 0 < len(sessions) < len(scans.drop_duplicates(SESSION)):
        return []
    sentence = f"{len(sessions)} sessions of {source} have no label"
    return [Finding("labels", sentence, dict.fromkeys(sessions["path"], "has no label"))]


def _group(
    concerned: pd.DataFrame, kind: str, sentence: str, reasons: "pd.Series[str]"
) -> list[Finding]:
    """The finding about the files concerned: none if there are none."""
    if concerned.empty:
        return []
    n = f"{len(concerned):,} file{'s' if len(concerned) > 1 else ''}"
    files = dict(zip(concerned["path"], reasons, strict=True))
    return [Finding(kind, sentence.format(n=n), files)]


def confirmed(manifest: pd.DataFrame, scans: "pd.Series[bool]") -> "pd.Series[str]":
    """Content hashes, of the voxels themselves where two checksums agree: a 32-bit checksum alone
    is too short for 60,000 files.

    Compressed files of one checksum and one size are taken for the same.
    """
    hashes = manifest["content_hash"].copy()
    voxels: dict[Any, str] = {}
    candidates = manifest[scans & (hashes != "") & hashes.where(scans).duplicated(keep=False)]
    for _, group in candidates.groupby("content_hash"):
        if len(set(group["bytes"])) > 1 or not group["path"].str.lower().str.endswith("gz").all():
            for row, path in group["path"].items():
                try:
                    voxels[row] = read_scan(Path(path)).content_hash()
                except UnreadableVolume:
                    continue  # the header was fine: `prepare` says what is wrong
    return pd.Series(voxels, dtype=hashes.dtype).combine_first(hashes)


def off_grid(manifest: pd.DataFrame, scans: "pd.Series[bool]") -> "pd.Series[bool]":
    """Scans whose shape, or affine by more than 0.02 mm, differs from the first scan's of their
    session.
    """
    rows = manifest[scans]
    affines = pd.DataFrame([text.split() for text in rows["affine"]], index=rows.index).astype(
        float
    )
    sessions = [rows[name] for name in SESSION]
    moved = (affines - affines.groupby(sessions).transform("first")).abs().max(axis=1) > 0.02
    other = rows["shape"] != rows.groupby(SESSION)["shape"].transform("first")
    return (moved | other).reindex(manifest.index, fill_value=False)


def bad_masks(
    manifest: pd.DataFrame, scans: "pd.Series[bool]"
) -> tuple["pd.Series[bool]", "pd.Series[str]"]:
    """Scans with a mask that is unusable, misplaced or too small for the grid, and why."""
    masks = manifest[manifest["role"] == "mask"].set_index("path")[["unreadable", "remark"]]
    of_scan = masks.reindex(manifest["mask"]).set_axis(manifest.index).fillna("")
    with_mask = scans & (manifest["mask"] != "")
    unusable = with_mask & (of_scan["unreadable"] != "")
    misplaced = with_mask & ~unusable & of_scan["remark"].str.contains(MISPLACED)
    reason = ("its mask cannot be used: " + of_scan["unreadable"]).where(
        unusable, "its mask is doubtful: " + of_scan["remark"]
    )
    return unusable | misplaced, reason


def task_of(rows: pd.DataFrame, source: str) -> tuple[str, tuple[str, ...]]:
    """What a source is labelled for, and the sequences that it needs: by the name of a challenge's
    folder, else by most of its labels.
    """
    folders = Path(rows["path"].iloc[0]).parts if source == "." else Path(source).parts
    for challenge in published_challenges():
        for task in challenge.tasks:
            if any(is_task_folder(folder, challenge.name, task) for folder in folders):
                return task.kind, task.sequences
    labels = pd.to_numeric(rows.loc[rows["label"] != "", "label"], errors="coerce")
    if labels.empty:
        return ("segmentation", ()) if (rows["mask"] != "").any() else ("", ())
    return ("classification", ()) if labels.isin([0, 1]).mean() > 0.8 else ("regression", ())


def is_task_folder(folder: str, challenge: str, task: ChallengeTask) -> bool:
    """Whether a folder is named as the data of a task, or "CHALLENGE-task1" and the like."""
    if task.folder and folder in (task.folder, f"{task.folder}-test"):
        return True
    plain = re.sub(r"[-_ ]", "", folder.lower())
    return re.match(rf"{re.escape(challenge)}task{re.escape(task.id)}(?!\d)", plain) is not None


def unfit_labels(manifest: pd.DataFrame, kind: str) -> "pd.Series[bool]":
    """Scans whose label is not 0 or 1 (classification) or no number (regression)."""
    numbers = pd.to_numeric(manifest["label"], errors="coerce")
    given = manifest["label"] != ""
    if kind == "classification":
        return given & ~numbers.isin([0, 1])
    return given & ~np.isfinite(numbers) if kind == "regression" else given & False


def missing(rows: pd.DataFrame, sequences: tuple[str, ...]) -> "pd.Series[str]":
    """Per scan, what its session lacks of `sequences` ("t2s|swi": either will do)."""
    present = rows.groupby(SESSION)["sequence"].transform(lambda names: " ".join(names)).str.split()
    lacks = [
        [slot for slot in sequences if not set(slot.split("|")) & set(names)] for names in present
    ]
    return pd.Series([", ".join(slots) for slots in lacks], index=rows.index)


def leakage(scans: pd.DataFrame, test: Sequence[str]) -> list[str]:
    """Who or what is in a pretraining source and in a labelled or test source, or in a training
    source and its "-test".
    """
    sources = list(scans["source"].unique())
    unknown = sorted(set(test) - set(sources))
    if unknown:
        raise ValueError(
            f"there is no source {unknown[0]!r} to test on; expected one of {', '.join(sources)}"
        )
    labelled = set(scans.loc[(scans["label"] != "") | (scans["mask"] != ""), "source"])
    tested = set(test) or {
        source for source in sources if source in labelled or "test" in source.lower()
    }
    sentences = []
    for source in sorted(tested):
        there = scans[scans["source"] == source]
        for other in sources:
            if other not in tested or source == f"{other}-test":
                sentences += shared(
                    scans[scans["source"] == other],
                    there,
                    f"the source {other}",
                    f"the test source {source}",
                )
    return sentences
