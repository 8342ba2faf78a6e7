"""The verdict of a study that was run here, from its folder, after what must be known first."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from scaling.cli.table_options import emit
from scaling.runs.experiment import FROZEN, load_study
from scaling.runs.rundir import PREDICTIONS

if TYPE_CHECKING:
    import pandas as pd

TABLES = (PREDICTIONS, "results.parquet", "results.csv")


def folder_of_study(source: Path) -> Path | None:
    """The folder of the study that `source` is, or that it is a table of; None for other tables."""
    folder = source.parent if source.name in TABLES else source
    return folder if (folder / FROZEN).is_file() else None


def standing_of(folder: Path) -> list[str]:
    """Whether the design was registered, and who had seen the test cases; none before results."""
    from scaling.engines.standing import standing

    if not (folder / PREDICTIONS).is_file():
        return []
    return standing(load_study(folder), _predictions(folder), folder)


def print_verdict_of_study(folder: Path, as_json: bool) -> None:
    """The study's own verdicts on its predictions, after `standing_of`.

    Raises FileNotFoundError where nothing was collected yet."""
    from scaling.engines.evidence import judge

    if not (folder / PREDICTIONS).is_file():
        raise FileNotFoundError(
            f"{folder} has no {PREDICTIONS} to judge: run `scaling run` or `scaling collect` first"
        )
    verdicts, _, problems = judge(_predictions(folder), load_study(folder))
    first = standing_of(folder)
    sentences = list(first)
    for verdict in verdicts:
        sentences += [verdict.sentence, *(f"  {note}" for note in verdict.notes)]
    document: dict[str, Any] = {
        "standing": first,
        "verdicts": [verdict.to_dict() for verdict in verdicts],
        "problems": problems,
    }
    emit(document, as_json, [*sentences, *problems])
    if not verdicts:
        raise typer.Exit(1)


def _predictions(folder: Path) -> "pd.DataFrame":
    import pandas as pd

    return pd.read_parquet(folder / PREDICTIONS)
