"""How each kind of task is learned, read out, tabulated and scored: one file a kind.

`learner_of(task)` gives the entry of a task; `register_learner` adds one for a kind that an
experiment file registers with `scaling.study.task_kinds.register_kind`.
"""

from collections.abc import Callable

from scaling.study.config import Task
from scaling.transfer.kinds.classification import classification
from scaling.transfer.kinds.learner import Learner
from scaling.transfer.kinds.regression import regression
from scaling.transfer.kinds.segmentation import segmentation

__all__ = ["Learner", "learner_of", "register_learner"]

LEARNERS: dict[str, Callable[[tuple[str | int, ...]], Learner]] = {
    "classification": classification,
    "regression": regression,
    "segmentation": segmentation,
}


def register_learner(kind: str, learner: Callable[[tuple[str | int, ...]], Learner]) -> None:
    """Say how a registered kind of task is learned, given `Task.classes`."""
    LEARNERS[kind] = learner


def learner_of(task: Task) -> Learner:
    """How a task is learned. Raises ValueError for a kind that has no learner."""
    if task.kind not in LEARNERS:
        raise ValueError(
            f"task {task.name!r} is of kind {task.kind!r}, which has no learner; expected one of "
            f"{', '.join(LEARNERS)}, or scaling.transfer.kinds.register_learner in the experiment "
            "file"
        )
    return LEARNERS[task.kind](task.classes)
