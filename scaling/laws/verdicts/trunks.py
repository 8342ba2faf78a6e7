"""Durations of one seed are read as one trunk, unless the table says otherwise.

In a study of durations that branch off one trunk, or of checkpoints of one training run, the runs
of a seed share most of their training. Taking them for independent claims an effect of size in
every third study that has none.
"""

import pandas as pd

CELL = ("arm", "objective", "family", "fraction", "series", "block", "network", "size")
"""What tells one trunk from another, besides the seed."""
LENGTHS = ("duration", "length")
"""The duration of a run: as an axis, or beside an axis of another name."""
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
    lengths = [column for column in LENGTHS if column in table]
    if "run" not in table:
        table = table.assign(run=_numbered(table, [*cell, *lengths, "seed"]))
    if "cluster" in table or not lengths or independent:
        return table, []
    trunk = _numbered(table, [*cell, "seed"])
    if table.groupby(trunk)[lengths].nunique().to_numpy().max() < 2:
        return table, []
    return table.assign(cluster=trunk), [NOTE]


def _numbered(table: pd.DataFrame, columns: list[str]) -> pd.Series:
    keys = pd.MultiIndex.from_frame(table[columns].astype(str))
    return pd.Series(pd.factorize(keys)[0], index=table.index)
