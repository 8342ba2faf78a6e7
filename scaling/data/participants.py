"""What tables beside the scans say of each: participants.tsv, mapping.tsv and mri_info.tsv, and
BIDS sidecars' fields by the same names.
"""

import re
from pathlib import Path

import pandas as pd

TABLES = ("participants.tsv", "mapping.tsv", "mri_info.tsv")
KEYS = {"dataset": "dataset", "participant_id": "name", "session_id": "session", "filename": "file"}
UNKNOWN = ("n/a", "nan", "na", "none", "null", "unknown")


def read_table(file: Path) -> pd.DataFrame:
    """A csv, tsv or parquet table as text: names of columns in lower case, unknown values "".

    Raises ValueError.
    """
    try:
        if file.suffix == ".parquet":
            table = pd.read_parquet(file).astype("string").fillna("").astype(str)
        else:
            separator = (
                "\t" if file.suffix == ".tsv" else None
            )  # csv: comma or semicolon, found out
            table = pd.read_csv(
                file,
                sep=separator,
                engine="python",
                dtype=str,
                keep_default_na=False,
                encoding="utf-8-sig",
            )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{file} is no table that can be read ({error}); expected columns separated by tabs "
            "or commas, in UTF-8"
        ) from error
    table = table.rename(columns=lambda name: str(name).strip().lower()).apply(
        lambda column: column.str.strip()
    )
    return table.mask(table.apply(lambda column: column.str.lower().isin(UNKNOWN)), "")


def bare(name: str) -> str:
    """The id in a folder's name: "01" of sub-01, sub_01 and 01."""
    return re.sub(r"^(sub|ses)[-_]", "", name)


def parse_age(text: str) -> float:
    """Years in "46.7", "046Y", "90+" or "46,7"; NaN in anything else."""
    match = re.fullmatch(r"(-?\d+(?:[.,]\d+)?)\s*[yY+]?", text)
    return float(match[1].replace(",", ".")) if match else float("nan")


def with_participants(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Add what the tables in, and one level below, `folder` say of each scan; site falls back to
    the dataset's or a folder's name.

    A table is joined by those of dataset, participant_id, session_id and filename that it has.
    Raises ValueError when it has no participant_id.
    """
    table = table.assign(dataset=[Path(subject).parent.name for subject in table["subject"]])
    places = [
        folder,
        *sorted(
            child for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")
        ),
    ]
    for file in (place / name for place in places for name in TABLES):
        if file.is_file():
            table = _joined(
                table,
                file,
                ""
                if file.parent == folder or file.parent.name == "preprocessed"
                else file.parent.name,
            )
    fallback = table["dataset"].where(table["dataset"] != "", folder.resolve().name)
    return table.assign(site=table["site"].where(table["site"] != "", fallback))


def _joined(table: pd.DataFrame, file: Path, dataset: str) -> pd.DataFrame:
    given = read_table(file)
    if "participant_id" not in given.columns:
        raise ValueError(
            f"{file} has the columns {list(given.columns)}; expected participant_id among them"
        )
    given = given.rename(columns=KEYS)
    if dataset:
        given["dataset"] = dataset
    keys = [key for key in KEYS.values() if key in given.columns]
    wanted = table.assign(
        name=[Path(subject).name for subject in table["subject"]],
        file=[Path(path).name for path in table["path"]],
    )[keys]
    for frame in (given, wanted):
        for key in {"name", "session"} & set(keys):
            frame[key] = frame[key].map(bare)
    if (
        wanted.get("dataset", pd.Series(dtype=str)) == ""
    ).all():  # scans lie in no folder of a dataset
        keys = [key for key in keys if key != "dataset"]
    matched = wanted[keys].merge(given.drop_duplicates(keys), on=keys, how="left")
    matched.index = table.index
    for column in matched.columns.difference(
        [*keys, "path", "source", "part", "subject", "sequence", "run", "mask", "problem"]
    ):
        values = matched[column].fillna("")
        if column == "age":
            table["age"] = values.map(parse_age).fillna(table["age"])
        else:
            known = table[column] if column in table.columns else pd.Series("", index=table.index)
            table[column] = values.where(values != "", known)
    return table
