"""The verbs on a pretrained checkpoint: a submission container, and features for other tools."""

from pathlib import Path
from typing import Annotated

import typer

from scaling.cli.terminal import console, errors, progress_bar
from scaling.study.challenges import CHOICES

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
    task: Annotated[
        str, typer.Option(help="Task of the study, e.g. infarct, or of the challenge, e.g. 6.")
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="New folder for the container's content.", show_default=False
        ),
    ] = None,
    cuda: Annotated[
        bool, typer.Option("--cuda", help="Require jax for an NVIDIA GPU (default: CPU only).")
    ] = False,
    challenge: Annotated[
        str,
        typer.Option(help=f"Keep the contract of a challenge: {CHOICES}."),
    ] = "",
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Then run it on test cases as the challenge does; an OUT that exists is only run.",
        ),
    ] = False,
    cases: Annotated[int, typer.Option(help="Test cases of --check.", min=0)] = 3,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="New folder for the pretrained weights, for PyTorch's users, instead of a "
            "container.",
            show_default=False,
        ),
    ] = None,
    licence: Annotated[
        str, typer.Option(help="Licence of the weights of --weights, for their model card.")
    ] = "",
) -> None:
    """Write the content of a submission container: Apptainer.def, app/predict.py, all they need.

    The checkpoint is fine-tuned on all labelled cases of the task; for a challenge's task of
    embeddings it is the encoder alone. Exit code 1 if --check finds what a challenge would reject.
    With --weights: safetensors, a model card, and of a ViT the module in PyTorch.
    """
    if weights is not None:
        if task or out or challenge or check or cuda:
            raise ValueError("--weights writes no container; leave out all options but --licence")
        write_weights(checkpoint, weights, licence)
        return
    if not task or out is None:
        raise ValueError("export needs --task and --out, or --weights")
    from scaling.handin.embedding_export import export_embedding
    from scaling.handin.export import export as write
    from scaling.handin.inference import read_description
    from scaling.study.challenge import load_challenge

    rules = load_challenge(challenge) if challenge else None
    if check and (out / "app" / "model.json").exists():
        description = read_description(out / "app")
    elif rules is not None and rules.task(task).kind == "embedding":
        with errors.status("measuring features of the pretraining scans, then compiling"):
            description = export_embedding(checkpoint, rules, rules.task(task), out, cuda)
    else:
        with errors.status("finetuning on all labelled cases, then compiling"):
            description = write(checkpoint, task, out, cuda, rules)
    for line in (
        description["what"],
        f"Build:  cd {out} && apptainer build {description['container']}.sif Apptainer.def",
        f"Or try: python {out}/app/predict.py --help",
    ):
        console.print(line, markup=False, highlight=False)
    if check and run_check(checkpoint, out, cases):
        raise typer.Exit(1)


def write_weights(checkpoint: Path, out: Path, licence: str) -> None:
    """Write the weights of a run for others, and say where they are."""
    from scaling.handin.weights import export_weights

    described = export_weights(checkpoint, out, licence)
    for line in (
        f"{out / 'weights.safetensors'}: {described['parameters']:,} parameters of the encoder"
        + (", and its reconstruction decoder" if described["decoder"] else ""),
        f"{out / 'README.md'}: the model card, with how to load them",
    ):
        console.print(line, markup=False, highlight=False)


@handin_app.command("convert-weights", rich_help_panel=PANEL)
def convert(
    source: Annotated[
        Path, typer.Argument(help="A file of torch.save, or .safetensors.", show_default=False)
    ],
    target: Annotated[
        Path,
        typer.Argument(
            help="A .safetensors, or a .pth that nnU-Net reads as pretrained weights.",
            show_default=False,
        ),
    ],
) -> None:
    """Convert weights from torch.save to safetensors, or back. Needs PyTorch (extra: torch).

    A file is read by torch.load(weights_only=True): no code of it is run.
    """
    from scaling.handin.convert import convert_weights

    count = convert_weights(source, target)
    console.print(f"{target}: {count} tensors", markup=False, highlight=False)


def run_check(checkpoint: Path, out: Path, count: int) -> bool:
    """Run a container on test cases and print what came of each; whether anything is wrong."""
    from tempfile import TemporaryDirectory

    from scaling.handin.container_check import CheckedCase, check_container
    from scaling.handin.study_cases import cases_of_checkpoint

    def tell(case: CheckedCase) -> None:
        state = "; ".join(case.problems) or "as the challenge expects"
        console.print(f"{case.name}: {case.seconds:.1f} s, {state}", markup=False, highlight=False)

    with TemporaryDirectory() as scratch:
        cases = cases_of_checkpoint(checkpoint, out, count)
        checked = check_container(out.resolve(), cases, Path(scratch), tell)
    wrong = [case for case in checked if case.problems]
    console.print(f"{len(checked) - len(wrong)} of {len(checked)} cases pass", highlight=False)
    return bool(wrong)


@handin_app.command(rich_help_panel=PANEL)
def embed(
    checkpoint: Checkpoint,
    folder: Annotated[
        Path,
        typer.Argument(
            help="Folder of scans, in any layout, or a table of them.", show_default=False
        ),
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
