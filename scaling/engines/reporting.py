"""From a study's folder to its report: tables, verdicts and pictures of whatever is finished."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scaling.costs.flops import hours
from scaling.engines.evidence import findings, judge
from scaling.files import read_json, write_text
from scaling.report import ReportInput, fit_curves, look_beyond, terminal_summary, write_report
from scaling.runs.plan import Plan, PretrainStep
from scaling.runs.rundir import Status, plan_status
from scaling.study.config import Study
from scaling.transfer.collect import PREDICTIONS, PRETRAINING, RESULTS


def write_study_report(study_dir: Path, plan: Plan) -> None:
    """Write `report.html` and `summary.txt` (what the terminal shows) from the collected tables.

    Raises FileNotFoundError when nothing was collected.
    """
    if not (study_dir / RESULTS).exists():
        raise FileNotFoundError(
            f"{study_dir} has no {RESULTS} to report on; run `scaling run` or `scaling collect` first"
        )
    results = pd.read_parquet(study_dir / RESULTS)
    statuses = plan_status(study_dir, plan)
    predictions = pd.read_parquet(study_dir / PREDICTIONS)
    verdicts, tests, unjudged = judge(predictions, plan.study)
    estimand, asked = plan.study.estimand, findings(predictions, plan.study)
    report = ReportInput(
        name=plan.study.name,
        results=results,
        config=dataclasses.asdict(plan.study),
        provenance=read_json(study_dir / "prepare" / "provenance.json"),
        pretraining=pd.read_parquet(study_dir / PRETRAINING),
        steps=step_table(study_dir, plan, statuses),
        verdicts=verdicts,
        curves=fit_curves(results, estimand.protocol, estimand.domain),
        outlooks=look_beyond(results, estimand.protocol, estimand.domain),
        self_tests=tests,
        findings=asked,
        reconstructions=reconstructions(study_dir, plan),
        problems=[
            *unjudged,
            *(said for one in asked.values() for said in one.problems),
            *find_problems(study_dir, plan, statuses),
        ],
        held_fixed=held_fixed(plan.study),
        saving=saving(plan),
        rates=swept(study_dir / "lr_transfer.csv"),
        schedules=swept(study_dir / "wsd_cosine.csv"),
        protocol=estimand.protocol,
        domain=estimand.domain,
    )
    page = write_report(report, study_dir)
    write_text(study_dir / "summary.txt", terminal_summary(report, page) + "\n")


def step_table(study_dir: Path, plan: Plan, statuses: Mapping[str, Status]) -> pd.DataFrame:
    """One row per step but the report itself: what it was expected to cost, and what it took."""
    accelerator = plan.study.execution.accelerator
    rows = []
    for step in plan.steps[:-1]:
        marker = study_dir / step.name / "DONE"
        rows.append(
            {
                "name": step.name,
                "kind": step.kind,
                "status": statuses[step.name],
                "seconds": read_json(marker)["seconds"] if marker.exists() else np.nan,
                "flops": step.flops,
                "estimated_hours": hours(step.flops, accelerator),
                "accelerator": accelerator,
            }
        )
    return pd.DataFrame(rows)


def reconstructions(
    study_dir: Path, plan: Plan
) -> list[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """A held-out brain, what the encoder saw of it and what the smallest and the largest finished model made of that."""
    found = [
        (step, study_dir / step.name / "reconstruction.npz")
        for step in plan.steps
        if isinstance(step.config, PretrainStep)
        and (study_dir / step.name / "reconstruction.npz").exists()
    ]
    found.sort(key=lambda pair: (pair[0].parameters, pair[0].config.end))  # type: ignore[union-attr]
    pictures = []
    for step, file in found[:1] + found[1:][-1:]:
        with np.load(file) as arrays:
            images = [
                np.asarray(arrays[name], np.float32) for name in ("original", "seen", "filled")
            ]
        pictures.append((step.name.removeprefix("pretrain/"), images[0], images[1], images[2]))
    return pictures


def find_problems(study_dir: Path, plan: Plan, statuses: Mapping[str, Status]) -> list[str]:
    """One sentence for everything that was skipped, left out, failed, or might bias a result."""
    problems: list[str] = []
    for file in (study_dir / "prepare" / "leakage.json", study_dir / "prepare" / "skipped.json"):
        problems += read_json(file) if file.exists() else []
    for step in plan.steps[:-1]:
        error, dropped = study_dir / step.name / "ERROR", study_dir / step.name / "dropped.json"
        if statuses[step.name] == "failed" and error.exists():
            problems.append(f"{step.name} failed: {error.read_text().strip()}")
        elif statuses[step.name] != "done":
            problems.append(f"{step.name} is not finished")
        problems += read_json(dropped) if dropped.exists() else []
        if step.kind == "cooldown" and statuses[step.name] == "done":
            problems += read_json(study_dir / step.name / "summary.json")["warnings"]
    return list(dict.fromkeys(problems))


def held_fixed(study: Study) -> dict[str, Any]:
    """What all runs share, so that only objective, family, size, duration and seed differ."""
    fields = ("families", "pretrain", "transfer", "estimand", "smallest_effects")
    resolved = dataclasses.asdict(study)
    return {field: resolved[field] for field in fields}


def swept(file: Path) -> pd.DataFrame:
    """What a sweep beside the study (`experiments/lr_transfer.py`, `experiments/wsd_cosine.py`) has found, if there was one."""
    return pd.read_csv(file) if file.exists() else pd.DataFrame()


def saving(plan: Plan) -> str:
    """What branching durations off shared trunks saved."""
    spent = sum(step.flops for step in plan.steps if step.kind in ("trunk", "cooldown"))
    if not spent or not plan.flops_saved:
        return ""
    return f"Training every duration on its own would have taken {(spent + plan.flops_saved) / spent:.2f} times the pretraining."
