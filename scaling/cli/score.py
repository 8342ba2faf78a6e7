"""The verb that scores a folder of predictions."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from scaling.cli.terminal import console, errors
from scaling.study.challenges import CHOICES

if TYPE_CHECKING:
    from scaling.handin.scores import Scores

score_app = typer.Typer()


@score_app.command(rich_help_panel="Tables")
def score(
    predictions: Annotated[
        Path,
        typer.Argument(
            help="Folder of sub_1.txt, sub_1.nii.gz or sub_1.npy, ...", show_default=False
        ),
    ],
    labels: Annotated[
        Path,
        typer.Argument(
            help="Folder of sub_1/ses_1/label.txt or seg.nii.gz, ...; for embeddings a table.",
            show_default=False,
        ),
    ],
    kind: Annotated[
        Literal["classification", "segmentation", "regression"] | None,
        typer.Option(help="What is scored (default: from the labels)."),
    ] = None,
    challenge: Annotated[
        str,
        typer.Option(help=f"Score by the rules of a challenge: {CHOICES}."),
    ] = "",
    task: Annotated[
        str, typer.Option(help="Task of the challenge, e.g. 4 (default: from the labels).")
    ] = "",
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Surfaces closer than this (mm) count as equal in the NSD "
            "(default: the challenge's, or 2).",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Also write a row per case (csv).", show_default=False),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document instead.")
    ] = False,
) -> None:
    """Score predictions: AUROC; Dice and NSD; mean absolute error and Pearson r.

    Cases that are missing or wrong are listed, with exit code 1. They are excluded from the
    scores, or cost what the challenge says.
    """
    from scaling.files import write_table
    from scaling.handin.challenge_score import score_challenge
    from scaling.handin.score import score_folder
    from scaling.study.challenge import load_challenge

    if task and not challenge:
        raise ValueError("--task names a task of a challenge; give --challenge as well")
    if challenge:
        if tolerance is not None:
            raise ValueError("--tolerance is the challenge's own; leave one of the options out")
        scores = score_challenge(predictions, labels, load_challenge(challenge), task, kind)
    else:
        tolerance = 2.0 if tolerance is None else tolerance
        scores = score_folder(predictions, labels, kind, tolerance)
    if out:
        write_table(scores.cases, out)
    if as_json:
        document = scores.to_dict()
        if scores.kind == "segmentation" and tolerance is not None:
            document["nsd_tolerance_mm"] = tolerance
        typer.echo(json.dumps(document, allow_nan=False))
    else:
        print_scores(scores, tolerance)
    if scores.problems:
        raise typer.Exit(1)


def print_scores(scores: "Scores", tolerance: float | None) -> None:
    """A line per metric, the number of cases, and every problem."""
    for name, value in scores.metrics.items():
        note = ""
        if name == "nsd" and tolerance is not None:
            note = f" (tolerance {tolerance:g} mm)"
        text = f"{name}{note}: {value:.4f}"
        if value != value:  # NaN
            text = f"{name}: does not exist for these cases"
        console.print(text, highlight=False)
    console.print(f"{len(scores.cases)} of {scores.expected} cases", highlight=False)
    for problem in scores.problems:
        errors.print(problem, markup=False)
