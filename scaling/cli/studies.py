"""The verbs on studies. `scaling run EXPERIMENT` does everything; the others do one part of it."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

from scaling.cli.edits import warn_of_edited_competitors, warn_of_edits
from scaling.cli.locate import locate
from scaling.cli.terminal import console, errors
from scaling.costs.accelerators import ACCELERATORS
from scaling.engines import slurm
from scaling.engines.engine import Queued
from scaling.engines.jobs import does_not_fit, load_cluster
from scaling.engines.listing import plan_as_json, print_plan, print_status
from scaling.engines.queue_listing import print_jobs
from scaling.runs.definitions import keep_experiment
from scaling.runs.durations import seconds_measured
from scaling.runs.experiment import freeze, load_study
from scaling.runs.plan import Plan, make_plan
from scaling.runs.rundir import Status, plan_status
from scaling.runs.steps import ReferenceStep

studies_app = typer.Typer()

Experiment = Annotated[
    Path,
    typer.Argument(
        help="Experiment file that defines `study = Study(...)`, or the folder or name of a study.",
        show_default=False,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="FIELD=VALUE",
        help='Override a field, e.g. -s pretrain.batch=32 -s \'sizes=["xs","s"]\'.',
    ),
]
Scale = Annotated[
    str | None,
    typer.Option(help="Which of an experiment's scales, where it has several.", show_default=False),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder that holds the studies' folders.")]
RUNS = Path("runs")
PANEL = "Studies"


def planned(
    experiment: Path, overrides: list[str] | None, out: Path, scale: str | None = None
) -> tuple[Plan, Path, dict[str, Status]]:
    """The plan of an experiment with its overrides, the study's folder, and each step's status."""
    place = locate(experiment, out)
    plan = make_plan(load_study(place, overrides or (), scale))
    study_dir = place if place.is_dir() else out / plan.study.name
    return plan, study_dir, plan_status(study_dir, plan)


@studies_app.command(rich_help_panel=PANEL)
def run(
    experiment: Experiment,
    set_: Set = None,
    scale: Scale = None,
    out: Out = RUNS,
    engine: Annotated[
        Literal["local", "slurm"], typer.Option(help="In this process, or as SLURM jobs.")
    ] = "local",
    cluster: Annotated[
        Path | None, typer.Option(help="TOML file of cluster facts, for SLURM.", show_default=False)
    ] = None,
    max_jobs: Annotated[
        int, typer.Option(min=0, help="SLURM jobs of the study in the queue at most; 0: no limit.")
    ] = 0,
    profile: Annotated[
        str,
        typer.Option(
            metavar="STEP..STEP", help="Trace these training steps of every pretraining run."
        ),
    ] = "",
) -> None:
    """Run a study: whatever is not done yet, from data to report.

    Interrupt at any moment; the same command resumes.
    """
    if (engine == "slurm") != (cluster is not None):
        raise ValueError(
            "--engine slurm needs --cluster FILE.toml, and only that; "
            "experiments/clusters/ has examples"
        )
    overrides = [*(set_ or ()), *profile_override(profile)]
    plan, study_dir, statuses = planned(experiment, overrides, out, scale)
    require_competitors(plan, statuses)
    keep_experiment(locate(experiment, out), study_dir, statuses)
    if statuses["prepare"] == "done":
        warn_of_edits(study_dir / "prepare")
        warn_of_edited_competitors(study_dir, statuses)
    if all(status == "done" for status in statuses.values()):
        console.print(f"All {len(plan.steps)} steps are done.")
        show_summary(study_dir)
    elif cluster is None:
        carry_out(study_dir, plan)
    else:
        freeze(plan.study, study_dir)
        facts = load_cluster(cluster)
        tell(study_dir, slurm.submit(study_dir, plan, statuses, facts, max_jobs))


def require_competitors(plan: Plan, statuses: Mapping[str, Status]) -> None:
    """Raise ValueError where what a competitor's missing step would read is not there, or cannot
    be what it should.
    """
    names = [step.name for step in plan.steps if isinstance(step.config, ReferenceStep)]
    if any(statuses[name] != "done" for name in names):
        from scaling.transfer.references.checks import require_sources

        require_sources(plan.study)


def profile_override(steps: str) -> list[str]:
    """`--profile 10..20` as an override of the study's field; "" is none."""
    if not steps:
        return []
    first, dots, last = steps.partition("..")
    if not (dots and first.isdigit() and last.isdigit()):
        raise ValueError(
            f"--profile is {steps!r}; expected the first and last step, such as 10..20"
        )
    return [f"execution.profile=[{first},{last}]"]


