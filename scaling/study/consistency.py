"""Mistakes of a study that one field alone does not show: one sentence each, all of them at
once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from scaling.study.families import Family
from scaling.study.names import name_problem
from scaling.study.objectives import ObjectiveConfig
from scaling.study.references import OWN_ARMS, Features, Function, Predictions, Weights
from scaling.study.task_kinds import kind_of

if TYPE_CHECKING:
    from scaling.study.config import Study, Task, Volumes


def inconsistencies(study: Study) -> list[str]:
    """Every mistake of a study, one sentence each."""
    return [
        *axes(study),
        *names(study),
        *spacing(study),
        *durations(study),
        *(sentence for family in study.families for sentence in grids(study, family)),
        *protocols(study),
        *batches(study),
        *references(study),
    ]


def axes(study: Study) -> Iterator[str]:
    """Each axis of the design has entries, none twice; fractions are shares."""
    for field, values in (
        ("sizes", study.sizes),
        ("durations", study.durations),
        ("seeds", study.seeds),
        ("fractions", study.fractions),
        ("objectives", tuple(objective.label for objective in study.objectives)),
        ("families", tuple(family.label for family in study.families)),
        ("tasks", tuple(task.name for task in study.tasks)),
    ):
        if not values or len(set(values)) < len(values):
            yield f"{field} is {values}; expected at least one entry and no entry twice"
    if study.fractions and not 0 < min(study.fractions) <= max(study.fractions) <= 1:
        yield (
            f"fractions is {study.fractions}; expected shares of the pretraining subjects, above 0 "
            "and up to 1"
        )


def names(study: Study) -> Iterator[str]:
    """What names a folder is a plain name."""
    named = [("name", study.name)]
    named += [("objectives", objective.label) for objective in study.objectives]
    named += [("families", family.label) for family in study.families]
    named += [("tasks", task.name) for task in study.tasks]
    for field, name in named:
        problem = name_problem(field, name)
        if problem:
            yield problem


def spacing(study: Study) -> Iterator[str]:
    """What is measured in mm needs one spacing for all sessions."""
    own = [task for task in study.tasks if grid_of(study, task).spacing_mm is None]
    segmented = [task.name for task in own if kind_of(task).masks]
    if segmented or any((task.transfer or study.transfer).classical for task in own):
        yield (
            f"data.volumes.spacing_mm is null, but {segmented or 'transfer.classical'} is measured "
            "in mm; expected one spacing for all"
        )


def durations(study: Study) -> Iterator[str]:
    """Durations and their decays are whole steps, and the warm-up fits before the decay."""
    pretrain = study.pretrain
    for duration in study.durations:
        decay = pretrain.decay_share * duration
        if duration % pretrain.batch or decay % pretrain.batch:
            yield (
                f"duration {duration} and its decay of {decay:g} samples must be multiples of "
                f"pretrain.batch={pretrain.batch}"
            )
        if pretrain.warmup > duration - decay:
            yield (
                f"pretrain.warmup={pretrain.warmup} samples does not fit before the decay of "
                f"duration {duration}; expected at most {duration - decay:g}"
            )


def grids(study: Study, family: Family) -> Iterator[str]:
    """Crops, windows and volumes are whole patches of a family's encoder."""
    crop, shape = study.pretrain.crop, study.data.volumes.shape
    if all(side <= family.stride for side in crop):
        yield (
            f"pretrain.crop={crop} is one token of {family.stride} voxels of {family.label}; use "
            "fewer levels"
        )
        return
    cube = math.lcm(family.patch, family.stride)
    yield from windows(study, family, cube)
    for axis in range(3):
        if crop[axis] > shape[axis] or crop[axis] % cube or shape[axis] % cube:
            yield (
                f"axis {axis}: pretrain.crop={crop[axis]} and data.volumes.shape={shape[axis]} "
                f"must be multiples of {cube} for {family.label} with patch={family.patch}, and "
                f"the crop must fit into the volume{family.hint}"
            )
            return


def windows(study: Study, family: Family, cube: int) -> Iterator[str]:
    """Windows and grids of tasks are whole patches, and windows fit into their grid."""
    sentences = []
    for task in study.tasks:
        shape, transfer = grid_of(study, task).shape, task.transfer or study.transfer
        if task.volumes and any(side % cube for side in shape):
            sentences.append(
                f"volumes.shape of task {task.name!r} is {shape}; expected multiples of {cube} for "
                f"{family.label}"
            )
        for field in ("finetune", "supervised"):
            recipe = getattr(transfer, field)
            window = recipe.window if recipe else None
            if window and kind_of(task).masks and not fits(window, shape, cube):
                sentences.append(
                    f"transfer.{field}.window is {window}; expected multiples of {cube} voxels for "
                    f"{family.label}, each at most that of data.volumes.shape={shape}"
                )
    yield from dict.fromkeys(sentences)


def grid_of(study: Study, task: Task) -> Volumes:
    """The grid of a task: its own, or that of the study."""
    return task.volumes or study.data.volumes


