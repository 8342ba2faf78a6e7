"""Every transfer's results in one tidy table, with the facts of the run they came from."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from scaling.data.grids import open_grid
from scaling.data.tasks import task_volumes
from scaling.files import read_json, read_marker, read_parquet, write_table
from scaling.runs.digests import DamagedError, require_whole
from scaling.runs.plan import Plan, trunk_name
from scaling.runs.rundir import DONE, PREDICTIONS, disown
from scaling.runs.steps import PretrainStep, ReferenceStep, Step, TransferStep
from scaling.transfer.groups import fairness, group_columns, group_table

RESULTS = "results.parquet"
PRETRAINING = "pretraining.parquet"
COLLECTED = (RESULTS, PREDICTIONS, "summary.json")  # what is read of a transfer or of a cooldown
GROUPS = "groups.parquet"
FAIRNESS = "fairness.parquet"


def collect(study_dir: Path, plan: Plan) -> None:
    """Write results.parquet and .csv, predictions.parquet and pretraining.parquet of a study.

    Steps that are not done are left out: the report counts them. Raises ValueError when no
    transfer is done.
    """
    finished = [step for step in plan.steps if is_whole(study_dir, plan, step)]
    transfers = [step for step in finished if isinstance(step.config, TransferStep)]
    if not transfers:
        raise ValueError(
            f"{study_dir} has no finished transfer to collect; run `scaling run` first, "
            "`scaling status` shows why"
        )
    facts = [run_facts(plan, step) for step in transfers]
    for file in (RESULTS, PREDICTIONS):
        tables = [read_parquet(study_dir / step.name / file) for step in transfers]
        table = described(tables, facts)
        if file == PREDICTIONS:
            table = with_groups(study_dir, plan, table)
        write_table(table, study_dir / file)
        if file == RESULTS:
            write_table(table, study_dir / "results.csv")
    runs = [step for step in finished if step.kind == "cooldown"]
    rows = [pretraining_row(study_dir, step) for step in runs]
    write_table(pd.DataFrame(rows), study_dir / PRETRAINING)


def is_whole(study_dir: Path, plan: Plan, step: Step) -> bool:
    """Whether a step is done and the files that are collected from it are what was written. One
    that is not is named on standard error, left out, and run again by the next `scaling run`.
    """
    folder = study_dir / step.name
    done = read_marker(folder / DONE)
    if done is None or step.kind not in ("cooldown", "transfer"):
        return False
    records = done.get("files", {})
    try:
        require_whole(folder, records, [name for name in COLLECTED if name in records])
    except DamagedError as error:
        print(f"scaling: {error}; {step.name} is left out", file=sys.stderr, flush=True)
        disown(study_dir, plan, error.file, str(error))
        return False
    return True


def with_groups(study_dir: Path, plan: Plan, predictions: pd.DataFrame) -> pd.DataFrame:
    """Predictions with the groups of their cases; writes groups.parquet, every metric by group, and
    fairness.parquet, where tasks have groups.
    """
    tables = []
    for task in plan.study.tasks:
        rows = predictions["task"] == task.name
        if not task.groups or not rows.any():
            continue
        cache = open_grid(study_dir / "prepare", task_volumes(task, plan.study.data))
        groups = group_columns(cache.index, task)
        for column in groups:
            predictions.loc[rows, column] = predictions.loc[rows, "case"].map(groups[column])
        tables.append(group_table(predictions[rows], task).assign(task=task.name))
    if tables:
        together = pd.concat(tables, ignore_index=True)
        write_table(together, study_dir / GROUPS)
        fair = [fairness(table).assign(task=table["task"].iloc[0]) for table in tables]
        write_table(pd.concat(fair, ignore_index=True), study_dir / FAIRNESS)
    return predictions


def run_facts(plan: Plan, step: Step) -> dict[str, object]:
    """What the tables say of a transfer's run: the same for all its rows."""
    config = step.config
    assert isinstance(config, TransferStep)
    run = step.name.removeprefix("transfer/").rsplit(f"-{config.task.name}", 1)[0]
    trunk = run
    if config.arm == "pretrained":
        # Durations branched off one trunk are not independent: they are one cluster.
        trunk = trunk_name(config.objective, config.size, config.fraction, config.seed)
    return {
        "study": plan.study.name,
        "run": run,
        "arm": config.reference.name if isinstance(config, ReferenceStep) else config.arm,
        "objective": config.objective,
        "family": config.backbone,
        "size": "" if config.arm == "reference" else rung(config.backbone, config.size),
        "params": step.parameters,
        "fraction": config.fraction,
        "duration": config.duration,
        "flops": pretraining_flops_of(plan, step, config.duration),
        "seed": config.seed,
        "trunk": trunk,
        "task": config.task.name,
    }


def pretraining_flops_of(plan: Plan, transfer: Step, duration: int) -> float:
    """FLOPs of the pretraining that a transfer starts from; 0 of a control."""
    run = plan.step_of[transfer.needs[0]]
    return run.flops / run.samples * duration if run.kind == "cooldown" else 0.0


def rung(family: str, size: str) -> str:
    """The rung of the ladder alone: runs of families other than the ViT are named with theirs."""
    return size.removeprefix(f"{family}-")


def described(
    tables: Sequence[pd.DataFrame], facts: Sequence[Mapping[str, object]]
) -> pd.DataFrame:
    """The tables of all runs as one, each run's facts before its tables' own columns.

    An untrained encoder that stays frozen is a control of its own (arm "random"), and so are a
    network that was trained on all labelled cases, and the histogram among the classical controls.
    """
    rows = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    repeated = pd.DataFrame(list(facts)).iloc[rows].reset_index(drop=True)
    table = pd.concat([repeated, pd.concat(tables, ignore_index=True)], axis=1)
    untrained, protocol = table["arm"] == "scratch", table["protocol"]
    table.loc[untrained & protocol.isin(["probe", "neighbours"]), "arm"] = "random"
    table.loc[(table["arm"] == "classical") & (protocol == "histogram"), "arm"] = "histogram"
    supervised = untrained & protocol.str.startswith("supervised")
    table.loc[supervised, "arm"] = protocol[supervised]
    table.loc[supervised, "protocol"] = "supervised"
    return table


def pretraining_row(study_dir: Path, step: Step) -> dict[str, object]:
    """What a cooldown cost and the loss it reached on held-out scans."""
    config = step.config
    assert isinstance(config, PretrainStep)
    summary = read_json(study_dir / step.name / "summary.json")
    return {
        "run": step.name.removeprefix("pretrain/"),
        "objective": config.objective.label,
        "family": config.backbone,
        "size": rung(config.backbone, config.size),
        "params": step.parameters,
        "fraction": config.fraction,
        "duration": config.end,
        "seed": config.seed,
        "loss": summary["heldout_loss"],
        "embedding_rank": summary["embedding_rank"],
        "embedding_std": summary["embedding_std"],
        "flops": summary["flops"],
        "seconds": summary["seconds"],
        "samples_per_second": summary["samples_per_second"],
        "input_wait": summary["input_wait"],
    }
