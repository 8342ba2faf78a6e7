"""The scans and labels below a folder, in any of the layouts that `scaling.data.layout` shows."""

from pathlib import Path

import numpy as np
import pandas as pd

from scaling.data.delimited import decoded
from scaling.data.files import (
    extension,
    folder_problem,
    link_problem,
    name_problem,
    printable,
    walk,
)
from scaling.data.names import (
    ASIDE,
    brain_mask_names,
    describe,
    is_label_map,
    is_scan,
    stem,
    subject_place,
)
from scaling.data.opening import EXTENSIONS
from scaling.data.participants import REMARKS, with_participants
from scaling.data.unpack import archives, is_unpacked

SCANS = ("preprocessed", "rawdata")  # folders of a source that its subjects may lie in


def inner_folder(folder: Path) -> Path:
    """The folder, or the one of its own name in it that unpacking a download has left."""
    inner = folder / folder.name
    return inner if (inner / "preprocessed").is_dir() else folder


def require_unpacked(folder: Path) -> None:
    """Raise ValueError when the folder holds sessions as zip files that are not unpacked."""
    packed = [archive for archive in archives(folder) if not is_unpacked(archive)]
    if packed:
        raise ValueError(
            f"{folder} holds {len(packed):,} zip files of sessions that are not unpacked, first "
            f"{packed[0]}; run `scaling data unpack {folder}` first"
        )


def scan_folder(root: Path, folder: Path) -> pd.DataFrame:
    """The scans of a folder in one of the layouts, with what tables and labels beside them say."""
    folder = inner_folder(folder)
    scans = folder_of_subjects(folder)
    rows = list_scans(scans, (root.resolve(), folder.resolve()))
    require_unpacked(scans)
    if not rows:
        raise ValueError(
            f"{folder} holds no scans; expected files such as sub_1/ses_1/t1.nii.gz "
            f"({', '.join(EXTENSIONS)}) in it or in its preprocessed/, or a table that names them "
            "(csv, tsv or parquet with the columns path and subject)"
        )
    table = pd.DataFrame(rows)
    table["session"] = visits(table, scans)
    table = table.assign(site="", age=np.nan, sex="", label="", mask="")
    table, remarks = with_participants(table, folder, scans)
    if (folder / "labels").is_dir():
        sessions = dict.fromkeys(zip(table["subject"], table["session"], strict=True))
        labels = {key: find_label(folder / "labels", *key, remarks) for key in sessions}
        of_scan = [labels[key] for key in zip(table["subject"], table["session"], strict=True)]
        table["mask"] = [mask for _, mask in of_scan]
        texts = pd.Series([text for text, _ in of_scan], index=table.index)
        table["label"] = texts.where(texts != "", table["label"])
    table.attrs = {REMARKS: remarks}
    return table


def folder_of_subjects(folder: Path) -> Path:
    """The folder that a source's subjects lie in: itself, its preprocessed/ or its rawdata/."""
    for name in SCANS:
        if (folder / name).is_dir() and not any(folder.glob("sub[-_]*")):
            return folder / name
    return folder


def list_scans(scans: Path, allowed: tuple[Path, ...]) -> list[dict[str, object]]:
    """A row per scan below `scans`, and per folder below it that is not entered."""
    rows = []
    label_maps = []
    for file in walk(scans):
        if is_scan(file, scans):
            problem = name_problem(file) or link_problem(file, *allowed)
            rows.append(describe(file, scans) | {"problem": problem})
        elif extension(file.name) and is_label_map(file.name):
            label_maps.append(file)
        elif file.is_dir() and not set(ASIDE) & set(file.relative_to(scans).parts):
            rows += unentered(file, scans)
    add_brain_masks(rows, label_maps)
    return rows


