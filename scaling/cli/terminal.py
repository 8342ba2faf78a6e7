"""Where the verbs print: results to standard output, progress and errors to standard error."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

# Wide enough for the tables where the output goes to a file or a pipe.
console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 140)
errors = Console(stderr=True, soft_wrap=True)


@contextmanager
def progress_bar(unit: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar for one long function.

    `with progress_bar("scans") as advance` gives its (done, total) callback.
    """
    columns = (
        TextColumn(unit),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors) as display:
        bar = display.add_task(unit, total=None)
        yield lambda done, total: display.update(bar, completed=done, total=total)
