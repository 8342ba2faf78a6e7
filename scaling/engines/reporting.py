"""From a study's folder to its report: tables, verdicts and pictures of whatever is finished."""

import dataclasses
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scaling.data.cache import INDEX
from scaling.data.grids import recorded_parts
from scaling.data.licences import COLLECTIONS
from scaling.engines.by_group import by_group, confusions
from scaling.engines.evidence import findings, judge
from scaling.engines.standing import standing
from scaling.engines.training_curves import training_curves
from scaling.files import read_json, read_marker, write_text
from scaling.report import ReportInput, fit_curves, look_beyond, terminal_summary, write_report
from scaling.runs.anonymity import identifying, without_paths, without_people
from scaling.runs.digests import DamagedError, flipped, require_whole
from scaling.runs.durations import plan_seconds
from scaling.runs.plan import Plan
from scaling.runs.rundir import DESCRIBING, DONE, PREDICTIONS, Status, plan_status
from scaling.runs.steps import PretrainStep, Step, TransferStep
from scaling.study.challenge import published_challenges
from scaling.study.config import Study
from scaling.transfer.collect import PRETRAINING, RESULTS


def write_study_report(study_dir: Path, plan: Plan) -> None:
    """Write `report.html` and `summary.txt` (what the terminal shows) from the collected tables.

    Raises FileNotFoundError when nothing was collected, DamagedError when a collected table is not
    what was written.
    """
    if not (study_dir / RESULTS).exists():
        raise FileNotFoundError(
            f"{study_dir} has no {RESULTS} to report on; "
            "run `scaling run` or `scaling collect` first"
        )
    damaged = flipped_table(study_dir)
    if damaged:
        raise DamagedError(damaged, "its content is not what was written")
    results = pd.read_parquet(study_dir / RESULTS)
    pretraining = pd.read_parquet(study_dir / PRETRAINING)
    statuses = plan_status(study_dir, plan)
    predictions = pd.read_parquet(study_dir / PREDICTIONS)
    verdicts, tests, unjudged = judge(predictions, plan.study)
    estimand = plan.study.estimand
    answers = findings(predictions, plan.study)
    problems = list(unjudged)
    for answer in answers.values():
        problems += answer.problems
    problems += find_problems(study_dir, plan, statuses)
    sentences = standing(plan.study, predictions, study_dir)
    config = dataclasses.asdict(plan.study)
    if plan.study.execution.anonymous:
        people = subjects_of(study_dir / "prepare")
        problems = [without_people(sentence, people) for sentence in problems]
        sentences = [without_people(sentence, people) for sentence in sentences]
        config = without_paths(config)
    report = ReportInput(
        name=plan.study.name,
        results=results,
        config=config,
        provenance=read_json(study_dir / "prepare" / "provenance.json"),
        pretraining=pretraining,
        training=training_curves(study_dir, plan),
        steps=step_table(study_dir, plan, statuses),
        runs=finished_runs(plan, statuses),
        verdicts=verdicts,
        curves=fit_curves(results, estimand.protocol, estimand.domain),
        outlooks=look_beyond(results, estimand.protocol, estimand.domain, pretraining),
        self_tests=tests,
        findings=answers,
        confusions=confusions(predictions, plan.study),
        groups=by_group(predictions, plan.study),
        leaderboard=leaderboard_of(plan.study) if answers else pd.DataFrame(),
        reconstructions=reconstructions(study_dir, plan),
        problems=problems,
        standing=sentences,
        collections=collections_of(study_dir),
        held_fixed=held_fixed(plan.study),
        saving=saving(plan),
        rates=swept(study_dir / "lr_transfer.csv"),
        schedules=swept(study_dir / "wsd_cosine.csv"),
        protocol=estimand.protocol,
        domain=estimand.domain,
    )
    page = write_report(report, study_dir)
    write_text(study_dir / "summary.txt", terminal_summary(report, page) + "\n")


def flipped_table(study_dir: Path) -> Path | None:
    """A collected table whose content has changed by itself, if there is one."""
    collected = study_dir / "collect"
    return flipped(collected, (read_marker(collected / DONE) or {}).get("files", {}))


def leaderboard_of(study: Study) -> pd.DataFrame:
    """The leaderboard of the first published challenge whose tasks the study has, all of them; no
    rows where there is none.
    """
    tried = {task.name for task in study.tasks}
    for challenge in published_challenges():
        names = {task.name for task in challenge.tasks}
        if challenge.leaderboard and names <= tried:
            return pd.read_csv(challenge.leaderboard, comment="#")
    return pd.DataFrame()


def collections_of(study_dir: Path) -> list[dict[str, Any]]:
    """The collections of a study; none where it was prepared before they were written down."""
    file = study_dir / "prepare" / COLLECTIONS
    return read_json(file) if file.exists() else []