def add_brain_masks(rows: list[dict[str, object]], label_maps: list[Path]) -> None:
    """Give each row `brainmask`, the brain mask that lies beside its scan ("" for none), where any
    scan has one.
    """
    if not label_maps:
        return
    masks = {(file.parent, stem(file.name)): file for file in label_maps}
    beside = []
    for row in rows:
        path = Path(str(row["path"]))
        places = [(path.parent, name) for name in brain_mask_names(path.name)]
        beside.append(next((str(masks[place]) for place in places if place in masks), ""))
    if any(beside):
        for row, mask in zip(rows, beside, strict=True):
            row["brainmask"] = mask


def unentered(folder: Path, scans: Path) -> list[dict[str, object]]:
    """The row that stands for a link to a folder below a subject, or for a closed folder."""
    parts = tuple(printable(part) for part in folder.relative_to(scans).parts)
    place = subject_place(parts)
    if place is None and folder.is_symlink():
        return []
    subject = parts if place is None else parts[: place + 1]
    return [
        {
            "path": printable(str(folder)),
            "subject": "/".join(subject) or ".",
            "session": "",
            "sequence": "",
            "run": 1,
            "problem": folder_problem(folder),
        }
    ]


def visits(table: pd.DataFrame, scans: Path) -> "pd.Series[str]":
    """Sessions; where a sequence lies in two folders of a subject, these folders are its sessions.

    Two visits are never a pair of sequences of one session.
    """
    session = table["session"].copy()
    below = 0 if scans == Path() else len(printable(str(scans))) + 1  # "./a" is written "a"
    places = zip(table["path"], table["subject"], strict=True)
    inside = [path[below + len(subject) + 1 :] for path, subject in places]
    folders = pd.Series([place.partition("/")[0] for place in inside], index=table.index)
    is_nested = np.array(["/" in place for place in inside])
    nested = (session == "ses_1") & is_nested
    if not nested.any():
        return session
    series = (
        table[nested]
        .assign(folder=folders[nested])
        .drop_duplicates(["subject", "sequence", "run", "folder"])
    )
    repeated = series[series.duplicated(["subject", "sequence", "run"], keep=False)]
    several = nested & table["subject"].isin(repeated["subject"]) & folders.isin(repeated["folder"])
    return session.where(~several, folders)


def find_label(labels: Path, subject: str, session: str, remarks: list[str]) -> tuple[str, str]:
    """Text of a session's label and path of its mask, from labels/SUBJECT/SESSION or
    labels/SUBJECT; "" for what is not there. A remark says where a label cannot be told.
    """
    text, mask = "", ""
    for folder in (labels / subject / session, labels / subject):
        if not mask:
            mask = find_mask(folder, remarks)
        for name in ("label.txt", "labels.txt"):
            if not text and (folder / name).exists():
                text = read_text(folder / name, remarks)
    return text, mask


def find_mask(folder: Path, remarks: list[str]) -> str:
    """Path of the mask in a folder of labels: seg.nii.gz, or the only volume that is there."""
    for name in ("seg.nii.gz", "seg.nii"):
        if (folder / name).exists():
            return str(folder / name)
    try:
        names = sorted(entry.name for entry in folder.iterdir() if not entry.is_dir())
    except OSError:
        return ""  # no such folder, or a closed one, which is listed with the scans
    volumes = [name for name in names if extension(name) and not name.startswith(".")]
    if not volumes:
        return ""
    named_seg = [name for name in volumes if stem(name) == "seg"]
    if len(volumes) == 1 or len(named_seg) == 1:
        return str(folder / (named_seg or volumes)[0])
    remark = f"{folder} holds {len(volumes)} volumes and none is seg.nii.gz; none is used as a mask"
    if remark not in remarks:
        remarks.append(remark)
    return ""


def read_text(file: Path, remarks: list[str]) -> str:
    """The text of a label in any encoding, "" with a remark where it is none."""
    if not file.is_file():  # reading a pipe would wait for ever
        remarks.append(f"{file} is not read: it is no file; expected the label as text")
        return ""
    try:
        return decoded(file, file.read_bytes()).strip()
    except (OSError, ValueError) as error:
        remarks.append(f"{file} is not read: {error}")
        return ""
