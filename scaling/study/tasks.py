"""A downstream task: labelled scans, what is predicted, and how few labels are given."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from scaling.study.classes import class_names, named
from scaling.study.data import Source, Volumes
from scaling.study.groups import parse_group
from scaling.study.protocols import Transfer
from scaling.study.strict import STRICT
from scaling.study.task_kinds import kind_of


def whole_or_share(number: float) -> bool:
    """Whether a number is below 1, or whole."""
    return number < 1 or float(number).is_integer()


@dataclass(frozen=True, config=STRICT)
class Task:
    """A downstream task: labelled scans of one fine-tuning site, test scans of that and others."""

    name: str
    """Name in tables and folders."""
    kind: str
    """What is predicted: "classification", "segmentation", "regression", or a registered kind (see
    `scaling.study.task_kinds`)."""
    sequences: tuple[str, ...]
    """Sequences that are encoded one by one and fused; "t2s|swi" takes the first there is."""
    train: Source
    """Labelled training cases, of which the shots are drawn."""
    test: tuple[Source, ...]
    """Test cases, () under `folds` or `held_out`; a case of a site without training cases counts as
    out of domain."""
    shots: tuple[int, ...]
    """Numbers of labelled cases to train on; each is a few-shot experiment of its own."""
    draws: int = 3
    """Random subsets of each number of shots."""
    label: str = ""
    """Column of participants.tsv that holds the label, where there is no labels/ folder; a kind
    whose label has several numbers names its columns "months,event"."""
    inside: tuple[Source, ...] = ()
    """Labelled cases of the out-of-domain sites, none of them a test case, for the supervised
    control in domain."""
    classes: tuple[str | int, ...] = ()
    """Classes in order: names ("F", "M"), values (0, 1), or both ("nerve=1"). Of a mask the labels
    besides 0; names alone stand for 1, 2, ... Empty: 0 and 1, or a mask of one label."""
    volumes: Volumes | None = None
    """Grid of the task's own; None: that of `Data.volumes`."""
    groups: tuple[str, ...] = ()
    """Variables whose groups are compared: columns such as "sex", or binned ones such as
    "age:25,50,75" (ascending inclusive upper edges)."""
    transfer: Transfer | None = None
    """Protocols of the task's own; None: those of the study."""
    folds: int = 0
    """Number of folds of the training cases, each predicted from models of the others, for a task
    without `test`; 0: none. All cases of a person are in one fold."""

    held_out: Annotated[float, Field(ge=0)] = 0.0
    """People of the training cases that are tested instead, for a task without `test`: a share
    (below 1) or a number; 0: none."""

    def __post_init__(self) -> None:
        if mistakes := list(self._mistakes()):
            raise ValueError("; ".join(mistakes))

    def _mistakes(self) -> Iterator[str]:
        if self.folds and (self.test or self.folds < 2):
            yield (
                f"task {self.name!r} has folds={self.folds} and {len(self.test)} test sources; "
                "expected either test sources, or 2 folds or more"
            )
        if self.held_out and (self.test or self.folds or not whole_or_share(self.held_out)):
            yield (
                f"task {self.name!r} has held_out={self.held_out:g}, folds={self.folds} and "
                f"{len(self.test)} test sources; expected test sources, folds, or a share below 1 "
                "or whole number of subjects held out"
            )
        tested = self.test or self.folds or self.held_out
        if not self.sequences or not tested or not self.shots:
            yield (
                f"task {self.name!r} needs at least one sequence, one number of shots, and cases "
                "to test: test sources, folds or held_out"
            )
        elif self.draws < 1 or min(self.shots) < 2:
            yield (
                f"task {self.name!r} has draws={self.draws}, shots={self.shots}; expected "
                "draws >= 1, shots >= 2"
            )
        names = class_names(self.classes)
        if len(set(names)) < len(names):
            yield f"task {self.name!r} has classes {names}; expected no class twice"
        for check in (self._check_kind, self._check_groups):
            try:
                check()
            except ValueError as error:
                yield str(error)

    def _check_kind(self) -> None:
        kind = kind_of(self)
        if kind.masks:
            named(self.classes)
        if kind.stratified and len(self.classes) == 1:
            raise ValueError(f"task {self.name!r} has one class; expected two or more, or none")

    def _check_groups(self) -> None:
        for group in self.groups:
            parse_group(group)
