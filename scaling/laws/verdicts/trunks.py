"""Durations of one seed are read as one trunk, unless the table says otherwise.

In a study of durations that branch off one trunk, or of checkpoints of one training run, the runs
of a seed share most of their training. Taking them for independent claims an effect of size in
every third study that has none.
"""

import pandas as pd

CELL = ("arm", "objective", "block", "network", "size")
"""What tells one trunk from another, besides the seed."""
NOTE = (
    "Durations of one seed are read as one trunk, whose chance they share (--independent, or a "
    "column cluster, says otherwise)."
)


def with_runs_of_seeds(
    table: pd.DataFrame, independent: bool = False
) -> tuple[pd.DataFrame, list[str]]:
    """The table with columns run and cluster that follow from its column seed, and notes.

    A run is what a cell and a seed name; a cluster what a size and a seed name, where several
    durations share it. Columns that the table has stay."""
    if "seed" not in table:
        return table, []
    cell = [column for column in CELL if column in table]
    if "run" not in table:
        duration = ["duration"] if "duration" in table else []
        table = table.assign(run=_numbered(table, [*cell, *duration, "seed"]))
    if "cluster" in table or "duration" not in table or independent:
        return table, []
    trunk = _numbered(table, [*cell, "seed"])
    durations = table.groupby(trunk)["duration"].nunique()
    if durations.max() < 2:
        return table, []
    return table.assign(cluster=trunk), [NOTE]


def _numbered(table: pd.DataFrame, columns: list[str]) -> pd.Series:
    keys = pd.MultiIndex.from_frame(table[columns].astype(str))
    return pd.Series(pd.factorize(keys)[0], index=table.index)
