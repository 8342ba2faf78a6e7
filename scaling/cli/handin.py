"""The verbs on a pretrained checkpoint: a submission container, and features for other tools."""

from pathlib import Path
from typing import Annotated

import typer

from scaling.cli.terminal import console, errors, progress_bar

handin_app = typer.Typer()

Checkpoint = Annotated[
    Path,
    typer.Argument(
        help="Folder of a finished pretraining run, "
        "e.g. runs/quickstart/pretrain/mae-s-seed0-9600.",
        show_default=False,
    ),
]
PANEL = "Checkpoints"


@handin_app.command(rich_help_panel=PANEL)
def export(
    checkpoint: Checkpoint,
    task: Annotated[str, typer.Option(help="Task of the study, e.g. infarct.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="New folder for the container's content.")
    ],
    cuda: Annotated[
        bool, typer.Option("--cuda", help="Require jax for an NVIDIA GPU (default: CPU only).")
    ] = False,
) -> None:
    """Finetune on all labelled cases of a task and write a FOMO25 submission container's content.

    That is Apptainer.def and app/predict.py with all they need.
    """
    from scaling.handin.export import export as write

    with errors.status("finetuning on all labelled cases, then compiling"):
        description = write(checkpoint, task, out, cuda)
    console.print(description["what"], markup=False, highlight=False)
    console.print(
        f"Build:  cd {out} && apptainer build {task}.sif Apptainer.def",
        markup=False,
        highlight=False,
    )
    console.print(f"Or try: python {out}/app/predict.py --help", markup=False, highlight=False)


@handin_app.command(rich_help_panel=PANEL)
def embed(
    checkpoint: Checkpoint,
    folder: Annotated[
        Path, typer.Argument(help="Folder of NIfTI files, in any layout.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Table to write, .parquet or .csv.")],
    grid: Annotated[
        int,
        typer.Option(
            help="Cells per axis that tokens are averaged in; 1 for one mean of all tokens."
        ),
    ] = 2,
    workers: Annotated[int, typer.Option(help="Processes that read (default: one per core).")] = 0,
) -> None:
    """Write the encoder's features of every scan below a folder: a row per scan.

    Scans that cannot be used are listed.
    """
    from scaling.handin.embed import embed as write

    with progress_bar("scans") as advance:
        failed = write(checkpoint, folder, out, grid, workers, advance)
    console.print(f"Features in {out}, {len(failed)} scans could not be used", markup=False)
    for reason in failed:
        console.print(f"  {reason}", markup=False)
