"""What tables beside the scans say of them: people, sessions, originals, scanners.

    participants.tsv or .csv     age, sex, site, labels of a person, or of a person's session
    sub-01/sub-01_sessions.tsv   the same of each session of a person, as BIDS has it
    mapping.tsv, mri_info.tsv    originals and scanners of files, as FOMO60K has them

A table is joined by those of dataset, participant_id, session_id and filename that it has. Ids are
compared without `sub-`, then without leading zeros where nobody is mistaken for another.
"""

import re
from pathlib import Path

import pandas as pd

from scaling.data.ages import (
    age_column,
    odd_ages,
    parse_age,
    possible,
    unit_of,
    unread_age_columns,
    with_unit,
)
from scaling.data.delimited import read_table
from scaling.data.names import SUBJECT
from scaling.data.sidecars import UNIT_OF_AGE, with_stated_unit

TABLES = (
    *("participants.tsv", "participants.csv", "participants.txt", "participants.parquet"),
    *("sessions.tsv", "sessions.csv", "mapping.tsv", "mri_info.tsv"),
)
# Names of tables of people that are not read: which column is what is not known, or the format.
UNREAD = re.compile(
    r"(participants?|subjects?|demographics?|phenotypes?|clinical|covariates|metadata)\b.*"
    r"\.(tsv|csv|txt|xlsx?|ods|parquet|gz|zip|sav)",
    re.IGNORECASE,
)
KEYS = {"dataset": "dataset", "participant_id": "name", "session_id": "session", "filename": "file"}
# Names of the column of ids, by their letters alone, the surest first.
IDS = (
    *("participantid", "participant", "subjectid", "subject", "subid", "sub", "subjid"),
    *("subjectkey", "srcsubjectid", "patientid", "ptid", "id"),
)
SESSIONS = ("sessionid", "session", "ses", "sesid", "visit", "visitid", "timepoint")
UNITS_OF_AGE = ("ageunit", "ageunits", "unitofage", "unitsofage")
REMARKS = "remarks"  # the attribute of a table that holds sentences on what was not joined
OURS = ("path", "source", "part", "subject", "sequence", "run", "mask", "problem", "brainmask")


def bare(name: str) -> str:
    """The id in a folder's name or in a table: "01" of sub-01, sub_01, sub01, '01' and 01."""
    name = name.strip().lstrip("=").strip("'\"").rstrip("/")  # ="01" is text in a spreadsheet
    name = re.sub(r"^(sub|ses)[-_]", "", name, flags=re.IGNORECASE)
    name = re.sub(
        r"^(sub(ject)?|participant|patient|ses(sion)?)[-_ ]?(?=\d+$)", "", name, flags=re.IGNORECASE
    )
    return re.sub(r"^(\d+)\.0+$", r"\1", name)  # an id that became a number with decimals


def without_zeros(name: str) -> str:
    """An id in lower case and without leading zeros: "1" of 001."""
    return name.lower().lstrip("0") or name


