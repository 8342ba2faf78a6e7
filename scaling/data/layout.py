"""Folders of scans -> one table with one row per scan. Knows the FOMO60K, FOMO25 finetuning and BIDS layouts.

    SOURCE/sub_1/ses_1/t1.nii.gz                      FOMO60K; a second scan of a kind is t1_2.nii.gz
    SOURCE/PT001_OASIS1/sub_1/ses_1/t1.nii.gz         its later published layout; subjects are then PT001_OASIS1/sub_1
    SOURCE/preprocessed/sub_1/ses_1/flair.nii.gz      FOMO25 finetuning, labels/sub_1[/ses_1]/label.txt | seg.nii.gz
    SOURCE/sub-01[/ses-01]/anat/sub-01_T1w.nii.gz     BIDS

`participants.tsv` beside or above the subjects may say site, age, sex and any further label column.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from scaling.data.reading import EXTENSIONS
from scaling.study.config import Source, Split

COLUMNS = ("path", "source", "part", "subject", "session", "sequence", "run", "site", "age", "sex", "label", "problem")
SUBJECT = re.compile(r"sub[-_]")
ASIDE = ("labels", "derivatives", "truth")  # folders that hold no scans to learn from
BIDS_NAMES = {"t1w": "t1", "t2w": "t2", "flair": "flair", "t2starw": "t2s", "pdw": "pd", "dwi": "dwi", "swi": "swi"}


def scan_sources(root: Path, sources: Sequence[Source], split: Split) -> pd.DataFrame:
    """One row per scan: path, source, part, subject, session, sequence, run, site, age, sex, label, problem.

    `label` is the path of a mask, the text of a label, or ""; further columns of participants.tsv follow as text. A
    file that may not be read (a link that leaves `root`) has its reason in `problem`. Raises FileNotFoundError or
    ValueError when a source is missing or empty.
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
                f"part {sorted(wanted)} of {root / path} has no subjects: the folder has {table['subject'].nunique()} "
                "and "
                f"data.split.test_subjects is {split.test_subjects}; change the split"
            )
    table = pd.concat(tables, ignore_index=True)
    extra = [column for column in table.columns if column not in COLUMNS]
    table[extra] = table[extra].fillna("")
    return table[[*COLUMNS, *extra]]


def subject_parts(subjects: Sequence[str] | np.ndarray, split: Split) -> dict[str, str]:
    """ "test" for the first `split.test_subjects` of a seeded permutation of the sorted subjects, "train" for the
    others.
    """
    order = np.random.default_rng(split.seed).permutation(np.sort(np.asarray(subjects, dtype=object)))
    return {subject: "test" if rank < split.test_subjects else "train" for rank, subject in enumerate(order)}


def select(table: pd.DataFrame, source: Source) -> pd.Series:
    """bool per row: scans of a source, or of the part it names."""
    return (table["source"] == source.path) & ((source.part == "all") | (table["part"] == source.part))


