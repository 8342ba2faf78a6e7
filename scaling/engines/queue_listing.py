"""The jobs of a study for the terminal: in the queue, how far they are, or how they ended."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from scaling.engines.engine import Queued, Submitted
from scaling.engines.slurm import ended_states, submitted_jobs
from scaling.runs.durations import plan_seconds, seconds_measured
from scaling.runs.plan import Plan
from scaling.runs.rundir import Status, attempts
from scaling.runs.steps import PretrainStep, Step

LAST_BYTES = 4096  # of a log or of metrics.jsonl, in which the last line is looked for


def print_jobs(
    study_dir: Path,
    plan: Plan,
    statuses: Mapping[str, Status],
    queue: Mapping[str, Queued] | None,
    console: Console,
) -> None:
    """Print the queued jobs and how far they are, those that ended before their steps were done and
    why, and the device hours spent and left. Without a `queue`, which can be seen on the cluster
    only, the hours alone.
    """
    latest: dict[str, tuple[str, Submitted]] = {}  # step -> the last job that was to run it
    for task, job in submitted_jobs(study_dir):
        latest |= dict.fromkeys(job.steps, (task, job))
    unfinished = [step for step in plan.steps if statuses[step.name] != "done"]
    jobs = dict(latest[step.name] for step in unfinished if step.name in latest)
    if queue is not None:
        console.print(queue_table(study_dir, plan, statuses, queue, jobs))
        print_ended([job for task, job in jobs.items() if task not in queue], console)
    seconds = plan_seconds(plan, seconds_measured(study_dir, plan, statuses))
    left = sum(seconds[step.name] for step in unfinished) / 3600
    spent = 0.0
    for step in plan.steps:
        for attempt in attempts(study_dir / step.name):
            spent += attempt["seconds"] * attempt["devices"] / 3600
    console.print(
        f"{spent:.2f} device hours spent, about {left:.2f} left by the plan's estimate",
        highlight=False,
    )


def print_ended(jobs: Sequence[Submitted], console: Console) -> None:
    """Print how jobs ended whose steps are not done, with the last line of their logs."""
    states = ended_states([job.id for job in jobs if job.id])
    for job in jobs:
        state = states.get(job.id, "gone, and SLURM does not say how it ended")
        line = last_line(job.log) or "(no log)"
        sentence = f"{job.id or '-'} {job.name}: {state}; {job.log}: {line}"
        console.print(sentence, markup=False, highlight=False)


def queue_table(
    study_dir: Path,
    plan: Plan,
    statuses: Mapping[str, Status],
    queue: Mapping[str, Queued],
    jobs: Mapping[str, Submitted],
) -> Table:
    """A row for each queued job with something to do."""
    table = Table(box=None, pad_edge=False)
    for heading in ("job", "steps done", "in the queue", "reason", "progress"):
        table.add_column(heading)
    for task, job in jobs.items():
        if task not in queue:
            continue
        entry = queue[task]
        waiting = [name for name in job.steps if statuses[name] != "done"]
        done = f"{len(job.steps) - len(waiting)}/{len(job.steps)}"
        reason = entry.reason.replace("None", "")
        progress = step_progress(study_dir, plan.step_of[waiting[0]]) if waiting else ""
        table.add_row(job.name, done, f"{entry.id} {entry.state}", reason, progress)
    return table


def step_progress(study_dir: Path, step: Step) -> str:
    """How far a pretraining step is, by the last line it logged."""
    line = last_line(study_dir / step.name / "metrics.jsonl")
    if not line or not isinstance(step.config, PretrainStep):
        return ""
    try:
        row = json.loads(line)
        return f"{row['samples'] / step.config.end:.0%}, {row['samples_per_second']:.0f} samples/s"
    except (ValueError, KeyError, TypeError):  # it is being written
        return ""


def last_line(file: Path) -> str:
    """The last line of a file that may be long, "" when there is none."""
    try:
        with file.open("rb") as content:
            content.seek(max(0, file.stat().st_size - LAST_BYTES))
            lines = content.read().decode(errors="replace").split("\n")
    except FileNotFoundError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
