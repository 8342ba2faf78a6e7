"""How many seeds or test cases would end in a decision, if the estimate stays where it is.

More seeds make the share of the runs smaller and better known; more cases leave the few degrees of
freedom of the runs as they are, so that often no number of them is enough.
"""

import math

import numpy as np
import pandas as pd
from scipy.stats import t as student_t

from scaling.laws.arrays import FloatArray
from scaling.laws.verdicts.crossed import Components

MOST_SEEDS = 100
MOST_TIMES_THE_CASES = 100


def seeds_needed(
    estimate: float, parts: Components, runs: pd.DataFrame, smallest: float, confidence: float
) -> int | None:
    """Seeds per cell in all that would settle it; None where 100 would not."""
    cells = 2  # two arms
    if "size" in runs:
        cells = len(runs[[c for c in ("size", "duration", "block") if c in runs]].drop_duplicates())
    seeds = len(runs) / cells
    trunks = len(runs["cluster"].unique()) / seeds  # that another seed adds
    totals = np.arange(math.ceil(seeds) + 1, MOST_SEEDS + 1)
    run = parts.run * seeds / totals
    run_df = parts.run_df + trunks * (totals - seeds)
    fixed = parts.case + parts.draw
    return first_that_settles(estimate, run, run_df, fixed, totals, smallest, confidence)


def cases_needed(
    estimate: float, parts: Components, cases: int, smallest: float, confidence: float
) -> int | None:
    """Test cases in all that would settle it; None where 100 times as many would not."""
    if parts.case + parts.run_case <= 0:
        return None
    totals = np.ceil(np.geomspace(cases + 1, cases * MOST_TIMES_THE_CASES, 200))
    share = cases / totals
    run = np.maximum(parts.run - parts.run_case * (1 - share), 0.0)
    others = parts.case * share + parts.draw
    return first_that_settles(estimate, run, parts.run_df, others, totals, smallest, confidence)


def first_that_settles(
    estimate: float,
    run: FloatArray,
    run_df: FloatArray | float,
    others: FloatArray | float,
    totals: FloatArray,
    smallest: float,
    confidence: float,
) -> int | None:
    """The first total whose interval excludes nought or lies within the smallest effect.

    `run`: the variance that runs contribute, known to `run_df`; that of `others` counts as known.
    """
    variance = run + others
    spread = np.divide(run**2, run_df, out=np.zeros_like(run), where=np.greater(run_df, 0))
    df = np.divide(variance**2, spread, out=np.full_like(run, np.inf), where=spread > 0)
    half = np.sqrt(variance) * student_t.ppf((1 + confidence) / 2, df)
    settled = (half < abs(estimate)) | (half <= smallest - abs(estimate))
    return int(totals[settled.argmax()]) if settled.any() else None
