"""Curves of tidy results along size and along duration."""

from collections.abc import Iterator

import pandas as pd

from scaling.laws.curves.curve import Curve
from scaling.laws.curves.fitting import fit


def curves_along(
    runs: pd.DataFrame, bounds: tuple[float, float] | None, lower_is_better: bool
) -> Iterator[tuple[str, Curve]]:
    """Axis ("size" or "duration") and the curve of `value` along it, through the runs at the
    other axis's largest level.

    `runs`: a row per run with params, duration, trunk and value. Runs of one trunk are resampled
    together, if there are several trunks. An axis with fewer than three levels has no curve, nor
    has a metric without bounds that touches zero or is better when higher."""
    for axis, column, other in (("size", "params", "duration"), ("duration", "duration", "params")):
        part = runs[runs[other] == runs[other].max()]
        if len(part[column].unique()) < 3 or not suits_a_curve(
            part["value"], bounds, lower_is_better
        ):
            continue
        cluster = "trunk" if len(part["trunk"].unique()) > 1 else None
        yield (
            axis,
            fit(
                part,
                column,
                "value",
                bounds=bounds,
                lower_is_better=lower_is_better,
                cluster=cluster,
            ),
        )


def suits_a_curve(
    values: pd.Series, bounds: tuple[float, float] | None, lower_is_better: bool
) -> bool:
    """Whether a metric can become a positive error: it is bounded, or is an error itself."""
    return bounds is not None or (lower_is_better and bool(values.min() > 0))
