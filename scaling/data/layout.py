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
see `participants`. Walks of folders are in `folders`, tables of scans in `listing`.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from scaling.data.files import walk
from scaling.data.folders import SCANS, scan_folder
from scaling.data.listing import read_listing
from scaling.data.names import ASIDE, SUBJECT, is_scan
from scaling.data.participants import REMARKS
from scaling.study.config import Source, Split

SESSION = ["source", "subject", "session"]  # columns that tell sessions apart
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
LISTINGS = (".csv", ".tsv", ".parquet")


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
        people = people_of(table)
        table["part"] = people.map(subject_parts(people.unique(), split))
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


def people_of(table: pd.DataFrame) -> "pd.Series[str]":
    """Whom each scan is of: the column `person` where a table has it, else the subject."""
    if "person" not in table.columns:
        return table["subject"]
    person = table["person"].fillna("").astype(str)
    return person.where(person != "", table["subject"])


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
