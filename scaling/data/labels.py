"""The labelled sessions of a task: which there are, and what their labels say. Reads no image."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from scaling.data.layout import SESSION, people_of, select
from scaling.study.classes import named
from scaling.study.config import Source, Task
from scaling.study.task_kinds import kind_of

Scan = Mapping[Any, Any]  # a row of a cache's index by column; "i" is its number

FEW = 3  # misfits that one message names


@dataclass(frozen=True)
class Session:
    """A labelled session: the index's row in each slot of `Task.sequences` (None: absent), its
    label's numbers, or the index's row that has its mask. `person` is source/subject, or
    source/person where the table of scans has one name for each person.
    """

    id: str
    person: str
    site: str
    slots: tuple[int | None, ...]
    label: tuple[float, ...] = ()
    mask_row: int = -1


@dataclass
class Sessions:
    """The labelled sessions of some sources, sorted by id, and a sentence for what is left out."""

    usable: list[Session] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)


def labelled_sessions(index: pd.DataFrame, task: Task, sources: Iterable[Source]) -> Sessions:
    """The labelled sessions of `sources` in a cache's index. Raises ValueError when there are none,
    a label does not fit, or no training case has one of the sequences.
    """
    sources = tuple(sources)
    names = ", ".join(f"{source.path} ({source.part})" for source in sources)
    chosen = np.logical_or.reduce([select(index, source) for source in sources])
    if not chosen.any():
        raise ValueError(
            f"task {task.name!r}: the cache has no scans of {names}; prepare it with that source"
        )
    rows = index[chosen].reset_index(names="i")
    people = dict(zip(rows["i"], people_of(rows), strict=True))
    if task.train in sources:
        check_sequences(rows, task, names)
    check_columns(rows, task)
    sessions = Sessions()
    unlabelled, misfits = 0, []
    for (source, subject, name), usable in usable_scans(rows).items():
        session_id = f"{source}/{subject}/{name}"
        slots = tuple(first_present(usable, slot) for slot in task.sequences)
        if all(slot is None for slot in slots):
            sessions.dropped.append(
                f"{session_id} has no usable scan of {', '.join(task.sequences)}"
            )
            continue
        try:
            label, mask_row = read_label(usable, task)
        except ValueError as error:
            misfits.append(str(error))
            continue
        if not label and mask_row < 0:
            unlabelled += 1
            continue
        site = str(usable[0]["site"])
        person = f"{source}/{people[usable[0]['i']]}"
        sessions.usable.append(Session(session_id, person, site, slots, label, mask_row))
    if misfits:
        more = f", and {len(misfits) - FEW} more" if len(misfits) > FEW else ""
        raise ValueError(
            f"task {task.name!r} is {task.kind} and {len(misfits)} of its labels do not fit: "
            f"{'; '.join(misfits[:FEW])}{more}; expected {kind_of(task).expected(task)}"
        )
    if not sessions.usable:
        raise ValueError(
            f"task {task.name!r} has no labels in {names}: expected {kind_of(task).expected(task)} "
            "in labels/SUBJECT/ses_1/, or a column of participants.tsv named by the task's label "
            "field"
        )
    if unlabelled:
        sessions.dropped.append(f"{unlabelled} sessions of {names} have no label")
    return sessions


def usable_scans(rows: pd.DataFrame) -> dict[tuple[str, str, str], list[Scan]]:
    """The usable scans of every session (source, subject, name), the first run first."""
    sessions: dict[tuple[str, str, str], list[Scan]] = {}
    for scan in rows.sort_values([*SESSION, "run"], kind="stable").to_dict("records"):
        usable = sessions.setdefault((scan["source"], scan["subject"], scan["session"]), [])
        if scan["status"] == "ok":
            usable.append(scan)
    return sessions


def check_sequences(rows: pd.DataFrame, task: Task, names: str) -> None:
    """Raises ValueError for a sequence that no usable scan has."""
    present = set(rows.loc[rows["status"] == "ok", "sequence"])
    absent = [slot for slot in task.sequences if not present & set(slot.split("|"))]
    if absent:
        raise ValueError(
            f"task {task.name!r} wants the sequence {absent[0]!r}, which no usable scan of {names} "
            f"has; expected one of {', '.join(sorted(present)) or 'none: no scan can be used'}"
        )


def check_columns(rows: pd.DataFrame, task: Task) -> None:
    """Raises ValueError for a label column that is in no table beside the scans."""
    absent = [column for column in label_columns(task) if column not in rows.columns]
    if absent and not (rows["label"] != "").any():
        raise ValueError(
            f"task {task.name!r} wants label={task.label!r}, which participants.tsv does not have"
        )


def label_columns(task: Task) -> list[str]:
    """The columns that `Task.label` names."""
    return [name.strip().lower() for name in task.label.split(",") if name.strip()]


def first_present(scans: Sequence[Scan], slot: str) -> int | None:
    """Row of the index that fills a slot such as "t2s|swi": its first sequence that is there."""
    for sequence in slot.split("|"):
        for scan in scans:
            if scan["sequence"] == sequence:
                return int(scan["i"])
    return None


def read_label(scans: Sequence[Scan], task: Task) -> tuple[tuple[float, ...], int]:
    """The numbers of a session's label, or the row that has its mask; () and -1 without a label.

    Raises ValueError, naming the file, for a label that does not fit.
    """
    kind = kind_of(task)
    if kind.read is None:
        masked = next((scan for scan in scans if scan["mask_row"] >= 0), None)
        if masked is None:
            return (), -1
        check_mask(masked, task)
        return (), int(masked["i"])
    texts = label_texts(scans, task)
    if not all(texts):
        return (), -1
    try:
        return kind.read(texts, task), -1
    except ValueError as error:
        raise ValueError(f"the label of {scans[0]['path']} is {', '.join(texts)!r}") from error


def label_texts(scans: Sequence[Scan], task: Task) -> tuple[str, ...]:
    """A session's label as text: of the labels folder, else of the columns that the task names."""
    text = str(scans[0]["label"])
    columns = label_columns(task)
    if text or not columns:
        return (text,)
    values = [scans[0].get(column, "") for column in columns]
    return tuple("" if pd.isna(value) else str(value).strip() for value in values)


def check_mask(scan: Scan, task: Task) -> None:
    """Raises ValueError when a mask holds a value that the task does not declare."""
    declared = {value for _, value in named(task.classes)}
    undeclared = sorted(set(mask_volumes(scan)) - declared)
    if undeclared:
        values = ", ".join(str(value) for value in undeclared)
        raise ValueError(
            f"{scan['mask']} holds the value{'s' if len(undeclared) > 1 else ''} {values}, which "
            "the task's classes do not declare"
        )


def mask_volumes(scan: Scan) -> dict[int, tuple[float, float]]:
    """Label -> its volume in mm3 in the file and on the grid, as `prepare` measured them."""
    text = str(scan.get("mask_volumes") or "")
    stored = json.loads(text) if text.startswith("{") else {}
    return {int(label): (float(both[0]), float(both[1])) for label, both in stored.items()}
