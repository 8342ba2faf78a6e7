"""Finished checkpoints on new test data: nothing is pretrained, the same verdict is asked again."""

import dataclasses
import os
import re
from pathlib import Path

import pandas as pd

from scaling.engines.evidence import judge
from scaling.files import write_json
from scaling.runs.plan import Plan, make_plan
from scaling.runs.registration import registered_in_words
from scaling.runs.rundir import PREDICTIONS, plan_status
from scaling.runs.steps import (
    CollectStep,
    PhantomStep,
    PrepareStep,
    PretrainStep,
    ReportStep,
    Step,
    TransferStep,
)
from scaling.study.config import Source, Study, Task


def confirmation_plan(study: Study, study_dir: Path, test: Path, tasks: tuple[str, ...]) -> Plan:
    """The plan of a study's checkpoints on the test cases below `test`.

    Pretraining steps stay as they are, so that they count as done; only scans that transfers read
    are prepared. `tasks` are names of tasks, () for all. Raises ValueError for an unknown task,
    for checkpoints that are missing, and for a folder that does not exist.
    """
    planned = make_plan(study)
    missing = unfinished_checkpoints(study_dir, planned)
    if missing:
        raise ValueError(
            f"{study_dir} has {len(missing)} unfinished pretraining runs, first {missing[0]}; "
            "a confirmation trains nothing: finish the study first (`scaling run`)"
        )
    if not test.exists():
        raise ValueError(f"there is no test data {test}; expected a folder or a table of scans")
    chosen = confirmed_tasks(study, test, tasks)
    data = dataclasses.replace(study.data, pretraining=(), phantom=None)
    confirmed = dataclasses.replace(study, name=f"{study.name}-{tag_of(test)}", tasks=chosen)
    steps: list[Step] = []
    for step in make_plan(confirmed).steps:
        match step.config:
            case PrepareStep():
                config = PrepareStep(data, chosen)
                steps.append(dataclasses.replace(step, config=config, needs=()))
            case TransferStep():
                resolved = dataclasses.replace(step.config, data=data)
                steps.append(dataclasses.replace(step, config=resolved))
            case PhantomStep():
                pass  # the study's own cohort is there
            case PretrainStep() | CollectStep() | ReportStep():
                steps.append(step)
    return Plan(confirmed, tuple(steps), 0.0)


def unfinished_checkpoints(study_dir: Path, plan: Plan) -> list[str]:
    """Names of the pretraining steps of a study that are not done."""
    statuses = plan_status(study_dir, plan)
    names = []
    for step in plan.steps:
        if isinstance(step.config, PretrainStep) and statuses[step.name] != "done":
            names.append(step.name)
    return names


def confirmed_tasks(study: Study, test: Path, names: tuple[str, ...]) -> tuple[Task, ...]:
    """The study's tasks, or those that are named, with `test` as their test source."""
    known = [task.name for task in study.tasks]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"there is no task {unknown[0]!r}; expected one of {', '.join(known)}")
    source = Source(os.path.relpath(test.resolve(), Path(study.data.root).resolve()))
    chosen = []
    for task in study.tasks:
        if not names or task.name in names:
            chosen.append(dataclasses.replace(task, test=(source,), inside=(), folds=0, held_out=0))
    return tuple(chosen)


def tag_of(test: Path) -> str:
    """A name for a confirmation, from the name of its test data."""
    return "confirm-" + re.sub(r"[^\w.-]+", "-", test.resolve().stem)


def open_confirmation(study_dir: Path, plan: Plan, test: Path) -> Path:
    """The folder of a confirmation inside the study's, where its checkpoints are seen as well."""
    folder = study_dir / "confirmations" / plan.study.name
    write_json(folder / "confirmation.json", {"study": study_dir.name, "test": str(test)})
    link = folder / "pretrain"
    if not link.is_symlink():
        target = os.path.relpath(study_dir / "pretrain", folder)
        link.symlink_to(target, target_is_directory=True)
    return folder


def both_answers(study_dir: Path, study: Study, folder: Path, confirmed: Study) -> list[str]:
    """Per task the first verdict and that on the new test cases, a line each."""
    first = verdict_sentences(study_dir, study)
    again = verdict_sentences(folder, confirmed)
    lines = [registered_in_words(study_dir, study)]
    for task in confirmed.tasks:
        lines.append(f"{task.name}, first: {first.get(task.name, 'no verdict')}")
        lines.append(f"{task.name}, on new test cases: {again.get(task.name, 'no verdict')}")
    return lines


def verdict_sentences(study_dir: Path, study: Study) -> dict[str, str]:
    """Task -> its verdict in words, from a study's collected predictions."""
    verdicts, _, _ = judge(pd.read_parquet(study_dir / PREDICTIONS), study)
    return {verdict.task: verdict.sentence for verdict in verdicts}
