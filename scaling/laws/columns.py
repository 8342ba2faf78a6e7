"""The one check every table goes through first: are the columns there?"""

from collections.abc import Iterable

import pandas as pd


def require_columns(table: pd.DataFrame, columns: Iterable[str], why: str = "") -> None:
    """Raise ValueError naming the columns that a table lacks, those it has, and `why` they are
    needed."""
    missing = [c for c in columns if c not in table]
    if missing:
        alike = [str(c) for c in table.columns if str(c).lower() in {m.lower() for m in missing}]
        reason = (f": {why}" if why else "") + (
            f"; did you mean {', '.join(alike)}?" if alike else ""
        )
        raise ValueError(
            f"The table has no column {', '.join(missing)} (found "
            f"{', '.join(map(str, table.columns))}){reason}."
        )
