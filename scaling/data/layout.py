"""Folders of scans -> one table with one row per scan.

    SOURCE/sub_1/ses_1/t1.nii.gz                    FOMO60K; a second scan of a kind is t1_2.nii.gz
    SOURCE/PT001_OASIS1/sub_1/ses_1/t1.nii.gz       the same; subjects are PT001_OASIS1/sub_1
    SOURCE/preprocessed/sub_1/ses_1/flair.nii.gz    FOMO25 finetuning, with
        labels/sub_1[/ses_1]/label.txt | seg.nii.gz
    SOURCE/[rawdata/]sub-01[/ses-01]/anat/sub-01_T1w.nii.gz     BIDS
    SOURCE.csv, .tsv or .parquet                    a table: path and subject, and what else is
        known of each scan; or a manifest of `check`

A session is a folder ses-1, a date or a visit below the subject, or an entity of the file's name.
`participants.tsv` beside or above the subjects may say site, age, sex and any further label column;
see `participants`.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from scaling.data.ages import age_column, odd_ages, parse_age, with_unit
from scaling.data.delimited import read_table
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
    SUBJECT,
    brain_mask_names,
    describe,
    is_label_map,
    is_scan,
    stem,
    subject_place,
)
from scaling.data.opening import EXTENSIONS
from scaling.data.participants import with_participants
from scaling.data.unpack import archives, is_unpacked
from scaling.study.config import Source, Split

COLUMNS = (
    "path",
    "source",
    "part",
    "subject",
    "session",
    "sequence",
    "run",
    "site",
    "age",
    "sex",
    "label",
    "mask",
    "problem",
)
SCANS = ("preprocessed", "rawdata")  # folders of a source that its subjects may lie in
LISTINGS = (".csv", ".tsv", ".parquet")
JUDGED = [
    "source",
    "part",
    "role",
    "verdict",
    "reason",
    "missing",
    "unreadable",
    "remark",
    "spacing",
    "content_hash",
    "bytes",
    "modified",
]
REMARKS = "remarks"  # the attribute of a table that holds sentences on what was not joined


def scan_sources(root: Path, sources: Sequence[Source], split: Split) -> pd.DataFrame:
    """One row per scan: path, source, part, subject, session, sequence, run, site, age, sex, label,
    mask, problem.

    `label` is the text of a label, `mask` the path of a segmentation, "" where there is none;
    further columns of the tables beside the scans follow as text. A file that may not be read (a
    link that leaves `root`) has its reason in `problem`. Raises FileNotFoundError or ValueError
    when a source is missing or empty.
    """
    tables = []
    for path in dict.fromkeys(source.path for source in sources):
        table = scan_source(root, path)
        part = subject_parts(table["subject"].unique(), split)
        table["part"] = table["subject"].map(part)
        wanted = {source.part for source in sources if source.path == path}
        tables.append(table if "all" in wanted else table[table["part"].isin(wanted)])
        if tables[-1].empty:
            raise ValueError(
                f"part {sorted(wanted)} of {root / path} has no subjects: the folder has "
                f"{table['subject'].nunique()} and data.split.test_subjects is "
                f"{split.test_subjects}; change the split"
            )
    remarks = [remark for table in tables for remark in table.attrs.get(REMARKS, [])]
    table = pd.concat([with_no_attributes(table) for table in tables], ignore_index=True)
    extra = [column for column in table.columns if column not in COLUMNS]
    table[extra] = table[extra].fillna("")
    table = table[[*COLUMNS, *extra]]
    table.attrs = {REMARKS: remarks}
    return table


def with_no_attributes(table: pd.DataFrame) -> pd.DataFrame:
    """The table without its remarks, which pandas would compare in a concatenation."""
    table = table.copy(deep=False)
    table.attrs = {}
    return table


def subject_parts(subjects: Sequence[str] | np.ndarray, split: Split) -> dict[str, str]:
    """ "test" for the first `split.test_subjects` of a seeded permutation of the sorted subjects,
    "train" for the others.
    """
    order = np.random.default_rng(split.seed).permutation(
        np.sort(np.asarray(subjects, dtype=object))
    )
    return {
        subject: "test" if rank < split.test_subjects else "train"
        for rank, subject in enumerate(order)
    }


def select(table: pd.DataFrame, source: Source) -> pd.Series:
    """bool per row: scans of a source, or of the part it names."""
    return (table["source"] == source.path) & (
        (source.part == "all") | (table["part"] == source.part)
    )


def find_sources(root: Path) -> list[str]:
    """The folders of `root` that are sources: itself (".") if subjects or tables of them are in it,
    else those with scans.

    Raises FileNotFoundError if `root` does not exist.
    """
    if not root.is_dir():
        raise FileNotFoundError(
            f"{root} does not exist or is no folder; name the folder that holds the scans, or a "
            "table of scans"
        )
    children = sorted(
        child.name for child in root.iterdir() if child.is_dir() and not child.name.startswith(".")
    )
    alone = any(
        (root / name).exists()
        for name in (
            "participants.tsv",
            "participants.csv",
            "mapping.tsv",
            "dataset_description.json",
        )
    )
    if alone or any(name in SCANS or SUBJECT.match(name) for name in children):
        return ["."]
    return [
        name
        for name in children
        if name not in ASIDE
        and any(
            is_scan(file, root / name) or file.suffix.lower() == ".zip"
            for file in walk(root / name)
        )
    ]


def scan_source(root: Path, path: str) -> pd.DataFrame:
    """The table of one source (without `part`). Raises FileNotFoundError or ValueError."""
    folder = root / path
    if path.endswith(LISTINGS):
        table = read_listing(folder)
    elif not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} does not exist; set data.root to the folder that holds {path!r}, or write a "
            "synthetic cohort with `scaling data phantom`"
        )
    else:
        table = scan_folder(root, folder)
    remarks = table.attrs.get(REMARKS, [])
    table = table.assign(source=path, part="").sort_values(
        ["subject", "session", "sequence", "run", "path"], ignore_index=True
    )
    series = ["subject", "session", "sequence"]
    again = (
        table.duplicated([*series, "run"])
        .groupby([table[name] for name in series])
        .transform("any")
    )
    table["run"] = table["run"].where(~again, table.groupby(series).cumcount() + 1)
    table.attrs = {REMARKS: remarks}
    return table


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
        labels = {
            key: find_label(folder / "labels", *key)
            for key in dict.fromkeys(zip(table["subject"], table["session"], strict=True))
        }
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
    brain_masks: dict[Path, dict[str, Path]] = {}  # of a folder: stem -> file
    for file in walk(scans):
        if is_scan(file, scans):
            problem = name_problem(file) or link_problem(file, *allowed)
            rows.append(describe(file, scans) | {"problem": problem})
        elif extension(file.name) and is_label_map(file.name):
            brain_masks.setdefault(file.parent, {})[stem(file.name)] = file
        elif file.is_dir() and not set(ASIDE) & set(file.relative_to(scans).parts):
            rows += unentered(file, scans)
    if not brain_masks:
        return rows
    for row in rows:
        path = Path(str(row["path"]))
        beside = brain_masks.get(path.parent, {})
        names = [name for name in brain_mask_names(path.name) if name in beside]
        row["brainmask"] = str(beside[names[0]]) if names else ""
    if not any(row["brainmask"] for row in rows):
        for row in rows:
            del row["brainmask"]
    return rows


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
    below = len(str(scans)) + 1
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


def read_listing(file: Path) -> pd.DataFrame:
    """A table of scans: path (relative to the table's folder, or absolute) and subject; the other
    columns where given.

    A scan named there may lie anywhere. Raises FileNotFoundError, or ValueError when the table
    cannot be used.
    """
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} does not exist; expected a table of scans with the columns path and subject"
        )
    table = read_table(file)
    if {"role", "verdict"} <= set(table.columns):
        table = of_manifest(table)
    if not {"path", "subject"} <= set(table.columns) or table.empty:
        raise ValueError(
            f"{file} has {len(table)} rows with the columns {list(table.columns)}; expected rows "
            "with path and subject"
        )
    nameless = table[(table["path"] == "") | (table["subject"] == "")]
    if len(nameless):
        raise ValueError(
            f"{file}, row {nameless.index[0] + 1} has no path or no subject; expected both in "
            "every row"
        )
    names = table["path"].map(lambda path: Path(path).name)
    sequences = names.map(lambda name: name[: -len(extension(name)) or None].lower())
    for column, default in (
        ("session", "ses_1"),
        ("sequence", sequences),
        ("site", file.stem),
        ("sex", ""),
        ("label", ""),
        ("mask", ""),
    ):
        given = table[column] if column in table.columns else pd.Series("", index=table.index)
        table[column] = given.where(given != "", default)
    table["run"] = (
        pd.to_numeric(table["run"], errors="coerce").fillna(1).astype(int)
        if "run" in table.columns
        else 1
    )
    ages = pd.Series("", index=table.index)
    of_ages = age_column(list(table.columns))
    if of_ages is not None:
        name, unit = of_ages
        ages = table[name].map(lambda text: with_unit(text, unit))
    table["age"] = ages.map(parse_age)
    table["path"] = [str(file.parent / path) for path in table["path"]]
    for column_name in {"mask", "brainmask"} & set(table.columns):
        table[column_name] = [
            str(file.parent / mask) if mask else "" for mask in table[column_name]
        ]
    if "problem" not in table.columns:
        table["problem"] = ""
    people = ages[~table["subject"].duplicated() & (ages != "")]
    table.attrs = {REMARKS: [f"{file}: {sentence}" for sentence in odd_ages(list(people))]}
    return table


def of_manifest(table: pd.DataFrame) -> pd.DataFrame:
    """The scans of a manifest of `scaling data check`: a file that it calls bad keeps its reason
    and is not opened again. Subjects of several sources stay apart.
    """
    table = table[table["role"] == "scan"].reset_index(drop=True)
    if len(table["source"].unique()) > 1:
        table["subject"] = table["source"] + "/" + table["subject"]
    return table.assign(problem=table["reason"].where(table["verdict"] == "bad", "")).drop(
        columns=JUDGED, errors="ignore"
    )


def find_label(labels: Path, subject: str, session: str) -> tuple[str, str]:
    """Text of a session's label and path of its mask, from labels/SUBJECT/SESSION or
    labels/SUBJECT; "" for what is not there.
    """
    text, mask = "", ""
    for folder in (labels / subject / session, labels / subject):
        for name in ("seg.nii.gz", "seg.nii"):
            if not mask and (folder / name).exists():
                mask = str(folder / name)
        for name in ("label.txt", "labels.txt"):
            if not text and (folder / name).exists():
                text = (folder / name).read_text(errors="replace").strip()
    return text, mask
