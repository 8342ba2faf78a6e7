"""Plans and their state as tables for the terminal."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.table import Table
from rich.text import Text

from scaling.costs.accelerators import ACCELERATORS
from scaling.costs.reading import cores_asked, crops_asked, crops_of_a_core
from scaling.engines.jobs import does_not_fit, make_jobs
from scaling.runs.durations import (
    cache_bytes,
    checkpoint_bytes,
    plan_seconds,
    scan_bytes,
    seconds_measured,
)
from scaling.runs.plan import Plan
from scaling.runs.rundir import ERROR, Status, damage_of, seconds_spent
from scaling.runs.steps import PretrainStep, Step

COLOURS = {
    "done": "green",
    "failed": "red",
    "damaged": "red",
    "partial": "yellow",
    "stale": "yellow",
    "todo": "",
}


def print_plan(
    plan: Plan, statuses: Mapping[str, Status], console: Console, spent: Mapping[str, float]
) -> None:
    """Every step with its costs, the totals, and what sharing trunks saves. `spent` are the
    device-seconds of finished steps.
    """
    accelerator = plan.study.execution.accelerator
    headings = ("step", "parameters", "samples", "steps", "FLOPs", "mesh", "memory")
    rows = [[*headings, f"hours on {accelerator}", "status"]]
    seconds = plan_seconds(plan, spent)
    for step in plan.steps:
        rows.append([*step_row(step, seconds[step.name] / 3600), statuses[step.name]])
    # One text: a table of rich takes a minute for the thousands of steps of a large study.
    text = Text(no_wrap=True)
    for row, line in zip(rows, aligned(rows), strict=True):
        text.append(f"{line}\n", style=COLOURS.get(row[-1], "bold"))
    console.print(text, end="")
    flops = sum(step.flops for step in plan.steps)
    total = sum(seconds.values()) / 3600
    left = sum(seconds[s.name] for s in plan.steps if statuses[s.name] != "done") / 3600
    pretraining = sum(step.flops for step in plan.steps if step.kind in ("trunk", "cooldown"))
    console.print(
        f"\n{len(plan.steps)} steps, {count(flops)}FLOP: "
        f"about {duration(total)} on one {accelerator}, {duration(left)} of it still to do "
        f"({basis(plan, spent)}); checkpoints take {count(checkpoint_bytes(plan))}B of disk, "
        f"prepared volumes {prepared(plan)}",
        highlight=False,
    )
    if sentence := input_asked(plan):
        console.print(sentence, highlight=False)
    if plan.flops_saved > 0:
        apart = pretraining + plan.flops_saved
        console.print(
            f"Sharing trunks saves {count(plan.flops_saved)}FLOP: every duration trained on its "
            f"own would take {apart / pretraining:.2f} times the pretraining",
            highlight=False,
        )
    if sentence := does_not_fit(plan):
        console.print(sentence, style="red", markup=False)


def basis(plan: Plan, spent: Mapping[str, float]) -> str:
    """What the hours of a plan count, and what they come from."""
    reading = "" if plan.study.data.phantom else "; reading the scans comes on top"
    if spent:
        return f"from the {len(spent)} steps that are done{reading}"
    platform = ACCELERATORS[plan.study.execution.accelerator].platform
    networks = "networks as measured" if platform == "cpu" else "networks at best"
    return f"{networks}, start and compilation included{reading}"


def prepared(plan: Plan) -> str:
    """What prepared volumes take on disk: all of a synthetic cohort, else one scan."""
    total = cache_bytes(plan)
    return f"{count(total)}B" if total else f"{count(scan_bytes(plan))}B a scan"


def input_asked(plan: Plan) -> str:
    """Crops a second that the fastest network asks of its host, and the cores that cut as many; ""
    on a CPU, which is slower than any reader.
    """
    accelerator = plan.study.execution.accelerator
    if ACCELERATORS[accelerator].platform == "cpu":
        return ""
    asked: dict[str, float] = {}
    for step in plan.steps:
        if isinstance(step.config, PretrainStep):
            run = step.config
            arguments = run.objective, run.encoder, run.decoder, run.pretrain
            name = f"{run.backbone} {run.size}"
            asked[name] = max(asked.get(name, 0.0), crops_asked(*arguments, accelerator))
    if not asked:
        return ""
    name = max(asked, key=lambda name: asked[name])
    crop = plan.study.pretrain.crop
    cores = cores_asked(asked[name], crop)
    return (
        f"Input: {name} takes up to {asked[name]:,.0f} crops of {'x'.join(map(str, crop))} a "
        f"second on each {accelerator}: {cores:.1f} cores to cut them, as measured "
        f"({crops_of_a_core(crop):,.0f} a core); with fewer a device training waits, unless all "
        f"volumes stay on the devices (execution.resident_gib)"
    )


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of a table as lines of equal columns, the first and the last to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *middle, last in rows:
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(middle, widths[1:-1], strict=True)]
        lines.append("  ".join([*cells, last]).rstrip())
    return lines


def plan_as_json(study_dir: Path, plan: Plan, statuses: Mapping[str, Status]) -> str:
    """A plan as JSON for other engines.

    `scaling step FOLDER NAME` runs one of its steps once those it needs are done. Per step: name,
    kind, needs, status, job (steps that are worth running as one), devices, mesh (replica, fsdp,
    tensor), memory (bytes a device), hours (on one device).
    """
    accelerator = plan.study.execution.accelerator
    seconds = plan_seconds(plan, seconds_measured(study_dir, plan, statuses))
    steps = [
        {
            "name": step.name,
            "kind": step.kind,
            "needs": step.needs,
            "status": statuses[step.name],
            "job": job.name,
            "devices": job.devices,
            "mesh": step.mesh,
            "memory": step.memory,
            "hours": seconds[step.name] / 3600,
        }
        for job in make_jobs(plan)
        for step in job.steps
    ]
    return json.dumps(
        {
            "study": plan.study.name,
            "folder": str(study_dir),
            "accelerator": accelerator,
            "steps": steps,
        },
        indent=1,
    )


def step_row(step: Step, hours: float) -> list[str]:
    """The cells of one step, "-" where a number has no meaning."""
    numbers = [
        count(step.parameters),
        count(step.samples),
        str(step.steps),
        count(step.flops),
        f"{count(step.memory)}B",
    ]
    given = [step.parameters, step.samples, step.steps, step.flops, step.memory]
    cells = [text if value else "-" for text, value in zip(numbers, given, strict=True)]
    cells.insert(-1, "x".join(map(str, step.mesh)) if step.memory else "-")
    return [step.name, *cells, f"{hours:.4f}"]


def print_status(
    study_dir: Path, plan: Plan, statuses: Mapping[str, Status], console: Console
) -> None:
    """Steps by kind and status, seconds spent, and why steps failed."""
    table = Table(box=None, pad_edge=False)
    states = get_args(Status)
    for heading in ("kind", *states, "seconds spent"):
        table.add_column(heading, justify="left" if heading == "kind" else "right")
    for kind in dict.fromkeys(step.kind for step in plan.steps):
        steps = [step for step in plan.steps if step.kind == kind]
        tally = Counter(statuses[step.name] for step in steps)
        finished = [step for step in steps if statuses[step.name] in ("done", "stale")]
        spent = sum(seconds_spent(study_dir / step.name) or 0.0 for step in finished)
        table.add_row(kind, *(str(tally[state] or "-") for state in states), f"{spent:.1f}")
    console.print(table)
    for step in plan.steps:
        sentence = trouble(study_dir, step, statuses[step.name])
        if sentence:
            console.print(f"{step.name}: {sentence}", style="red", markup=False)
    if (study_dir / "report.html").exists():
        console.print(f"Report: {study_dir / 'report.html'}", markup=False)


def trouble(study_dir: Path, step: Step, status: Status) -> str:
    """Why a step failed, or which of its files is damaged; "" for any other."""
    match status:
        case "failed":
            try:
                return (study_dir / step.name / ERROR).read_text(errors="replace").strip()
            except FileNotFoundError:  # it has just begun again
                return ""
        case "damaged":
            return f"{damage_of(study_dir, step)}; `scaling run` runs it again"
        case _:
            return ""


def count(value: float) -> str:
    """A number with a metric prefix: 1.53 M."""
    for prefix, size in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {prefix}"
    return f"{value:.3g} "


def duration(hours: float) -> str:
    """Hours, or minutes below two of them."""
    return f"{hours:.1f} hours" if hours >= 2 else f"{60 * hours:.1f} minutes"
