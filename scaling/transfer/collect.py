"""Every transfer's results in one tidy table, with the facts of the run they came from."""

import json
from fractions import Fraction
from pathlib import Path

import pandas as pd

from scaling.files import write_table
from scaling.runs.plan import Plan, PretrainStep, Step, TransferStep, trunk_name

RESULTS = "results.parquet"
PREDICTIONS = "predictions.parquet"
PRETRAINING = "pretraining.parquet"


def collect(study_dir: Path, plan: Plan) -> None:
    """Write results.parquet and .csv, predictions.parquet and pretraining.parquet into the study's folder.

    Steps that are not done are left out: the report counts them. Raises ValueError when no transfer is done.
    """
    finished = [step for step in plan.steps if (study_dir / step.name / "DONE").exists()]
    transfers = [step for step in finished if isinstance(step.config, TransferStep)]
    if not transfers:
        raise ValueError(
            f"{study_dir} has no finished transfer to collect; run `scaling run` first, `scaling status` shows why"
        )
    facts = {step.name: run_facts(plan, step) for step in transfers}
    for file in (RESULTS, PREDICTIONS):
        table = pd.concat(
            [
                described(pd.read_parquet(study_dir / step.name / file), facts[step.name])
                for step in transfers
            ],
            ignore_index=True,
        )
        write_table(table, study_dir / file)
        if file == RESULTS:
            write_table(table, study_dir / "results.csv")
    runs = [
        step
        for step in finished
        if isinstance(step.config, PretrainStep) and step.kind == "cooldown"
    ]
    write_table(
        pd.DataFrame([pretraining_row(study_dir, plan, step) for step in runs]),
        study_dir / PRETRAINING,
    )


def run_facts(plan: Plan, step: Step) -> dict[str, object]:
    """What the tables say of a transfer's run: the same for all its rows."""
    config = step.config
    assert isinstance(config, TransferStep)
    trained = next(
        (other for other in plan.steps if other.name == step.needs[0] and other.kind == "cooldown"),
        None,
    )
    pretraining = 0.0 if trained is None else trained.flops / trained.samples * config.duration
    run = step.name.removeprefix("transfer/").removesuffix(f"-{config.task.name}")
    return {
        "study": plan.study.name,
        "run": run,
        "arm": config.arm,
        "objective": objective_label(plan, config.objective, config.backbone, config.fraction),
        "backbone": config.backbone,
        "size": config.size,
        "params": step.parameters,
        "fraction": config.fraction,
        "duration": config.duration,
        "flops": pretraining,
        "seed": config.seed,
        # Durations branched off one trunk are not independent: they are one cluster.
        "trunk": trunk_name(config.objective, config.size, config.fraction, config.seed)
        if config.arm == "pretrained"
        else run,
        "task": config.task.name,
    }


def objective_label(plan: Plan, objective: str, backbone: str, fraction: float) -> str:
    """What the tables compare as one objective: a family and a share of the data are levels of their own, so that curves along size and
    duration hold them fixed. They have columns too, `backbone` and `fraction`.
    """
    family = f", {backbone}" if len(plan.study.families) > 1 and objective != "none" else ""
    return f"{objective}{family}" + (
        f", {Fraction(fraction).limit_denominator(100)} of the subjects" if 0 < fraction < 1 else ""
    )


def described(table: pd.DataFrame, facts: dict[str, object]) -> pd.DataFrame:
    """Put a run's facts before a table's own columns. Of an untrained encoder a frozen one is a control of its own, and so is one that
    was trained on all labelled cases.
    """
    table = pd.concat([pd.DataFrame(facts, index=table.index), table], axis=1)
    untrained, protocol = table["arm"] == "scratch", table["protocol"]
    table.loc[untrained & protocol.isin(["probe", "neighbours"]), "arm"] = "random"
    supervised = untrained & protocol.str.startswith("supervised")
    table.loc[supervised, "arm"] = protocol[supervised]
    table.loc[supervised, "protocol"] = "supervised"
    return table


def pretraining_row(study_dir: Path, plan: Plan, step: Step) -> dict[str, object]:
    """One row of the pretraining table: what a cooldown cost and the loss it reached on held-out scans."""
    config = step.config
    assert isinstance(config, PretrainStep)
    summary = json.loads((study_dir / step.name / "summary.json").read_text())
    return {
        "run": step.name.removeprefix("pretrain/"),
        "objective": objective_label(
            plan, config.objective.label, config.backbone, config.fraction
        ),
        "backbone": config.backbone,
        "size": config.size,
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
