"""The verbs on collections of scans: write a synthetic one, check one, prepare one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scaling.cli.terminal import console, progress_bar

if TYPE_CHECKING:
    import pandas as pd

data_app = typer.Typer(no_args_is_help=True, help="Write, check and prepare collections of scans.")


@data_app.command("phantom")
def data_phantom(
    root: Annotated[Path, typer.Argument(help="Folder to write the cohort into.")],
    seed: Annotated[int, typer.Option(help="Seed of the cohort.")] = 0,
    subjects: Annotated[int, typer.Option(help="Number of pretraining subjects.")] = 80,
    spacing: Annotated[
        float, typer.Option(help="Voxels of the anatomy in mm; scanners have voxels of their own.")
    ] = 3.0,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="FIELD=VALUE of scaling/study/phantom.py, such as infarcts.masks=FOLDER; "
            "may be repeated.",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes.", show_default="all cores")] = 0,
) -> None:
    """Write a synthetic cohort as NIfTI: several scanners, labelled tasks, ages and lesions.

    Folders and files are named as in a challenge: --set challenge=NAME, or a .toml or .py file.
    """
    from scaling.phantom.write import write_phantom
    from scaling.runs.experiment import override
    from scaling.study.phantom import Phantom

    phantom = override(
        Phantom(seed=seed, pretraining_subjects=subjects, spacing_mm=spacing), overrides or ()
    )
    with progress_bar("subjects") as advance:
        write_phantom(root, phantom, advance, workers)
    console.print(f"Cohort in {root}", markup=False)


@data_app.command("check")
def data_check(
    root: Annotated[
        Path,
        typer.Argument(
            help="Folder of scans, or a table of them (csv, tsv or parquet with the columns "
            "path and subject)."
        ),
    ],
    manifest: Annotated[
        Path | None,
        typer.Option(
            help="The table of files to write.", show_default="ROOT-manifest.parquet here"
        ),
    ] = None,
    test: Annotated[
        list[str] | None,
        typer.Option(
            help="A test source, by its folder; may be repeated.",
            show_default="found by their labels",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes.", show_default="all cores")] = 0,
    content: Annotated[
        int,
        typer.Option(
            min=0, help="Scans of each source whose voxels are read as well: label maps, skulls."
        ),
    ] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print sources and findings as JSON.")
    ] = False,
) -> None:
    """Read the headers of a collection and say, file by file, what can be used and why not.

    Also: what is stored twice, what is in pretraining and in a test set, which sessions and labels
    are odd. Unchanged files are not read again. Exit code 1 if something was found.
    """
    from scaling.data import summary
    from scaling.data.check import check

    manifest = manifest or Path(f"{root.resolve().name.split('.')[0]}-manifest.parquet")
    with progress_bar("files") as advance:
        checked = check(root, manifest, test or (), advance, workers, content)
    if as_json:
        console.print_json(data=summary.as_json(root, checked) | {"manifest": str(manifest)})
    else:
        console.print(summary.summarise(root, checked), markup=False, highlight=False)
        console.print(f"Manifest: {manifest}", markup=False, highlight=False)
    if checked.findings:
        raise typer.Exit(1)


@data_app.command("prepare")
def data_prepare(
    root: Annotated[Path, typer.Argument(help="Folder of scans, or a table of them.")],
    cache: Annotated[Path, typer.Argument(help="Folder for the prepared volumes.")],
    spacing: Annotated[
        float, typer.Option(help="Isotropic spacing in mm; 0 keeps the voxels of each session.")
    ] = 4.0,
    shape: Annotated[
        tuple[int, int, int], typer.Option(help="Voxels of the common grid, around the head.")
    ] = (40, 48, 40),
    workers: Annotated[int, typer.Option(help="Processes.", show_default="all cores")] = 0,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Also compare the content of scans and masks that are prepared already.",
        ),
    ] = False,
    compressed: Annotated[
        bool, typer.Option("--compressed", help="Take less of the disk, and be slower to read.")
    ] = False,
    twins: Annotated[
        bool,
        typer.Option(
            "--twins",
            help="Also find scans that are nearly equal under two names: defaced, resampled.",
        ),
    ] = False,
) -> None:
    """Bring every scan below a folder to one grid, in a cache that training reads.

    Interrupt at any moment; the same command goes on. A scan that cannot be used is listed, and
    the exit code is then 1.
    """
    from scaling.data.layout import LISTINGS, find_sources, scan_sources
    from scaling.data.leakage import describe_backgrounds
    from scaling.data.participants import REMARKS
    from scaling.data.prepare import prepare
    from scaling.study.config import Source, Split, Volumes

    listed = root.name.endswith(LISTINGS)
    folder, sources = (root.parent, [root.name]) if listed else (root, find_sources(root))
    if not sources:
        raise ValueError(
            f"{root} holds no scans; expected folders such as sub_1/ses_1/ in it, "
            "or name a table of scans instead"
        )
    table = scan_sources(folder, [Source(source) for source in sources], Split())
    with progress_bar("scans") as advance:
        index = prepare(
            folder,
            table,
            Volumes(spacing or None, shape),
            cache,
            advance,
            workers,
            compressed,
            verify,
        )
    usable = index[index["status"] == "ok"]
    console.print(f"{len(usable):,} of {len(index):,} scans are in {cache}", markup=False)
    cut = usable[usable["covered"] < 0.95].sort_values("covered")
    if len(cut):
        worst = f"at worst to {cut['covered'].min():.0%}: {cut['path'].iloc[0]}"
        console.print(
            f"{len(cut):,} heads are cut off by the grid, {worst}; "
            "a larger --shape or --spacing holds more",
            markup=False,
        )
    odd = index[index["reason"] != ""]
    for reason in odd["reason"]:
        console.print(f"  {reason}", markup=False)
    for remark in table.attrs.get(REMARKS, []):
        console.print(f"! {remark}", markup=False)
    for source, scans in usable.groupby("source"):
        for sentence in describe_backgrounds(str(source), scans["background"]):
            console.print(f"! {sentence}", markup=False)
    if twins:
        report_twins(cache, index, workers)
    if len(usable) < len(index):
        raise typer.Exit(1)


def report_twins(cache: Path, index: "pd.DataFrame", workers: int) -> None:
    """Print what is nearly equal under two names, and write who is one person."""
    from scaling.data.twins import PEOPLE, describe_twins, find_twins, people_table
    from scaling.files import write_table

    twins = find_twins(cache, workers)
    for sentence in describe_twins(twins):
        console.print(f"! {sentence}", markup=False)
        write_table(people_table(index, twins), cache / PEOPLE)
        console.print(
            f"  {cache / PEOPLE} has one name for each person: as a source of a study it keeps "
            "them on one side of data.split",
            markup=False,
        )