def with_participants(
    table: pd.DataFrame, folder: Path, scans: Path | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """Add what the tables in, and one level below, `folder` say of each scan.

    Site falls back to the dataset's or a folder's name. The sentences say which tables could not be
    used, and what in them fits no scan. `scans` is the folder that the subjects lie in.
    """
    table = table.assign(dataset=[Path(subject).parent.name for subject in table["subject"]])
    places = [folder]
    for child in sorted(folder.iterdir()):
        if child.is_dir() and not child.name.startswith("."):
            places.append(child)
    remarks: list[str] = []
    files = [file for place in places for file in tables_in(place, remarks)]
    for file in files:
        outside = file.parent == folder or file.parent.name == "preprocessed"
        dataset = "" if outside else file.parent.name
        try:
            given = renamed(identified(file, read_table(file)), UNITS_OF_AGE, UNIT_OF_AGE)
        except (ValueError, OSError) as error:
            remarks.append(f"{file} is not used: {reason(file, error)}")
            continue
        given = with_stated_unit(file, given, remarks)
        if dataset:
            given["dataset"] = dataset
        table = _joined(table, given, file, remarks)
    table = _with_sessions(table, scans or folder, remarks)
    fallback = table["dataset"].where(table["dataset"] != "", folder.resolve().name)
    return table.assign(site=table["site"].where(table["site"] != "", fallback)), remarks


def tables_in(folder: Path, remarks: list[str]) -> list[Path]:
    """The tables of a folder, whatever the case of their names, in the order of `TABLES`; remarks
    on what looks like one and is not read.
    """
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return []  # a closed folder is listed with the scans
    files = []
    for wanted in TABLES:
        for name in names:
            if name.lower() == wanted and is_file(folder / name):
                files.append(folder / name)
            elif name.lower() == wanted:
                remarks.append(
                    f"{folder / name} is not used: it is no file that can be opened; expected a "
                    "table (a link to nothing: not downloaded yet?)"
                )
    for name in names if not SUBJECT.match(folder.name) else ():
        if UNREAD.fullmatch(name) and name.lower() not in TABLES and not files:
            remarks.append(
                f"{folder / name} is not read: expected a table participants.tsv with the column "
                "participant_id; rename or convert it if it describes people"
            )
    return files


def is_file(file: Path) -> bool:
    """Whether a file is there; a folder that may not be opened holds none."""
    try:
        return file.is_file()
    except OSError:
        return False


def reason(file: Path, error: Exception) -> str:
    """What is wrong with a table, without its path."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error).removeprefix(f"{file} ").removeprefix(f"{file}, ")


def identified(file: Path, table: pd.DataFrame) -> pd.DataFrame:
    """A table with the column participant_id. Raises ValueError without one."""
    table = renamed(table, SESSIONS, "session_id")
    table = renamed(table, IDS, "participant_id")
    if "participant_id" in table.columns:
        return table
    raise ValueError(
        f"{file} has the columns {list(table.columns)}; expected participant_id among them"
    )


def renamed(table: pd.DataFrame, spellings: tuple[str, ...], name: str) -> pd.DataFrame:
    """The table with one of the spellings of a column's name replaced by `name`."""
    if name in table.columns:
        return table
    letters = {re.sub(r"[^a-z]", "", column): column for column in reversed(list(table.columns))}
    for spelling in spellings:
        if spelling in letters:
            return table.rename(columns={letters[spelling]: name})
    return table


def _with_sessions(table: pd.DataFrame, scans: Path, remarks: list[str]) -> pd.DataFrame:
    """Add what people's own tables of sessions say, sub-01/sub-01_sessions.tsv."""
    tables = []
    for subject in table["subject"].unique():
        names = [f"{Path(subject).name}_sessions.{ending}" for ending in ("tsv", "csv")]
        files = [scans / subject / name for name in names if is_file(scans / subject / name)]
        if not files:
            continue
        file = files[0]
        try:
            given = renamed(read_table(file), SESSIONS, "session_id")
            given = renamed(given, UNITS_OF_AGE, UNIT_OF_AGE)
            if "session_id" not in given.columns:
                raise ValueError(f"has the columns {list(given.columns)}; expected session_id")
        except (ValueError, OSError) as error:
            remarks.append(f"{file} is not used: {reason(file, error)}")
            continue
        given = with_stated_unit(file, given, remarks)
        person = {"participant_id": Path(subject).name, "dataset": Path(subject).parent.name}
        tables.append(given.assign(**person))
    if not tables:
        return table
    given = pd.concat(tables, ignore_index=True).fillna("")
    return _joined(table, given, scans / "*" / "*_sessions.tsv", remarks)


def _joined(
    table: pd.DataFrame, given: pd.DataFrame, file: Path, remarks: list[str]
) -> pd.DataFrame:
    """`table` with the columns of `given`, a table by participant_id."""
    given = given.rename(columns=KEYS)
    keys = [key for key in KEYS.values() if key in given.columns]
    wanted = table.assign(
        name=[Path(subject).name for subject in table["subject"]],
        file=[Path(path).name for path in table["path"]],
    )[keys]
    for frame in (given, wanted):
        for key in {"name", "session"} & set(keys):
            frame[key] = frame[key].map(bare)
        if "session" in keys:
            frame["session"] = frame["session"].map(without_zeros)
    if "dataset" in keys and (wanted["dataset"] == "").all():
        keys.remove("dataset")  # scans lie in no folder of a dataset
    compared_ids(given, wanted)
    if file.name.lower().startswith("participants"):
        remarks += unmatched(given, wanted, file)
    if "session" in keys and not has_sessions_of(given, wanted):
        first = given["session"].iloc[0]
        if given["name"].duplicated().any():
            remarks.append(
                f"{file} names sessions of which no folder has one, first {first!r}; expected "
                f"such as {wanted['session'].iloc[0]!r}"
            )
        else:
            keys.remove("session")
            remarks.append(
                f"{file} names sessions of which no folder has one, first {first!r}; its rows are "
                "joined by person alone"
            )
    remarks += contradictions(given, keys, file)
    matched = wanted[keys].merge(given.drop_duplicates(keys), on=keys, how="left")
    matched.index = table.index
    column = age_column(list(matched.columns))
    if column is not None:
        units = matched.get(UNIT_OF_AGE, pd.Series("", matched.index)).fillna("")
        pairs = zip(matched[column[0]].fillna(""), units, strict=True)
        texts = pd.Series(
            [with_unit(text, unit_of(unit) or column[1]) for text, unit in pairs], matched.index
        )
        people = texts[~table["subject"].duplicated()]
        remarks += [f"{file}: {sentence}" for sentence in odd_ages([t for t in people if t])]
        table["age"] = possible(texts.map(parse_age)).fillna(table["age"])
    elif table["age"].isna().all() and (unread := unread_age_columns(list(given.columns))):
        remarks.append(
            f"{file}: no age is read from the column {', '.join(unread)}; expected age (in years), "
            "age_months, age_weeks or age_days, of the day of the scan"
        )
    for column_name in matched.columns.difference([*keys, *OURS, "age"]):
        values = matched[column_name].fillna("")
        if column_name in table.columns:
            values = values.where(values != "", table[column_name])
        table[column_name] = values
    return table


def has_sessions_of(given: pd.DataFrame, wanted: pd.DataFrame) -> bool:
    """Whether any row of a table names a session that is there, of people that are."""
    common = given[given["name"].isin(wanted["name"])]
    if common.empty:
        return True  # it is the people that are not there
    there = set(zip(wanted["name"], wanted["session"], strict=True))
    return any(pair in there for pair in zip(common["name"], common["session"], strict=True))


def contradictions(given: pd.DataFrame, keys: list[str], file: Path) -> list[str]:
    """A sentence where several rows of a table are of one person, session or file, and differ."""
    rows = given.drop_duplicates()
    again = rows[rows.duplicated(keys, keep=False) & (rows["name"] != "")]
    if again.empty:
        return []
    count = len(again.drop_duplicates(keys))
    first = " ".join(str(again[key].iloc[0]) for key in keys)
    return [
        f"{file} has several rows that differ for {count} {'/'.join(keys)}, first {first}; the "
        "first row is used: a column session_id tells visits apart"
    ]


def compared_ids(given: pd.DataFrame, wanted: pd.DataFrame) -> None:
    """Write the ids of both tables alike where only leading zeros tell them apart."""
    missing = set(wanted["name"]) - set(given["name"])
    if not missing:
        return
    by_number: dict[str, list[str]] = {}
    for name in given["name"].unique():
        by_number.setdefault(without_zeros(name), []).append(name)
    numbers = [without_zeros(name) for name in wanted["name"].unique()]
    renamed = {}
    for name in missing:
        number = without_zeros(name)
        if len(by_number.get(number, [])) == 1 and numbers.count(number) == 1:
            renamed[name] = by_number[number][0]
    if renamed:
        wanted["name"] = wanted["name"].replace(renamed)


def unmatched(given: pd.DataFrame, wanted: pd.DataFrame, file: Path) -> list[str]:
    """Sentences on ids of a table of people without a folder, and on folders without a row."""
    ids = given["name"][given["name"] != ""].drop_duplicates()
    people = wanted["name"].drop_duplicates()
    sentences = []
    if "dataset" in given.columns and "dataset" in wanted.columns:
        ids = ids[given.loc[ids.index, "dataset"].isin(wanted["dataset"])]
    absent = ids[~ids.isin(people)]
    if len(absent):
        sentences.append(
            f"{len(absent)} of {len(ids)} ids of {file} match no folder, first {absent.iloc[0]}"
        )
    unknown = people[~people.isin(ids)]
    if len(unknown) and "dataset" not in given.columns:
        sentences.append(
            f"{len(unknown)} of {len(people)} subjects are not in {file}, first {unknown.iloc[0]}"
        )
    return sentences
