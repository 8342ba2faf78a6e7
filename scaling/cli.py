"""The verbs. `scaling run EXPERIMENT` does everything; the others look at a study, or do one part of it."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Does a larger 3D brain-MRI foundation model, or a longer pretraining, help [bold]this[/] task - and how sure are we?\n\n"
    "Start with [bold]scaling run experiments/quickstart.py[/]: a whole study on two CPU cores, in under ten minutes.",
    epilog="Exit codes: 0 done, 1 some steps failed (the rest is done), 2 wrong input or a changed config.",
)
data_app = typer.Typer(no_args_is_help=True, help="Write, check and prepare collections of scans.")
app.add_typer(data_app, name="data", rich_help_panel="Data")

Experiment = Annotated[Path, typer.Argument(help="Experiment file that defines `study = Study(...)`.", show_default=False)]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="FIELD=VALUE", help='Override a field, e.g. -s pretrain.batch=32 -s \'sizes=["xs","s"]\'.'),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder that holds the studies' folders.")]
RUNS = Path("runs")

console = Console(soft_wrap=True)
errors = Console(stderr=True, soft_wrap=True)


@app.command(rich_help_panel="Studies")
def run(experiment: Experiment, set_: Set = None, out: Out = RUNS) -> None:
    """Run a study: whatever is not done yet, from data to report. Interrupt at any moment; the same command resumes."""
    from scaling.study.experiment import load_study
    from scaling.study.plan import make_plan
    from scaling.study.rundir import plan_status

    plan = make_plan(load_study(experiment, set_ or ()))
    study_dir = out / plan.study.name
    statuses = plan_status(study_dir, plan)
    if all(status == "done" for status in statuses.values()):
        console.print(f"All {len(plan.steps)} steps are done.")
        failures: list[str] = []
    else:
        from scaling.engines.local import run_plan

        failures = run_plan(study_dir, plan, console)
    if (study_dir / "summary.txt").exists():
        console.print((study_dir / "summary.txt").read_text(), markup=False, highlight=False)
    if failures:
        errors.print(f"{len(failures)} of {len(plan.steps)} steps failed or were left out; run again to retry them:", style="red")
        for sentence in failures:
            errors.print(f"  {sentence}", markup=False)
        raise typer.Exit(1)


@app.command(rich_help_panel="Studies")
def plan(experiment: Experiment, set_: Set = None, out: Out = RUNS) -> None:
    """Print every step before anything runs: parameters, samples, FLOPs, memory, estimated hours, status; and the totals."""
    from scaling.engines.listing import print_plan
    from scaling.study.experiment import load_study
    from scaling.study.plan import make_plan
    from scaling.study.rundir import plan_status

    resolved = make_plan(load_study(experiment, set_ or ()))
    print_plan(resolved, plan_status(out / resolved.study.name, resolved), console)


@app.command(rich_help_panel="Studies")
def status(experiment: Experiment, set_: Set = None, out: Out = RUNS) -> None:
    """Print where a study stands: steps by kind and status, what failed and why."""
    from scaling.engines.listing import print_status
    from scaling.study.experiment import load_study
    from scaling.study.plan import make_plan
    from scaling.study.rundir import plan_status

    resolved = make_plan(load_study(experiment, set_ or ()))
    study_dir = out / resolved.study.name
    print_status(study_dir, resolved, plan_status(study_dir, resolved), console)


@app.command(rich_help_panel="Studies")
def collect(experiment: Experiment, set_: Set = None, out: Out = RUNS) -> None:
    """Gather the results of all finished transfers into one tidy table (results.parquet and .csv), also of an unfinished study."""
    from scaling.study.experiment import load_study
    from scaling.study.plan import make_plan
    from scaling.transfer.collect import collect as gather

    resolved = make_plan(load_study(experiment, set_ or ()))
    study_dir = out / resolved.study.name
    gather(study_dir, resolved)
    console.print(f"{study_dir / 'results.csv'}", markup=False)


@app.command(rich_help_panel="Studies")
def report(experiment: Experiment, set_: Set = None, out: Out = RUNS) -> None:
    """Write report.html from the collected table, also of an unfinished study."""
    from scaling.engines.reporting import write_study_report
    from scaling.study.experiment import load_study
    from scaling.study.plan import make_plan

    resolved = make_plan(load_study(experiment, set_ or ()))
    study_dir = out / resolved.study.name
    write_study_report(study_dir, resolved)
    console.print((study_dir / "summary.txt").read_text(), markup=False, highlight=False)


@data_app.command("phantom")
def data_phantom(
    root: Annotated[Path, typer.Argument(help="Folder to write the cohort into.")],
    seed: Annotated[int, typer.Option(help="Seed of the cohort.")] = 0,
    subjects: Annotated[int, typer.Option(help="Number of pretraining subjects.")] = 80,
) -> None:
    """Write a synthetic cohort as NIfTI in the FOMO60K and FOMO25 layouts: several scanners, three tasks, ages and lesions."""
    from scaling.data.phantom import write_phantom
    from scaling.study.phantom import Phantom

    with progress_bar("subjects") as advance:
        write_phantom(root, Phantom(seed=seed, pretraining_subjects=subjects), advance)
    console.print(f"Cohort in {root}", markup=False)


@data_app.command("check")
def data_check(
    root: Annotated[Path, typer.Argument(help="Folder of scans.")],
    manifest: Annotated[Path | None, typer.Option(help="Write the table of files here (parquet).")] = None,
) -> None:
    """Read the headers of a collection and say, file by file, what can be used and why not. Exit code 1 if some cannot."""
    from scaling.data.check import check, summarise

    table = check(root)
    if manifest:
        table.to_parquet(manifest)
    console.print(summarise(table), markup=False, highlight=False)
    if (table["verdict"] != "ok").any():
        raise typer.Exit(1)


@data_app.command("prepare")
def data_prepare(
    root: Annotated[Path, typer.Argument(help="Folder of scans.")],
    cache: Annotated[Path, typer.Argument(help="Folder for the prepared volumes.")],
    spacing: Annotated[float, typer.Option(help="Isotropic spacing in mm.")] = 4.0,
    shape: Annotated[tuple[int, int, int], typer.Option(help="Voxels of the common grid.")] = (40, 48, 40),
) -> None:
    """Bring every scan below a folder to one grid, in a cache that training reads. A scan that cannot be used is listed."""
    from scaling.data.cache import prepare
    from scaling.data.layout import scan_sources
    from scaling.study.config import Source, Split, Volumes

    table = scan_sources(root.parent, (Source(root.name),), Split())
    with progress_bar("scans") as advance:
        index = prepare(root.parent, table, Volumes(spacing, shape), cache, advance)
    failed = index[index["status"] == "failed"]
    console.print(f"{len(index) - len(failed)} scans in {cache}, {len(failed)} could not be used", markup=False)
    for path, reason in zip(failed["path"], failed["reason"], strict=True):
        console.print(f"  {path}: {reason}", markup=False)


class progress_bar:  # noqa: N801 - used as a function
    """A progress bar for one long function: `with progress_bar("scans") as advance` gives its (done, total) callback."""

    def __init__(self, unit: str):
        columns = (TextColumn(unit), BarColumn(), MofNCompleteColumn(), TextColumn("ETA"), TimeRemainingColumn())
        self.display = Progress(*columns, console=errors)
        self.bar = self.display.add_task(unit, total=None)

    def __enter__(self) -> Callable[[int, int], None]:
        self.display.start()
        return lambda done, total: self.display.update(self.bar, completed=done, total=total)

    def __exit__(self, *_: object) -> None:
        self.display.stop()


def main() -> None:
    """Entry point: wrong input ends in one sentence and exit code 2, an interrupt in 130."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        app()
    except (ValueError, OSError) as error:
        errors.print(f"scaling: {error}", style="red", markup=False)
        sys.exit(2)
    except KeyboardInterrupt:
        errors.print("interrupted; run the same command again to resume", style="yellow")
        sys.exit(130)