def find_sources(root: Path) -> list[str]:
    """The folders of `root` that are sources: itself (".") if subjects or a participants.tsv are in it, else those with
    scans.

    Raises FileNotFoundError if `root` does not exist.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root} does not exist or is no folder; name the folder that holds the scans")
    children = sorted(child.name for child in root.iterdir() if child.is_dir() and not child.name.startswith("."))
    if (root / "participants.tsv").exists() or any(name == "preprocessed" or SUBJECT.match(name) for name in children):
        return ["."]
    return [name for name in children if name not in ASIDE and any(_scan_files(root / name))]


def _scan_files(folder: Path) -> Iterator[Path]:
    """Scans of the subjects below a folder, in no order."""
    for file in folder.rglob("*"):
        *above, name = file.relative_to(folder).parts
        usable = name.endswith(EXTENSIONS) and not name.startswith(".") and not set(ASIDE) & set(above)
        if usable and any(SUBJECT.match(part) for part in above):
            yield file


def scan_source(root: Path, path: str) -> pd.DataFrame:
    """The table of one folder (without `part`). Raises FileNotFoundError or ValueError."""
    folder = root / path
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} does not exist; set data.root to the folder that holds {path!r}, or write a synthetic cohort "
            "with `scaling data phantom`"
        )
    scans = folder / "preprocessed" if (folder / "preprocessed").is_dir() else folder
    rows = [describe(file, scans) for file in sorted(_scan_files(scans))]
    if not rows:
        raise ValueError(
            f"{folder} holds no scans; expected files such as sub_1/ses_1/t1.nii.gz ({', '.join(EXTENSIONS)}) in it or in its preprocessed/"
        )
    inside = root.resolve()
    table = pd.DataFrame(rows).assign(source=path, part="", site="", age=np.nan, sex="", label="", problem="")
    for index, file in table["path"].items():
        if not Path(file).resolve().is_relative_to(inside):
            table.loc[index, "problem"] = f"{file} is a link that leaves {root}; copy the file into it"
    table = with_participants(table, folder)
    sessions = {key: find_label(folder / "labels", *key) for key in set(zip(table["subject"], table["session"], strict=True))}
    found = pd.Series([sessions[key] for key in zip(table["subject"], table["session"], strict=True)], index=table.index)
    table["label"] = found.where(found != "", table["label"])
    return table.sort_values(["subject", "session", "sequence", "run", "path"], ignore_index=True)


def describe(file: Path, scans: Path) -> dict[str, object]:
    """Path, subject, session, sequence and run of a file, from its place below `scans`."""
    parts = file.relative_to(scans).parts
    place = next(i for i, part in enumerate(parts) if SUBJECT.match(part))
    session = next((part for part in parts[place + 1 : -1] if re.match(r"ses[-_]", part)), "ses_1")
    name = file.name[: -len(next(extension for extension in EXTENSIONS if file.name.endswith(extension)))]
    run = 1
    if parts[place].startswith("sub-") and name.startswith("sub-"):
        *entities, suffix = name.split("_")
        run = next((int(entity[4:]) for entity in entities if re.fullmatch(r"run-\d+", entity)), 1)
        sequence = BIDS_NAMES.get(suffix.lower(), suffix.lower())
        sequence += "c" if sequence == "t1" and any(entity.startswith("ce-") for entity in entities) else ""
    else:
        sequence = name.lower()
        numbered = re.fullmatch(r"(.+)_(\d+)", sequence)
        if numbered and numbered[1] != "scan":
            sequence, run = numbered[1], int(numbered[2])
    return {
        "path": str(file),
        "subject": "/".join(parts[: place + 1]),
        "session": session,
        "sequence": sequence,
        "run": run,
    }


def find_label(labels: Path, subject: str, session: str) -> str:
    """Path of a session's mask or text of its label, from labels/SUBJECT/SESSION or labels/SUBJECT; "" if there is
    none.
    """
    for folder in (labels / subject / session, labels / subject):
        if (folder / "seg.nii.gz").exists():
            return str(folder / "seg.nii.gz")
        if (folder / "label.txt").exists():
            return (folder / "label.txt").read_text().strip()
    return ""


def with_participants(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Add what the participants.tsv files in or one level below `folder` say of each session; site falls back to a
    folder's name.
    """
    table = table.assign(dataset=[Path(subject).parent.name for subject in table["subject"]])
    for file in [folder / "participants.tsv", *sorted(folder.glob("*/participants.tsv"))]:
        if not file.exists():
            continue
        people = pd.read_csv(file, sep="\t", dtype=str, keep_default_na=False).rename(columns=str.lower)
        if "participant_id" not in people.columns:
            raise ValueError(f"{file} has the columns {list(people.columns)}; expected participant_id among them")
        people = people.rename(columns={"participant_id": "name", "session_id": "session"})
        people["name"] = people["name"].str.replace(r"^(?!sub[-_])", "sub_", regex=True)
        if file.parent != folder and file.parent.name != "preprocessed":
            people["dataset"] = file.parent.name
        keys = [key for key in ("name", "session", "dataset") if key in people.columns]
        people = people.drop_duplicates(keys).set_index(keys)
        wanted = pd.MultiIndex.from_frame(table.assign(name=[Path(s).name for s in table["subject"]])[keys])
        matched = people.reindex(wanted if len(keys) > 1 else wanted.get_level_values(0))
        matched.index = table.index
        for column in matched.columns.difference([c for c in COLUMNS if c not in ("site", "age", "sex", "label")]):
            values = matched[column].fillna("").str.strip()
            values = values.mask(values.str.lower().isin(["n/a", "nan", "na"]), "")
            if column == "age":
                table["age"] = pd.to_numeric(values, errors="coerce").fillna(table["age"])
            else:
                known = table[column] if column in table.columns else pd.Series("", index=table.index)
                table[column] = values.where(values != "", known)
    fallback = table["dataset"].where(table["dataset"] != "", folder.name)
    table["site"] = table["site"].where(table["site"] != "", fallback)
    return table.drop(columns="dataset")
