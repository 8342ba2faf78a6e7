"""The verbs on collections of scans: write a synthetic one, check one, prepare one."""

from pathlib import Path
from typing import Annotated

import typer

from scaling.cli.terminal import console, progress_bar

data_app = typer.Typer(no_args_is_help=True, help="Write, check and prepare collections of scans.")


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
