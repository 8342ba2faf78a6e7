"""The verb that scores predictions in the challenge's format."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from scaling.cli.terminal import console, errors

score_app = typer.Typer()


@score_app.command(rich_help_panel="Tables")
def score(
    predictions: Annotated[
        Path, typer.Argument(help="Folder of sub_1.txt or sub_1.nii.gz, ...", show_default=False)
    ],
    labels: Annotated[
        Path,
        typer.Argument(
            help="Folder of sub_1[/ses_1]/label.txt or seg.nii.gz, ...", show_default=False
        ),
    ],
    kind: Annotated[
        Literal["classification", "segmentation", "regression"] | None,
        typer.Option(help="What is scored (default: from the labels)."),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, help="Surfaces closer than this (mm) count as equal in the NSD.")
    ] = 2.0,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Also write a row per case (csv).", show_default=False),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document instead.")
    ] = False,
) -> None:
    """Score predictions in the FOMO25 format: AUROC; Dice and NSD; mean absolute error and Pearson r. Exit code 1 if a case is missing or
    wrong: such cases are told, and left out of the scores.
    """
    from scaling.files import write_table
    from scaling.handin.score import score_folder

    found = score_folder(predictions, labels, kind, tolerance)
    if out:
        write_table(found.cases, out)
    if as_json:
        document = found.to_dict() | (
            {"nsd_tolerance_mm": tolerance} if found.kind == "segmentation" else {}
        )
        typer.echo(json.dumps(document, allow_nan=False))
    else:
        for name, value in found.metrics.items():
            note = f" (tolerance {tolerance:g} mm)" if name == "nsd" else ""
            console.print(
                f"{name}{note}: {value:.4f}"
                if value == value
                else f"{name}: does not exist for these cases",
                highlight=False,
            )
        console.print(f"{len(found.cases)} of {found.expected} cases", highlight=False)
        for problem in found.problems:
            errors.print(problem, markup=False)
    if found.problems:
        raise typer.Exit(1)
