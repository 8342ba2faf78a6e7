"""Sentences on inputs that were edited after a study had read them."""

from collections.abc import Mapping
from pathlib import Path

from scaling.cli.terminal import console
from scaling.runs.rundir import Status


def warn_of_edits(prepared: Path) -> None:
    """Say that scans were edited after they were prepared and learnt from."""
    from scaling.data.grids import edited_scans

    edited = edited_scans(prepared)
    if edited:
        console.print(
            f"{len(edited)} scans or their masks were edited since they were prepared, first "
            f"{edited[0]}: the results here are of what they were. For what they are now, give the "
            "study another name",
            style="yellow",
            markup=False,
        )


def warn_of_edited_competitors(study_dir: Path, statuses: Mapping[str, Status]) -> None:
    """Say what of a competitor was edited after a finished step had read it: a table, a folder, a
    function, or a file that it imports.
    """
    finished = [name for name, status in statuses.items() if status == "done"]
    competitors = [name for name in finished if name.startswith("transfer/reference-")]
    if not competitors:
        return  # most studies: what reads features takes seconds to import
    from scaling.transfer.references.stamps import edited_files

    for name in competitors:
        edited = edited_files(study_dir / name)
        if edited:
            console.print(
                f"{name} has read {', '.join(map(str, edited))}, edited since: its results are of "
                f"what that was. Delete {study_dir / name} and run again",
                style="yellow",
                markup=False,
            )
