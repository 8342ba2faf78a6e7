"""The verbs that keep a study honest: `register` fixes a design, `confirm` asks it again."""

from pathlib import Path
from typing import Annotated

import typer

from scaling.cli.studies import (
    PANEL,
    RUNS,
    Experiment,
    Out,
    Scale,
    Set,
    connect_for,
    planned,
    run_here,
)
from scaling.cli.terminal import console

evidence_app = typer.Typer()

Test = Annotated[
    Path,
    typer.Option(help="Folder or table of the new test cases, labelled as the study's are."),
]
Tasks = Annotated[
    list[str] | None,
    typer.Option("--task", help="Task to ask again; may be repeated; all by default."),
]


@evidence_app.command(rich_help_panel=PANEL)
def register(
    experiment: Experiment, set_: Set = None, scale: Scale = None, out: Out = RUNS
) -> None:
    """Fix a study's design, with its digest, before any test case is read.

    The page then shows whether the design was registered and what was changed since. Refused when
    test cases have been read already.
    """
    from scaling.runs.registration import register as write_registration

    resolved, study_dir, _ = planned(experiment, set_, out, scale)
    console.print(write_registration(study_dir, resolved), markup=False)


@evidence_app.command(rich_help_panel=PANEL)
def confirm(
    experiment: Experiment,
    test: Test,
    task: Tasks = None,
    set_: Set = None,
    scale: Scale = None,
    out: Out = RUNS,
) -> None:
    """Try a finished study's checkpoints on new test cases and ask its verdict again.

    Nothing is pretrained. The answer stands in confirmations/ in the study's folder, beside the
    first one.
    """
    from scaling.engines.confirm import both_answers, confirmation_plan, open_confirmation

    resolved, study_dir, _ = planned(experiment, set_, out, scale)
    plan = confirmation_plan(resolved.study, study_dir, test, tuple(task or ()))
    folder = open_confirmation(study_dir, plan, test)
    connect_for(plan)
    run_here(folder, plan)
    for line in both_answers(study_dir, resolved.study, folder, plan.study):
        console.print(line, markup=False, highlight=False)
