"""From what `scaling data check` finds to the text of an experiment file."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

COMMON = 0.8  # share of the labelled people who have a sequence that a task uses
MOST_SEQUENCES = 3  # of a task: each is read on its own, and costs as much as another case
BATCH = 16
VISITS = (20, 40, 80)  # times that a scan is seen, at the three durations
FEWEST_STEPS = 100  # of the shortest run
SIZES = ((500, ("xxs", "xs", "s")), (5_000, ("xs", "s", "m")), (50_000, ("s", "m", "l")))
LARGEST = ("m", "l", "xl")
# What the check itself writes of a scan; any other column came from the user's own tables.
CHECKED = {
    *("path", "source", "part", "subject", "session", "sequence", "run", "site", "age", "label"),
    *("mask", "problem", "role", "verdict", "reason", "missing", "unreadable", "remark", "dataset"),
    *("spacing", "content_hash", "bytes", "modified", "shape", "dtype", "name", "file"),
}
MOST_CLASSES = 5  # of a column that could be a classification


@dataclass(frozen=True)
class Candidate:
    """A task that the labels allow: who has a label, and what every one of them has scans of."""

    name: str
    kind: str
    column: str
    people: int
    sequences: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Facts:
    """What an experiment file is filled in from."""

    name: str
    root: str
    sources: dict[str, int]
    scans: int
    people: int
    sites: tuple[str, ...]
    sequences: dict[str, float]
    tasks: tuple[Candidate, ...]
    columns: dict[str, dict[str, int]]


def facts_of(folder: Path, manifest: pd.DataFrame) -> Facts:
    """The facts of a checked collection; scans that cannot be used do not count.

    Raises ValueError when no scan can be used.
    """
    scans = manifest[(manifest["role"] == "scan") & (manifest["verdict"] != "bad")]
    if scans.empty:
        raise ValueError(f"{folder} has no scan that can be used; the check above says why")
    root = folder if folder.is_dir() else folder.parent
    sessions = scans.groupby(["subject", "session"]).ngroups
    once = scans.drop_duplicates(["subject", "session", "sequence"])
    shares = (once["sequence"].value_counts() / sessions).to_dict()
    name = "".join(c if c.isalnum() or c in "._-" else "-" for c in folder.resolve().stem)
    return Facts(
        name=name.lstrip(".-") or "study",
        root=str(root.resolve()),
        sources={str(source): len(rows) for source, rows in scans.groupby("source")},
        scans=len(scans),
        people=scans["subject"].nunique(),
        sites=tuple(sorted(scans["site"].astype(str).unique())),
        sequences={str(sequence): float(share) for sequence, share in shares.items()},
        tasks=tuple(task for task in candidate_tasks(scans) if task.people >= 6),
        columns=class_columns(scans),
    )


def class_columns(scans: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Columns of the user's tables that could be a classification -> people of each class."""
    columns = {}
    people = scans.groupby("subject")
    for column in scans.columns.difference(list(CHECKED)):
        values = people[column].first().dropna().astype(str)
        counts = values[values != ""].value_counts()
        if 2 <= len(counts) <= MOST_CLASSES and counts.min() >= 2:
            columns[str(column)] = {str(name): int(count) for name, count in counts.items()}
    return columns


def candidate_tasks(scans: pd.DataFrame) -> list[Candidate]:
    """The tasks that ages, labels and masks allow."""
    people = scans.groupby("subject")
    tasks = []
    ages = people["age"].first()
    aged = ages[ages.notna()]
    if len(aged) and aged.max() > aged.min():
        why = f"age is known of {len(aged)} people, {aged.min():.0f} to {aged.max():.0f} years"
        tasks.append(task_of("brain-age", "regression", "age", aged.index, scans, why))
    masked = people["mask"].max()
    with_mask = masked[masked != ""]
    if len(with_mask):
        why = f"{len(with_mask)} people have a mask"
        tasks.append(task_of("lesion", "segmentation", "", with_mask.index, scans, why))
    labels = people["label"].max()
    labelled = labels[labels.isin(["0", "1", "0.0", "1.0"])]
    if len(labelled.unique()) == 2:
        why = f"{len(labelled)} people have a label of 0 or 1"
        tasks.append(task_of("label", "classification", "", labelled.index, scans, why))
    return tasks


def task_of(
    name: str, kind: str, column: str, labelled: pd.Index, scans: pd.DataFrame, why: str
) -> Candidate:
    """A task with the sequences that most of its labelled people have."""
    of_labelled = scans[scans["subject"].isin(labelled)]
    counts = of_labelled.groupby("sequence")["subject"].nunique().sort_values(ascending=False)
    common = counts[counts >= COMMON * len(labelled)].index.tolist()[:MOST_SEQUENCES]
    sequences = tuple(str(sequence) for sequence in common) or (str(counts.index[0]),)
    complete = set(labelled)
    for sequence in sequences:
        complete &= set(of_labelled.loc[of_labelled["sequence"] == sequence, "subject"])
    return Candidate(name, kind, column, len(complete), sequences, why)


