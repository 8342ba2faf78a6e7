"""Every transfer's results in one tidy table, with the facts of the run they came from."""

from pathlib import Path

import pandas as pd

from scaling.files import read_json, write_table
from scaling.runs.plan import Plan, PretrainStep, Step, TransferStep, trunk_name

RESULTS = "results.parquet"
PREDICTIONS = "predictions.parquet"
PRETRAINING = "pretraining.parquet"


def collect(study_dir: Path, plan: Plan) -> None:
    """Write results.parquet and .csv, predictions.parquet and pretraining.parquet of a study.

    Steps that are not done are left out: the report counts them. Raises ValueError when no
    transfer is done.
    """
    finished = [step for step in plan.steps if (study_dir / step.name / "DONE").exists()]
    transfers = [step for step in finished if isinstance(step.config, TransferStep)]
    if not transfers:
        raise ValueError(
            f"{study_dir} has no finished transfer to collect; run `scaling run` first, "
            "`scaling status` shows why"
        )
    facts = {step.name: run_facts(plan, step) for step in transfers}
    for file in (RESULTS, PREDICTIONS):
        parts = []
        for step in transfers:
            of_step = pd.read_parquet(study_dir / step.name / file)
            parts.append(described(of_step, facts[step.name]))
        table = pd.concat(parts, ignore_index=True)
        write_table(table, study_dir / file)
        if file == RESULTS:
            write_table(table, study_dir / "results.csv")
    runs = [step for step in finished if step.kind == "cooldown"]
    rows = [pretraining_row(study_dir, step) for step in runs]
    write_table(pd.DataFrame(rows), study_dir / PRETRAINING)


def run_facts(plan: Plan, step: Step) -> dict[str, object]:
    """What the tables say of a transfer's run: the same for all its rows."""
    config = step.config
    assert isinstance(config, TransferStep)
    run = step.name.removeprefix("transfer/").removesuffix(f"-{config.task.name}")
    trunk = run
    if config.arm == "pretrained":
        # Durations branched off one trunk are not independent: they are one cluster.
        trunk = trunk_name(config.objective, config.size, config.fraction, config.seed)
    return {
        "study": plan.study.name,
        "run": run,
        "arm": config.arm,
        "objective": config.objective,
        "family": config.backbone,
        "size": rung(config.backbone, config.size),
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
    for step in plan.steps:
        if step.name == transfer.needs[0] and step.kind == "cooldown":
            return step.flops / step.samples * duration
    return 0.0


def rung(family: str, size: str) -> str:
    """The rung of the ladder alone: runs of families other than the ViT are named with theirs."""
    return size.removeprefix(f"{family}-")


def described(table: pd.DataFrame, facts: dict[str, object]) -> pd.DataFrame:
    """Put a run's facts before a table's own columns.

    An untrained encoder that stays frozen is a control of its own (arm "random"), and so is a
    network that was trained on all labelled cases.
    """
    table = pd.concat([pd.DataFrame(facts, index=table.index), table], axis=1)
    untrained, protocol = table["arm"] == "scratch", table["protocol"]
    table.loc[untrained & protocol.isin(["probe", "neighbours"]), "arm"] = "random"
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
