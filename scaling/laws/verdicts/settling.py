"""How many seeds or test cases would end in a decision, if the estimate stays where it is.

More seeds make the share of the runs smaller and better known; more cases leave the few degrees of
freedom of the runs as they are, so that often no number of them is enough.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import t as student_t

from scaling.laws.arrays import FloatArray
from scaling.laws.verdicts.crossed import Components

FEW_CASES = 50
"""With fewer cases than this a rare case that gains much may be missing altogether."""
HARM_WITH_FEW_CASES = 0.98
"""Two-sided confidence that a harm needs there: where one case in twenty gains by .5 and the others
lose as much in total, test sets of 20 miss every such case in one study of three."""
MOST_SEEDS = 100
MOST_TIMES_THE_CASES = 100


def level_of_harm(cases: FloatArray, confidence: float) -> FloatArray:
    """Two-sided confidence that a harm needs at these numbers of cases."""
    few = (cases > 1) & (cases < FEW_CASES)
    return np.where(few, np.maximum(confidence, HARM_WITH_FEW_CASES), confidence)


def seeds_needed(
    estimate: float,
    parts: Components,
    runs: pd.DataFrame,
    cases: int,
    smallest: float,
    confidence: float,
) -> int | None:
    """Seeds per cell in all that would settle it; None where 100 would not."""
    cells = 2  # two arms
    if "size" in runs:
        cells = len(runs[[c for c in ("size", "duration", "block") if c in runs]].drop_duplicates())
    seeds = len(runs) / cells
    trunks = len(runs["cluster"].unique()) / seeds  # that another seed adds
    totals = np.arange(math.ceil(seeds) + 1.0, MOST_SEEDS + 1)
    interval = Interval(
        parts.run * seeds / totals,
        parts.run_df + trunks * (totals - seeds),
        np.full_like(totals, parts.case + parts.draw),
    )
    scored = np.full_like(totals, cases)
    return first_that_settles(estimate, interval, totals, scored, smallest, confidence)


def cases_needed(
    estimate: float, parts: Components, cases: int, smallest: float, confidence: float
) -> int | None:
    """Test cases in all that would settle it; None where 100 times as many would not."""
    if parts.case + parts.run_case <= 0:
        return None
    totals = np.ceil(np.geomspace(cases + 1, cases * MOST_TIMES_THE_CASES, 200))
    share = cases / totals
    run = np.maximum(parts.run - parts.run_case * (1 - share), 0.0)
    interval = Interval(run, np.full_like(totals, parts.run_df), parts.case * share + parts.draw)
    return first_that_settles(estimate, interval, totals, totals, smallest, confidence)


@dataclass(frozen=True)
class Interval:
    """Intervals [n] by the variance that `run`s contribute, known to `run_df` degrees of freedom,
    and that of `others`, which counts as known.
    """

    run: FloatArray
    run_df: FloatArray
    others: FloatArray

    def half_widths(self, confidence: FloatArray | float) -> FloatArray:
        """Half widths [n] at a two-sided confidence."""
        variance = self.run + self.others
        known, unknown = self.run_df > 0, np.zeros_like(variance)
        spread = np.divide(self.run**2, self.run_df, out=unknown, where=known)
        df = np.divide(variance**2, spread, out=np.full_like(spread, np.inf), where=spread > 0)
        return np.sqrt(variance) * student_t.ppf((1 + np.asarray(confidence)) / 2, df)


def first_that_settles(
    estimate: float,
    interval: Interval,
    totals: FloatArray,
    cases: FloatArray,
    smallest: float,
    confidence: float,
) -> int | None:
    """The first total [n] whose interval excludes nought or lies within the smallest effect, where
    it is that of so many `cases` [n].
    """
    excluding = level_of_harm(cases, confidence) if estimate < 0 else confidence
    excludes = interval.half_widths(excluding) < abs(estimate)
    within = interval.half_widths(confidence) <= smallest - abs(estimate)
    settled = excludes | within
    return int(totals[settled.argmax()]) if settled.any() else None
