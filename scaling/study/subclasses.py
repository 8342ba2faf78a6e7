"""Entries of a study whose class nobody has registered: their parents' code would run for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from scaling.study.families import FAMILIES
from scaling.study.objectives import OBJECTIVES
from scaling.study.references import Features, Function, Predictions, Weights

if TYPE_CHECKING:
    from scaling.study.config import Study


def unregistered(study: Study) -> Iterator[str]:
    """A sentence for every objective and family of a class that is not registered, and for every
    task and reference of a class other than the library's.
    """
    for field, entries, registry, verb in (
        ("objectives", study.objectives, OBJECTIVES, "register_objective"),
        ("families", study.families, FAMILIES, "register_backbone"),
    ):
        for entry in entries:
            if not registry.knows(type(entry)):
                yield (
                    f"{field} has an entry of class {parents(type(entry))}, which is not "
                    f"registered; expected a class with a kind of its own, given to {verb}"
                )
    for task in study.tasks:
        if type(task).__mro__[1] is not object:
            yield (
                f"tasks has an entry of class {parents(type(task))}; expected a Task, whose kind a "
                "file of your own may register (register_kind)"
            )
    for reference in study.references:
        if type(reference) not in (Features, Function, Predictions, Weights):
            yield (
                f"references has an entry of class {parents(type(reference))}; expected Features, "
                "Function, Predictions or Weights"
            )


def parents(config: type) -> str:
    """A class and what it is a subclass of, in words."""
    return f"{config.__name__} (a subclass of {config.__bases__[0].__name__})"
