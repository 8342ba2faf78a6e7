"""A table of scans instead of folders: the path and subject of each scan, and what is known."""

from pathlib import Path

import pandas as pd

from scaling.data.ages import age_column, odd_ages, parse_age, possible, with_unit
from scaling.data.delimited import read_table
from scaling.data.files import extension
from scaling.data.participants import REMARKS

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
    table["age"] = possible(ages.map(parse_age))
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