def durations_for(scans: int) -> tuple[int, ...]:
    """Three doubling durations in samples, multiples of what a decay of a fifth can be cut into."""
    unit = 5 * BATCH
    shortest = max(VISITS[0] * scans, FEWEST_STEPS * BATCH)
    first = unit * int(np.ceil(shortest / unit))
    return tuple(first * visits // VISITS[0] for visits in VISITS)


def sizes_for(scans: int) -> tuple[str, ...]:
    """Three rungs of the ladder, larger where there are more scans."""
    for most, sizes in SIZES:
        if scans < most:
            return sizes
    return LARGEST


def code(value: str | int | tuple[str | int, ...]) -> str:
    """A value as Python source, with double quotes as the formatter of this project writes them."""
    if not isinstance(value, tuple):
        return json.dumps(value)
    entries = [code(entry) for entry in value]
    return f"({entries[0]},)" if len(entries) == 1 else f"({', '.join(entries)})"


def held_out(people: int) -> int:
    """A third of the people as test cases."""
    return max(2, round(people / 3))


def experiment_text(facts: Facts) -> str:
    """The annotated experiment file."""
    durations, sizes = durations_for(facts.scans), sizes_for(facts.scans)
    labelled = min((task.people for task in facts.tasks), default=facts.people)
    test = held_out(labelled)
    sources = ", ".join(f'Source({code(path)}, part="train")' for path in facts.sources)
    if len(facts.sources) == 1:
        sources += ","
    tasks = "".join(task_text(task, facts, labelled - test) for task in facts.tasks)
    sequences = ", ".join(f"{name} {share:.0%}" for name, share in facts.sequences.items())
    sites = f"{len(facts.sites)} site{'s' if len(facts.sites) > 1 else ''}"
    return f'''"""Does a larger or longer-pretrained model help on {facts.name}?

Written by `scaling init` from a check of {facts.scans} scans of {facts.people} people, {sites}
({sequences}).

Command:  scaling run {facts.name}.py
Ends in:  runs/{facts.name}/report.html
"""

from scaling import Data, Estimand, Mae, Pretrain, Source, Split, Study, Task, Volumes

# The grid that all scans are brought to: {4.0:g} mm keeps a whole head in 160 x 192 x 160 mm. Finer
# grids show more and cost the third power: 2 mm would be shape=(80, 96, 80).
VOLUMES = Volumes(spacing_mm=4.0, shape=(40, 48, 40))

study = Study(
    name={code(facts.name)},
    data=Data(
        root={code(facts.root)},
        # People who are tested on are never pretrained on.
        pretraining=({sources}),
        volumes=VOLUMES,
        # {test} people are held out as test cases, drawn at random.
        split=Split(test_subjects={test}),
    ),
    objectives=(Mae(),),
    # Rungs of the ladder (`scaling models` lists them), for {facts.scans} scans.
    sizes={code(sizes)},
    # Samples seen: each scan about {VISITS[0]}, {VISITS[1]} and {VISITS[2]} times,
    # or {FEWEST_STEPS} steps at least.
    durations={code(durations)},
    # One seed tells little; three tell how much runs differ by chance, at three times the cost.
    seeds=(0,),
    pretrain=Pretrain(crop=VOLUMES.shape, batch={BATCH}, warmup={warmup_for(durations)}),
    tasks=({tasks or TASK_COMMENT}{columns_text(facts)}
    ),
    # Test cases come from the same sites as training cases. With test cases of sites that nobody
    # trained on (their own folder as `test`), ask for domain="out".
    estimand=Estimand(protocol="probe", domain="in"),
)
'''


def warmup_for(durations: tuple[int, ...]) -> int:
    """Samples of warm-up: a tenth of the shortest run."""
    return BATCH * max(1, durations[0] // (10 * BATCH))


def task_text(task: Candidate, facts: Facts, train: int) -> str:
    """One task of an experiment file."""
    shots = max(2, min(40, train - 1 if train > 2 else 2))
    source = next(iter(facts.sources))
    column = f"\n            label={code(task.column)}," if task.column else ""
    return f"""
        # {task.why[:1].upper()}{task.why[1:]}.
        Task(
            {code(task.name)},
            {code(task.kind)},
            {code(task.sequences)},
            train=Source({code(source)}, part="train"),
            test=(Source({code(source)}, part="test"),),
            shots=({shots},),
            draws=5,{column}
        ),"""


def columns_text(facts: Facts) -> str:
    """A comment on the other columns that could be a task; nothing where there is none."""
    if not facts.columns:
        return ""
    lines = ["", "        # Other columns that could be a classification (label=, classes=):"]
    for column, counts in facts.columns.items():
        classes = code(tuple(sorted(counts)))
        people = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
        lines.append(f"        #   label={code(column)}, classes={classes}: {people} people")
    return "\n".join(lines)


TASK_COMMENT = """
        # No labels were found. A column of participants.tsv makes a task, for example:
        # Task("brain-age", "regression", ("t1",), train=Source(".", part="train"),
        #      test=(Source(".", part="test"),), shots=(20,), label="age"),"""