def subjects_of(prepared: Path) -> frozenset[str]:
    """The ids of a study's subjects that tell who somebody is."""
    folders = [prepared / part.folder for part in recorded_parts(prepared)]
    tables = [pd.read_parquet(folder / INDEX, columns=["subject"]) for folder in folders]
    return identifying(pd.concat(tables)["subject"].unique())


def step_table(study_dir: Path, plan: Plan, statuses: Mapping[str, Status]) -> pd.DataFrame:
    """One row per step that does not describe the others: its estimated and its real cost."""
    accelerator = plan.study.execution.accelerator
    estimated = plan_seconds(plan)
    rows = []
    for step in plan.steps:
        if step.kind in DESCRIBING:
            continue
        marker = study_dir / step.name / "DONE"
        seconds = read_json(marker)["seconds"] if marker.exists() else np.nan
        rows.append(
            {
                "name": step.name,
                "kind": step.kind,
                "status": statuses[step.name],
                "seconds": seconds,
                "flops": step.flops,
                "estimated_hours": estimated[step.name] / 3600,
                "accelerator": accelerator,
            }
        )
    return pd.DataFrame(rows)


def finished_runs(plan: Plan, statuses: Mapping[str, Status]) -> dict[str, tuple[int, int]]:
    """Task -> how many of its planned pretrained runs have finished, and how many are planned."""
    counts: dict[str, tuple[int, int]] = {}
    for step in plan.steps:
        config = step.config
        if not isinstance(config, TransferStep) or config.arm != "pretrained":
            continue
        finished, planned = counts.get(config.task.name, (0, 0))
        done = statuses[step.name] == "done"
        counts[config.task.name] = (finished + done, planned + 1)
    return counts


RECONSTRUCTION = "reconstruction.npz"
Picture = tuple[str, np.ndarray, np.ndarray, np.ndarray]


def reconstructions(study_dir: Path, plan: Plan) -> list[Picture]:
    """A held-out brain as the smallest and the largest finished model reconstruct it.

    Each is (run, original, what the encoder saw, reconstruction), arrays [D, H, W]. One that is
    damaged is named on standard error and left out.
    """
    finished: list[tuple[int, int, Step]] = []
    for step in plan.steps:
        pictured = (study_dir / step.name / RECONSTRUCTION).exists()
        if isinstance(step.config, PretrainStep) and pictured:
            finished.append((step.parameters, step.config.end, step))
    finished.sort(key=lambda entry: entry[:2])
    pictures = []
    for _, _, step in finished[:1] + finished[1:][-1:]:
        try:
            arrays = read_reconstruction(study_dir / step.name)
        except DamagedError as error:
            print(f"scaling: {error}; the report leaves it out", file=sys.stderr, flush=True)
            continue
        pictures.append((step.name.removeprefix("pretrain/"), *arrays))
    return pictures


def read_reconstruction(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A held-out brain [D, H, W] of a pretraining run: original, seen, filled. Raises
    DamagedError.
    """
    records = (read_marker(folder / DONE) or {}).get("files", {})
    if RECONSTRUCTION in records:
        require_whole(folder, records, [RECONSTRUCTION])
    try:
        with np.load(folder / RECONSTRUCTION) as arrays:
            original, seen, filled = (
                np.asarray(arrays[name], np.float32) for name in ("original", "seen", "filled")
            )
    except (OSError, ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise DamagedError(folder / RECONSTRUCTION, f"it cannot be read ({error})") from error
    return original, seen, filled


def find_problems(study_dir: Path, plan: Plan, statuses: Mapping[str, Status]) -> list[str]:
    """One sentence for everything that was excluded, failed, or might bias a result.

    A step that has not run yet is no problem: the page counts those in its interim banner.
    """
    problems: list[str] = []
    for name in ("leakage.json", "skipped.json", "grids.json", "pairs.json"):
        file = study_dir / "prepare" / name
        problems += read_json(file) if file.exists() else []
    for step in plan.steps:
        if step.kind in DESCRIBING:
            continue
        error, dropped = study_dir / step.name / "ERROR", study_dir / step.name / "dropped.json"
        if statuses[step.name] == "failed" and error.exists():
            problems.append(f"{step.name} failed: {error.read_text().strip()}")
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
    """The table of a sweep beside the study, empty if there was none.

    `experiments/lr_transfer.py` and `experiments/wsd_cosine.py` write such tables.
    """
    return pd.read_csv(file) if file.exists() else pd.DataFrame()


def saving(plan: Plan) -> str:
    """What branching durations off shared trunks saved."""
    spent = sum(step.flops for step in plan.steps if step.kind in ("trunk", "cooldown"))
    if not spent or not plan.flops_saved:
        return ""
    ratio = (spent + plan.flops_saved) / spent
    return f"Training every duration on its own would have taken {ratio:.2f} times the pretraining."