def tell(study_dir: Path, submission: slurm.Submission) -> None:
    """Print what went into the queue, and how to add what did not; exit code 1 if anything did
    not.
    """
    for number, jobs in submission.arrays.items():
        names = jobs[0].name if len(jobs) == 1 else f"{jobs[0].name} and {len(jobs) - 1} more"
        console.print(f"{number:>8} {names}", markup=False, highlight=False)
    waiting = len(slurm.queued(study_dir))
    console.print(
        f"{submission.jobs} jobs submitted, {waiting} queued in all; "
        f"`scaling status {study_dir}` shows them",
        markup=False,
    )
    if submission.left_out:
        errors.print(
            f"{len(submission.left_out)} jobs stay out ({submission.reason}), the first is "
            f"{submission.left_out[0].name}; run the same command again once some have ended, it "
            "adds the rest",
            markup=False,
        )
        raise typer.Exit(1)


@studies_app.command(rich_help_panel=PANEL)
def step(
    experiment: Experiment,
    names: Annotated[
        list[str],
        typer.Argument(help="Names of steps, as `scaling plan` shows them.", show_default=False),
    ],
    set_: Set = None,
    scale: Scale = None,
    out: Out = RUNS,
) -> None:
    """Run single steps of a study, in the order given: what an engine calls.

    A step that is done is skipped, one that was interrupted is resumed. Exit code 0: all done.
    """
    plan, study_dir, _ = planned(experiment, set_, out, scale)
    names_of_plan = {step.name for step in plan.steps}
    unknown = [name for name in names if name not in names_of_plan]
    if unknown:
        raise ValueError(
            f"{plan.study.name} has no step {unknown[0]!r}; "
            f"`scaling plan {experiment}` lists its {len(names_of_plan)} steps"
        )
    carry_out(study_dir, plan, names)


def carry_out(study_dir: Path, plan: Plan, chosen: list[str] | None = None) -> None:
    """Freeze a study into its folder and run it, or chosen steps of it, in this process."""
    connect_for(plan)
    from scaling.processes.distributed import is_main

    if is_main():
        freeze(plan.study, study_dir)
    run_here(study_dir, plan, chosen)


def connect_for(plan: Plan) -> None:
    """Connect the processes of a run, of as many devices as the plan's largest mesh."""
    from scaling.processes.xla import configure_xla

    execution = plan.study.execution
    devices = max(math.prod(step.mesh) for step in plan.steps)
    on_gpus = ACCELERATORS[execution.accelerator].platform == "gpu"
    configure_xla(execution.deterministic, devices if on_gpus else 0)
    from scaling.processes.distributed import connect

    connect(devices)


def run_here(study_dir: Path, plan: Plan, chosen: list[str] | None = None) -> None:
    """Run a plan, or chosen steps of it, in connected processes. Ends with the exit code of what
    happened unless all is well.
    """
    from scaling.engines.local import run_plan
    from scaling.processes.distributed import end_together, is_main
    from scaling.processes.signals import INTERRUPTED, Stopped

    if is_main() and (sentence := does_not_fit(plan)):
        errors.print(sentence, style="yellow", markup=False)
    try:
        outcome = run_plan(study_dir, plan, console, chosen)
    except Stopped as stopped:
        if is_main():
            why = "interrupted" if stopped.code == INTERRUPTED else "told to stop"
            line = f"{why}; {stopped}; the same command goes on from here"
            errors.print(line, style="yellow", markup=False)
        end_together(stopped.code)
    if chosen is None:
        show_summary(study_dir)
    if outcome.failures:
        errors.print(
            f"{len(outcome)} of {len(chosen or plan.steps)} steps failed or wait for one that did; "
            "run again to retry them:",
            style="red",
        )
        for sentence in outcome.sentences():
            errors.print(f"  {sentence}", markup=False)
        raise typer.Exit(1)


