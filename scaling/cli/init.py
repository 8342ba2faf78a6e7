"""The verb that writes an experiment file for one's own scans."""

import math
from pathlib import Path
from typing import Annotated

import typer

from scaling.cli.draft import Facts, experiment_text, facts_of
from scaling.cli.terminal import console, progress_bar
from scaling.runs.durations import plan_seconds
from scaling.runs.experiment import load_study
from scaling.runs.plan import Plan, make_plan

init_app = typer.Typer()


@init_app.command(rich_help_panel="Studies")
def init(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Folder of scans (BIDS or FOMO layout), or a table of them.", show_default=False
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File to write.", show_default="NAME-OF-THE-FOLDER.py"),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes.", show_default="all cores")] = 0,
) -> None:
    """Check a collection and write an annotated experiment file for it.

    Sources, sequences, labels, split, grid, sizes and durations are filled in from what the check
    finds; every choice says why, and can be edited. Then run `scaling plan FILE` and
    `scaling run FILE`.
    """
    from scaling.data import summary
    from scaling.data.check import check

    stem = folder.resolve().name.split(".")[0]
    file = out or Path(f"{stem}.py")
    if file.exists():
        raise FileExistsError(f"{file} exists already; name another with --out, or delete it")
    manifest = Path(f"{stem}-manifest.parquet")
    with progress_bar("files") as advance:
        checked = check(folder, manifest, (), advance, workers)
    console.print(summary.summarise(folder, checked), markup=False, highlight=False)
    console.print(f"Manifest: {manifest}\n", markup=False, highlight=False)
    facts = facts_of(folder, checked.manifest)
    plan = write_experiment(file, facts)
    console.print(f"Wrote {file}: {plan_text(plan)}", markup=False, highlight=False)
    if not facts.tasks:
        console.print(
            "No labels were found: fill in the task (a comment in the file says how).",
            markup=False,
        )
    console.print(f"Next: read it, then `scaling run {file}`", markup=False, highlight=False)


def write_experiment(file: Path, facts: Facts) -> Plan | None:
    """Write the experiment file and plan it, which proves it; None where it has no task yet."""
    from scaling.files import write_text

    write_text(file, experiment_text(facts))
    return make_plan(load_study(file)) if facts.tasks else None


def plan_text(plan: Plan | None) -> str:
    """What the study will take."""
    if plan is None:
        return "a study without a task"
    accelerator = plan.study.execution.accelerator
    total = sum(plan_seconds(plan).values()) / 3600
    amount = f"{total:.1f} hours" if total >= 2 else f"{math.ceil(60 * total)} minutes"
    return (
        f"{len(plan.steps)} steps, about {amount} on one {accelerator} (`scaling plan` lists them)"
    )
