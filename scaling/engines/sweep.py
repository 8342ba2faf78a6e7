"""Sweeps of short runs beside a study: a table of held-out losses that grows by a row a run, and
goes on where it was.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import Progress

from scaling.data.cache import Cache
from scaling.files import write_table
from scaling.runs.steps import PretrainStep
from scaling.training.sweep import Peak, loss_after

SweptRun = tuple[dict[str, Any], PretrainStep, Peak | None]


def run_sweep(
    table: Path, runs: Sequence[SweptRun], cache: Cache, title: str, console: Console
) -> pd.DataFrame:
    """Run what the csv `table` lacks of `runs`, each (the columns that tell it, its config, its
    rate as `loss_after` takes it).

    Returns the whole table: those columns and the `loss`.
    """
    rows: list[Any] = pd.read_csv(table).to_dict("records") if table.exists() else []
    done = [{column: row[column] for column in row if column != "loss"} for row in rows]
    missing = [run for run in runs if run[0] not in done]
    with Progress(console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task(title, total=len(missing))
        for number, (columns, config, peak) in enumerate(missing):

            def advance(done: float, total: float, before: int = number) -> None:
                progress.update(bar, completed=before + done / total)

            loss = loss_after(config, cache, advance, peak)
            rows.append(columns | {"loss": loss})
            write_table(pd.DataFrame(rows), table)
    return pd.DataFrame(rows)