@studies_app.command(rich_help_panel=PANEL)
def plan(
    experiment: Experiment,
    set_: Set = None,
    scale: Scale = None,
    out: Out = RUNS,
    json: Annotated[
        bool,
        typer.Option(
            "--json", help="As JSON, for other workflow engines; freezes the study into its folder."
        ),
    ] = False,
    compile_for: Annotated[
        Literal["a100", "h100", "h200", "tpu-v5e", "cpu"] | None,
        typer.Option(
            "--compile",
            help="Compile the plan's programs for this accelerator, which need not be at hand, and "
            "print what XLA says of them.",
            show_default=False,
        ),
    ] = None,
    compile_minutes: Annotated[
        float, typer.Option(min=0, help="Minutes after which --compile begins no further program.")
    ] = 10.0,
) -> None:
    """Print every step before anything runs, and the totals.

    Per step: parameters, samples, FLOPs, memory, estimated hours, status.
    """
    if compile_for:
        compile_programs(experiment, [*(set_ or ())], scale, out, compile_for, compile_minutes)
        return
    resolved, study_dir, statuses = planned(experiment, set_, out, scale)
    require_competitors(resolved, statuses)
    if json:
        freeze(resolved.study, study_dir)
        print(plan_as_json(study_dir, resolved, statuses))
        return
    spent = seconds_measured(study_dir, resolved, statuses)
    print_plan(resolved, statuses, console, spent)
    from scaling.engines.preparing import pairs_of_plan

    for sentence in pairs_of_plan(study_dir, resolved.study):
        console.print(sentence, markup=False, highlight=False)


def compile_programs(
    experiment: Path, overrides: list[str], scale: str | None, out: Path, name: str, minutes: float
) -> None:
    """Compile a plan's programs for an accelerator, and print what XLA says of them; exit code 1
    where one does not compile.
    """
    accelerator = {"cpu": "cpu-2"}.get(name, name)
    overrides.append(f"execution.accelerator={accelerator}")
    plan, _, _ = planned(experiment, overrides, out, scale)
    from scaling.processes.xla import configure_compiler

    configure_compiler(max(math.prod(step.mesh) for step in plan.steps))
    from scaling.engines.compiled_listing import print_compiled
    from scaling.engines.compiling import NOT_COMPILED, compile_plan

    outcomes = list(compile_plan(plan, minutes, lambda line: errors.print(line, markup=False)))
    print_compiled(outcomes, accelerator, console)
    if any(outcome.reason not in ("", NOT_COMPILED) for outcome in outcomes):
        raise typer.Exit(1)


@studies_app.command(rich_help_panel=PANEL)
def status(experiment: Experiment, set_: Set = None, scale: Scale = None, out: Out = RUNS) -> None:
    """Print where a study stands: steps by kind and status, what failed and why."""
    resolved, study_dir, statuses = planned(experiment, set_, out, scale)
    print_status(study_dir, resolved, statuses, console)
    if (study_dir / "jobs").exists():
        queue: dict[str, Queued] | None
        try:
            queue = slurm.queued(study_dir)
        except ValueError as error:  # the study can be looked at from anywhere
            queue = None
            errors.print(f"the queue cannot be seen from here: {error}", markup=False)
        print_jobs(study_dir, resolved, statuses, queue, console)


@studies_app.command(rich_help_panel=PANEL)
def cancel(experiment: Experiment, set_: Set = None, scale: Scale = None, out: Out = RUNS) -> None:
    """Cancel a study's SLURM jobs.

    What is saved stays; `scaling run` submits again what is missing.
    """
    _, study_dir, _ = planned(experiment, set_, out, scale)
    names = slurm.cancel(study_dir)
    console.print(f"{len(names)} jobs cancelled", markup=False)


@studies_app.command(rich_help_panel=PANEL)
def collect(experiment: Experiment, set_: Set = None, scale: Scale = None, out: Out = RUNS) -> None:
    """Gather the results of all finished transfers into one tidy table.

    Writes results.parquet and results.csv, also of an unfinished study.
    """
    from scaling.transfer.collect import collect as gather

    resolved, study_dir, _ = planned(experiment, set_, out, scale)
    gather(study_dir, resolved)
    console.print(f"{study_dir / 'results.csv'}", markup=False)


def show_summary(study_dir: Path) -> None:
    """Print the verdicts in words and where the report is, if there is one."""
    summary = study_dir / "summary.txt"
    if summary.exists():
        console.print(summary.read_text().rstrip(), markup=False, highlight=False)
