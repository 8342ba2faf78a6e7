"""Draws that a transfer has from when fewer were wanted: taken over, not computed again.

Draws are seeded one by one, so earlier ones stay what they are. Where several learning rates
compete, the rate is chosen over all draws together: such a protocol is computed anew as a whole.
"""

from pathlib import Path

import pandas as pd

from scaling.data.tasks import TaskArrays
from scaling.files import read_parquet
from scaling.runs.rundir import EARLIER


def earlier_predictions(folder: Path, expected: int) -> pd.DataFrame | None:
    """The predictions that were put aside when draws were added; None without any, or where they
    are damaged or of another number of protocols than `expected` of a draw.
    """
    file = folder / EARLIER
    if not file.exists():
        return None
    try:
        table = read_parquet(file)
    except ValueError:
        return None
    fitted = table.drop_duplicates(["protocol", "shots", "draw"])
    complete = (fitted.groupby("draw").size() == expected).all()
    return table if complete else None


def first_missing(earlier: pd.DataFrame | None) -> int:
    """Number of the first draw that is not there."""
    return 0 if earlier is None else int(earlier["draw"].max()) + 1


def joined(earlier: pd.DataFrame | None, new: pd.DataFrame, fold: TaskArrays) -> pd.DataFrame:
    """The new draws of some protocols on the test cases of a fold, after the earlier ones."""
    if earlier is None:
        return new
    old = earlier[
        earlier["protocol"].isin(new["protocol"])
        & earlier["case"].isin(fold.test.ids)
        & (earlier["draw"] < new["draw"].min())
    ]
    return pd.concat([old, new], ignore_index=True) if len(old) else new