def fits(window: tuple[int, int, int], shape: tuple[int, int, int], cube: int) -> bool:
    """Whether a window consists of whole cubes and is no larger than the volume."""
    pairs = zip(window, shape, strict=True)
    return all(side <= length and side % cube == 0 for side, length in pairs)


def protocols(study: Study) -> Iterator[str]:
    """The protocol that verdicts are about is tried at all."""
    protocol, shots = study.estimand.protocol, study.estimand.shots
    if getattr(study.transfer, protocol) is None:
        yield f"estimand.protocol is {protocol!r}, but transfer.{protocol} is left out"
    for task in study.tasks:
        if shots is not None and shots not in task.shots:
            yield (
                f"estimand.shots is {shots}, but task {task.name!r} has shots={task.shots}; "
                "expected one of them"
            )
        recipes = task.transfer or study.transfer
        if not any(getattr(recipes, name) for name in ("finetune", "probe", "sgd_probe")):
            yield f"task {task.name!r} leaves out every protocol that tries a checkpoint"


def references(study: Study) -> Iterator[str]:
    """Competitors have names of their own, answer a task, and something reads them."""
    names = [reference.name for reference in study.references]
    tasks = [task.name for task in study.tasks]
    for reference in study.references:
        name = reference.name
        if names.count(name) > 1 or name in OWN_ARMS:
            yield f"a reference is named {name!r}; expected a name of its own"
        if problem := name_problem("a reference", name):
            yield problem
        unknown = [task for task in reference.tasks if task not in tasks]
        if unknown:
            yield (
                f"reference {name!r} names the task {unknown[0]!r}; expected some of "
                f"{', '.join(tasks)}"
            )
        elif not any(reference.answers(task) for task in study.tasks):
            yield (
                f"reference {name!r} answers no task: {reference.kind} have no places, and its "
                "tasks are segmentations; give predictions or weights"
            )
        match reference:
            case Weights():
                yield from architecture(study, reference)
            case Features() | Function():
                yield from probed(study, reference)
            case Predictions():
                pass


def probed(study: Study, reference: Features | Function) -> Iterator[str]:
    """The probe that reads vectors of features is not left out."""
    for task in study.tasks:
        if reference.answers(task) and (task.transfer or study.transfer).probe is None:
            yield (
                f"task {task.name!r} leaves out transfer.probe, which reads the reference "
                f"{reference.name!r}"
            )


def architecture(study: Study, reference: Weights) -> Iterator[str]:
    """The architecture of public weights is on its family's ladder and fits the tasks' grids."""
    family, name = reference.family, reference.name
    if reference.size not in family.rungs():
        yield (
            f"reference {name!r}: size {reference.size!r} is not on the {family.kind} ladder; "
            f"expected one of {', '.join(family.rungs())}"
        )
    cube = math.lcm(family.patch, family.stride)
    for task in study.tasks:
        shape = grid_of(study, task).shape
        if reference.answers(task) and any(side % cube for side in shape):
            yield (
                f"reference {name!r}: the volumes of task {task.name!r} have shape {shape}; "
                f"expected multiples of {cube} for {family.label}{family.hint}"
            )
            return


def batches(study: Study) -> Iterator[str]:
    """Objectives that compare samples find what they compare in a batch."""
    parts, pretrain = study.execution.accumulate, study.pretrain
    for objective in study.objectives:
        if parts > 1 and not objective.separable:
            yield (
                f"execution.accumulate is {parts}, but objective {objective.label!r} needs the "
                "whole batch at once; expected 1: use pretrain.remat or more devices where memory "
                "is short"
            )
    paired = [objective for objective in study.objectives if objective.pairs]
    for objective in paired:
        yield from views(study, objective)
    if pretrain.augment == "none" and pretrain.crop == study.data.volumes.shape:
        for objective in paired:
            if objective.pairs == "crops":
                yield (
                    f"objective {objective.label!r} would see two equal views: pretrain.crop is "
                    "the whole volume and pretrain.augment 'none'; choose a smaller crop, an "
                    'augmentation, or positives="sequences"'
                )


def views(study: Study, objective: ObjectiveConfig) -> Iterator[str]:
    """A batch is whole cases of an objective's views, at least two of them."""
    count, batch = objective.views, study.pretrain.batch
    if count < 2 or (count > 2 and objective.pairs == "sequences"):
        yield (
            f"objective {objective.label!r} has {count} views of pairs={objective.pairs!r}; "
            "expected 2 views of sequences, 2 or more of crops"
        )
    elif count == 2 and (batch % 2 or batch < 4):
        yield (
            f"objective {objective.label!r} learns from pairs: pretrain.batch={batch} "
            "must be even and at least 4"
        )
    elif batch % count or batch < 2 * count:
        yield (
            f"objective {objective.label!r} learns from {count} views of a case: "
            f"pretrain.batch={batch} must be a multiple of {count}, and at least {2 * count}"
        )
