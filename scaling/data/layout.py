"""Folders of scans -> one table with one row per scan.

Knows the FOMO60K, FOMO25 finetuning and BIDS layouts, and tables of scans.

    SOURCE/sub_1/ses_1/t1.nii.gz                      FOMO60K; a second scan of a kind is t1_2.nii.gz
    SOURCE/PT001_OASIS1/sub_1/ses_1/t1.nii.gz         its later published layout; subjects are then PT001_OASIS1/sub_1
    SOURCE/preprocessed/sub_1/ses_1/flair.nii.gz      FOMO25 finetuning, labels/sub_1[/ses_1]/label.txt | seg.nii.gz
    SOURCE/sub-01[/ses-01]/anat/sub-01_T1w.nii.gz     BIDS
    SOURCE.csv, .tsv or .parquet                      path and subject, and what else is known of each scan; or a manifest of `check`

`participants.tsv` beside or above the subjects may say site, age, sex and any further label column;
see `participants`.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from scaling.data.files import extension, link_problem, walk
from scaling.data.participants import parse_age, read_table, with_participants
from scaling.data.reading import EXTENSIONS
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
SUBJECT = re.compile(r"sub[-_]")
ASIDE = (
    "labels",
    "derivatives",
    "sourcedata",
    "code",
    "truth",
)  # folders that hold no scans to learn from
BIDS_NAMES = {
    "t1w": "t1",
    "t2w": "t2",
    "flair": "flair",
    "t2starw": "t2s",
    "pdw": "pd",
    "dwi": "dwi",
    "swi": "swi",
}
# Other spellings of sequences outside of BIDS: released data of challenges use several.
NAMES = {"t1w": "t1", "t2w": "t2", "pdw": "pd", "t2starw": "t2s", "t2star": "t2s"}
BIDS_ASIDE = (
    "func",
    "fmap",
    "perf",
    "pet",
    "meg",
    "eeg",
    "ieeg",
    "nirs",
    "mrs",
    "beh",
    "micr",
    "motion",
)
MASKS = re.compile(r"(.*[-_])?(seg|mask|dseg|probseg|roi|label|defacemask)(_\d+)?")


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
                f"{table['subject'].nunique()} "
                "and "
                f"data.split.test_subjects is {split.test_subjects}; change the split"
            )
    table = pd.concat(tables, ignore_index=True)
    extra = [column for column in table.columns if column not in COLUMNS]
    table[extra] = table[extra].fillna("")
    return table[[*COLUMNS, *extra]]


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
        for name in ("participants.tsv", "mapping.tsv", "dataset_description.json")
    )
    if alone or any(name == "preprocessed" or SUBJECT.match(name) for name in children):
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


def is_scan(file: Path, folder: Path) -> bool:
    """Whether a file lies below a subject of `folder`, is a volume, and is neither a mask nor of a
    kind that is left aside.
    """
    *above, name = file.relative_to(folder).parts
    if not any(SUBJECT.match(part) for part in above) or set(ASIDE) & set(above):
        return False
    ending = extension(name)
    if above[-1] in BIDS_ASIDE or not ending:
        return False
    return not MASKS.fullmatch(name[: -len(ending)].lower())


def scan_source(root: Path, path: str) -> pd.DataFrame:
    """The table of one source (without `part`). Raises FileNotFoundError or ValueError."""
    folder = root / path
    if path.endswith(LISTINGS):
        table = read_listing(folder)
    elif not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} does not exist; set data.root to the folder that holds {path!r}, or write "
            "a synthetic cohort "
            "with `scaling data phantom`"
        )
    else:
        table = scan_folder(root, folder)
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
    """The scans of a folder in one of the layouts, with what the tables and labels beside them say."""
    folder = inner_folder(folder)
    scans = folder / "preprocessed" if (folder / "preprocessed").is_dir() else folder
    allowed = (root.resolve(), folder.resolve())
    rows = []
    for file in walk(scans):
        if is_scan(file, scans):
            rows.append(describe(file, scans) | {"problem": link_problem(file, *allowed)})
        elif (
            file.is_symlink()
            and file.is_dir()
            and any(SUBJECT.match(part) for part in file.relative_to(scans).parts)
        ):
            place = next(
                i for i, part in enumerate(file.relative_to(scans).parts) if SUBJECT.match(part)
            )
            subject = "/".join(file.relative_to(scans).parts[: place + 1])
            rows.append(
                {
                    "path": str(file),
                    "subject": subject,
                    "session": "",
                    "sequence": "",
                    "run": 1,
                    "problem": link_problem(file),
                }
            )
    require_unpacked(scans)
    if not rows:
        raise ValueError(
            f"{folder} holds no scans; expected files such as sub_1/ses_1/t1.nii.gz "
            f"({', '.join(EXTENSIONS)}) in it or in its "
            "preprocessed/, or a table that names them (csv, tsv or parquet with the columns path "
            "and subject)"
        )
    table = with_participants(
        pd.DataFrame(rows).assign(site="", age=np.nan, sex="", label="", mask=""), folder
    )
    if (folder / "labels").is_dir():
        keys = list(zip(table["subject"], table["session"], strict=True))
        found = {key: find_label(folder / "labels", *key) for key in dict.fromkeys(keys)}
        table["mask"] = [found[key][1] for key in keys]
        labels = pd.Series([found[key][0] for key in keys], index=table.index)
        table["label"] = labels.where(labels != "", table["label"])
    return table


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
    table["age"] = table["age"].map(parse_age) if "age" in table.columns else np.nan
    table["path"] = [str(file.parent / path) for path in table["path"]]
    table["mask"] = [str(file.parent / mask) if mask else "" for mask in table["mask"]]
    return table if "problem" in table.columns else table.assign(problem="")


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


def describe(file: Path, scans: Path) -> dict[str, object]:
    """Path, subject, session, sequence and run of a file, from its place below `scans`."""
    parts = file.relative_to(scans).parts
    place = next(i for i, part in enumerate(parts) if SUBJECT.match(part))
    session = next((part for part in parts[place + 1 : -1] if re.match(r"ses[-_]", part)), "ses_1")
    name = file.name[: -len(extension(file.name))]
    run = 1
    if parts[place].startswith("sub-") and name.startswith("sub-"):
        *entities, suffix = name.split("_")
        number = {
            entity[:4]: int(entity[4:]) for entity in entities if re.fullmatch(r"run-\d+", entity)
        }
        run = number.get("run-", 1)
        sequence = BIDS_NAMES.get(suffix.lower(), suffix.lower())
        sequence += (
            "c" if sequence == "t1" and any(entity.startswith("ce-") for entity in entities) else ""
        )
        sequence += "".join(
            f"_{entity[5:]}"
            for entity in entities
            if entity in ("part-phase", "part-real", "part-imag")
        )
    else:
        sequence = name.lower()
        numbered = re.fullmatch(r"(.+)_(\d+)", sequence)
        if numbered and numbered[1] != "scan":
            sequence, run = numbered[1], int(numbered[2])
        sequence = NAMES.get(sequence, sequence)
    return {
        "path": str(file),
        "subject": "/".join(parts[: place + 1]),
        "session": session,
        "sequence": sequence,
        "run": run,
    }


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
