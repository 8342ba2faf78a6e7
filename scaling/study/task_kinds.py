"""The table of task kinds: what of a task depends on whether it classifies, segments or regresses.

Here is what needs no network: how labels are written, checked and counted, and what is measured.
How a kind is learned is its entry in `scaling.transfer.kinds`. An experiment file adds a kind of
its own with `register_kind` and `scaling.transfer.kinds.register_learner`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scaling.study.classes import class_index, named

if TYPE_CHECKING:
    from scaling.study.tasks import Task


@dataclass(frozen=True)
class TaskKind:
    """One kind of task."""

    name: str
    """What `Task.kind` says."""
    expected: Callable[[Task], str]
    """How a label is written, in words for messages."""
    metrics: Callable[[Task], tuple[str, ...]]
    """Names of the metrics (see `scaling.metrics`), the main one first."""
    read: Callable[[tuple[str, ...], Task], tuple[float, ...]] | None = None
    """Numbers of a label from its texts, one text a column of `Task.label`; raises ValueError when
    they do not fit. None: labels are masks."""
    stratified: bool = False
    """Whether a draw keeps the share of every class; labels are then class numbers."""
    protocols: tuple[str, ...] = ("finetune", "probe", "sgd_probe", "classical", "supervised")
    """Protocols of `Transfer` that suit the kind; the others are left out."""

    @property
    def masks(self) -> bool:
        """Whether labels are masks, one class a voxel."""
        return self.read is None


def read_class(texts: tuple[str, ...], task: Task) -> tuple[float, ...]:
    """The class number of a label. Raises ValueError for a class that was not declared."""
    return (float(class_index(texts[0], task.classes or ("0", "1"))),)


def read_number(texts: tuple[str, ...], task: Task) -> tuple[float, ...]:
    """Every text as a finite number. Raises ValueError."""
    numbers = tuple(float(text) for text in texts)
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError(f"{texts} is not finite")
    return numbers


def expected_class(task: Task) -> str:
    """The classes, in words."""
    names = [str(entry) for entry in task.classes] or ["0", "1"]
    return f"{', '.join(names[:-1])} or {names[-1]}"


def expected_mask(task: Task) -> str:
    """The values of a mask, in words."""
    if not task.classes:
        return "a mask (seg.nii.gz)"
    values = ", ".join(f"{value} ({name})" for name, value in named(task.classes))
    return f"a mask (seg.nii.gz) of 0, {values}"


def class_metrics(task: Task) -> tuple[str, ...]:
    """AUROC of two classes, macro AUROC and macro F1 of more."""
    return ("macro_auroc", "macro_f1") if len(task.classes) > 2 else ("auroc",)


KINDS = {
    "classification": TaskKind(
        "classification", expected_class, class_metrics, read_class, stratified=True
    ),
    "segmentation": TaskKind(
        "segmentation",
        expected_mask,
        lambda task: ("dice", "nsd"),
        protocols=("finetune", "probe", "classical", "supervised"),
    ),
    "regression": TaskKind(
        "regression",
        lambda task: "a number",
        lambda task: ("mae", "pearson"),
        read_number,
        protocols=("finetune", "probe", "classical", "supervised"),
    ),
}


def register_kind(kind: TaskKind) -> None:
    """Add a kind of task, or change one that was registered before under this name (an experiment
    file may be read more than once). Raises ValueError for the library's own names.
    """
    if kind.name in OWN:
        raise ValueError(f"{kind.name!r} is a kind of the library's own; choose another name")
    KINDS[kind.name] = kind


def kind_of(task: Task) -> TaskKind:
    """The kind of a task. Raises ValueError if it is not registered."""
    kind = KINDS.get(task.kind)
    if kind is None:
        raise ValueError(
            f"task {task.name!r} is of kind {task.kind!r}; expected one of {', '.join(KINDS)}, or "
            "one that the experiment file adds with scaling.study.task_kinds.register_kind"
        )
    return kind


OWN = frozenset(KINDS)
