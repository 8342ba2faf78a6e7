"""The training curves of a study's pretraining runs, thinned for a page."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from scaling.runs.plan import Plan
from scaling.runs.steps import PretrainStep, Step
from scaling.transfer.collect import rung

POINTS = 120  # of one step's curve: more cannot be told apart on a page
TAIL = 2_000_000  # bytes: of a longer log only evenly spaced lines are read
COLUMNS = (
    "run",
    "step",
    "objective",
    "family",
    "size",
    "params",
    "seed",
    "fraction",
    "part",
    "samples",
    "flops",
    "loss",
    "heldout_loss",
)


def training_curves(study_dir: Path, plan: Plan) -> pd.DataFrame:
    """One row per logged point of every pretraining step, finished or not.

    `run` names the trunk that steps share, `step` the one a point is of, `part` is "trunk" or
    "cooldown"; `flops` are those of the whole run up to a point. `heldout_loss` is NaN where it was
    not logged.
    """
    rows: list[dict[str, Any]] = []
    for step in plan.steps:
        if not isinstance(step.config, PretrainStep):
            continue
        file = study_dir / step.name / "metrics.jsonl"
        if file.exists():
            facts = curve_facts(step)
            rows += [facts | values for values in thinned(list(logged(file)))]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def curve_facts(step: Step) -> dict[str, Any]:
    """What all points of a step's curve share."""
    config = step.config
    assert isinstance(config, PretrainStep)
    name = step.name.removeprefix("pretrain/")
    return {
        "run": name.rpartition("-trunk-")[0] or name.rpartition("-")[0],
        "step": step.name,
        "objective": config.objective.label,
        "family": config.backbone,
        "size": rung(config.backbone, config.size),
        "params": step.parameters,
        "seed": config.seed,
        "fraction": config.fraction,
        "part": step.kind,
    }


def logged(file: Path) -> Iterator[dict[str, float]]:
    """Samples, FLOPs, loss and held-out loss of the lines of a log; a cut last line is left out."""
    stride = max(1, file.stat().st_size // TAIL)
    with file.open() as lines:
        for number, line in enumerate(lines):
            if number % stride and '"heldout_loss"' not in line:
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                return
            yield {
                name: row[name]
                for name in ("samples", "flops", "loss", "heldout_loss")
                if row.get(name) is not None
            }


def thinned(points: list[dict[str, float]]) -> list[dict[str, float]]:
    """At most `POINTS` of a curve, evenly spaced, and every point with a held-out loss."""
    stride = max(1, -(-len(points) // POINTS))
    last = len(points) - 1
    return [
        point
        for place, point in enumerate(points)
        if place % stride == 0 or place == last or "heldout_loss" in point
    ]
