"""Effects of size and duration: contrasts under an additive mean, their error bars, and the rule
that decides."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from scipy.stats import t as student_t

from scaling.laws.arrays import FloatArray, IntArray
from scaling.laws.verdicts.crossed import Components, Strata, contrast_variance, residual_strata
from scaling.laws.verdicts.scores import Scores

Decision = Literal[
    "improves", "improves, slightly", "no worthwhile improvement", "harms", "undetermined"
]


@dataclass(frozen=True)
class Effect:
    """A change for the better (positive = better, whichever way the metric points), in the
    metric's units or as a fraction if relative.

    `low`, `high`, `se`, `df`, `probability` (that the effect exceeds the smallest of interest)
    are None where the data hold nothing that tells how much runs vary. `run`, `case`, `draw`: the
    part of the variance each contributes."""

    name: str
    estimate: float
    low: float | None
    high: float | None
    probability: float | None
    se: float | None
    df: float | None
    run: float | None
    case: float
    draw: float
    decision: Decision
    seeds_needed: int | None = None
    cases_needed: int | None = None


def decide(
    estimate: float,
    low: float | None,
    high: float | None,
    probability: float | None,
    smallest: float,
) -> Decision:
    """The one rule, in order: never "no" from mere non-significance."""
    if low is None or high is None or probability is None:
        return "undetermined"
    if low > 0:
        return "improves" if probability >= 0.95 else "improves, slightly"
    if -smallest <= low and high <= smallest:
        return "no worthwhile improvement"
    return "harms" if high < 0 else "undetermined"


@dataclass(frozen=True)
class Design:
    contrasts: dict[str, FloatArray]  # name -> a [R], budget first
    base: FloatArray  # [R]: base @ run means = fitted score at the smallest budget
    strata: Strata
    notes: tuple[str, ...]


def numbers(column: pd.Series) -> IntArray:
    return np.asarray(pd.factorize(column)[0], np.int64)


def block_numbers(runs: pd.DataFrame) -> IntArray:
    """The block of each run [R]; without blocks all are of one."""
    return numbers(runs["block"].astype(str)) if "block" in runs else np.zeros(len(runs), np.int64)


def fit_design(data: Scores) -> Design:
    """The richest additive mean (levels of size and duration, else straight lines in their
    logarithms) that leaves residuals to learn the run variance from, and the least-squares
    contrasts under it. Blocks (another factor of the study, such as the objective) shift the
    mean; effects are those within a block, averaged over blocks."""
    size, duration = (data.runs[c].to_numpy(float) for c in ("size", "duration"))
    names = sorted(data.runs["block"].astype(str).unique()) if "block" in data.runs else [""]
    shifts = (
        np.array([data.runs["block"].astype(str) == name for name in names[1:]], float)
        .reshape(-1, len(size))
        .T
    )
    cluster = numbers(data.runs["cluster"])
    block = block_numbers(data.runs)
    for size_levels, duration_levels in ((True, True), (False, True), (False, False)):
        left, size_step = _columns(size, size_levels, block)
        right, duration_step = _columns(duration, duration_levels, block)
        X = np.concatenate([np.ones((len(size), 1)), left, right, shifts], axis=1)
        none = np.zeros(shifts.shape[1])
        steps = {
            "budget": np.concatenate([[0.0], size_step, duration_step, none]),
            "size": np.concatenate([[0.0], size_step, 0 * duration_step, none]),
            "duration": np.concatenate([[0.0], 0 * size_step, duration_step, none]),
        }
        if left.shape[1] == 0:
            del steps["size"]
        if right.shape[1] == 0:
            del steps["duration"]
        inverse = np.linalg.pinv(X)
        contrasts = {name: step @ inverse for name, step in steps.items()}
        strata = residual_strata(X, cluster)
        # Where blocks have ladders of their own, a step from the smallest level to the largest
        # would be one between blocks.
        known = {name: np.allclose(step @ inverse @ X, step) for name, step in steps.items()}
        if known["budget"] and all(
            contrast_variance(data.values[:, :1, :1], a, strata, data.strata[:1]).run_df
            for a in contrasts.values()
        ):
            break
    base = np.concatenate([[1.0], 0 * size_step, 0 * duration_step, shifts.mean(0)]) @ inverse
    notes = [f"Averaged over {', '.join(names)}."] if names[1:] else []
    if not all(known.values()):
        notes.append(
            "Size and duration changed together in every run: their separate effects cannot be "
            "told apart."
        )
        contrasts = {"budget": contrasts["budget"]}
    if not size_levels and left.shape[1]:
        notes.append(
            "Too few runs to judge the levels one by one: the mean was taken as a straight line "
            "in log size."
        )
    return Design(contrasts, base, strata, tuple(notes))


def _columns(x: FloatArray, as_levels: bool, block: IntArray) -> tuple[FloatArray, FloatArray]:
    """Design columns [R, p] of one factor, zero at its smallest level, and the step [p] from its
    smallest to its largest: on a line that of the blocks with more than one level, on average,
    each within its own. None where no block has more than one: levels that differ between blocks
    only are the blocks' doing."""
    levels = np.unique(x)
    position = np.log(x / levels[0]) if levels[0] > 0 else x - levels[0]
    spans = np.array([np.ptp(position[block == one]) for one in np.unique(block)])
    if not spans.any():
        return np.empty((len(x), 0)), np.empty(0)
    if as_levels:
        return (x[:, None] == levels[None, 1:]).astype(float), np.eye(
            1, len(levels) - 1, len(levels) - 2
        )[0]
    span = spans[spans > 0].mean()
    return position[:, None] / position.max(), np.array([span / position.max()])


def estimate_effect(
    name: str,
    data: Scores,
    a: FloatArray,
    fitted: Design,
    sign: float,
    relative_to: float | None,
    smallest: float,
    confidence: float,
    fixed_runs: bool = False,
) -> Effect:
    mean = data.values.mean((1, 2))
    estimate = float(a @ mean)
    if relative_to is not None:  # a ratio, by the delta method
        if relative_to == 0:
            raise ValueError(
                "A relative smallest effect needs a baseline score other than 0: state an "
                "absolute one."
            )
        a = a / relative_to - estimate / relative_to**2 * fitted.base
        estimate = estimate / relative_to
    estimate *= sign
    parts = contrast_variance(data.values, a, fitted.strata, data.strata)
    if not parts.run_df and not fixed_runs:
        return Effect(
            name,
            estimate,
            None,
            None,
            None,
            None,
            None,
            None,
            parts.case,
            parts.draw,
            "undetermined",
        )
    if parts.df == np.inf and parts.variance == 0 and data.values[0].size == 1 and not parts.run_df:
        return Effect(name, estimate, None, None, None, None, None, None, 0.0, 0.0, "undetermined")
    se = math.sqrt(parts.variance)
    low, high = (
        estimate - se * _quantile(confidence, parts.df),
        estimate + se * _quantile(confidence, parts.df),
    )
    probability = (
        float(student_t.cdf((estimate - smallest) / se, parts.df))
        if se > 0
        else float(estimate > smallest)
    )
    decision = decide(estimate, low, high, probability, smallest)
    df = None if math.isinf(parts.df) else parts.df
    effect = Effect(
        name,
        estimate,
        low,
        high,
        probability,
        se,
        df,
        parts.run if parts.run_df else None,
        parts.case,
        parts.draw,
        decision,
    )
    if decision != "undetermined":
        return effect
    needed = _needed(estimate, parts, data.runs, data.values.shape[2], smallest, confidence)
    return replace(effect, seeds_needed=needed[0], cases_needed=needed[1])


def _quantile(confidence: float, df: float) -> float:
    return float(student_t.ppf((1 + confidence) / 2, df))


def _needed(
    estimate: float,
    parts: Components,
    runs: pd.DataFrame,
    cases: int,
    smallest: float,
    confidence: float,
) -> tuple[int | None, int | None]:
    """Seeds per cell in all, or test cases in all, at which an interval around the present
    estimate would exclude nought or lie within the smallest effect; None where that alone would
    never do."""
    half = max(abs(estimate), smallest - abs(estimate))
    goal = (half / _quantile(confidence, np.inf)) ** 2
    cells = (
        len(runs[[c for c in ("size", "duration", "block") if c in runs]].drop_duplicates())
        if "size" in runs
        else 2
    )
    seeds = (
        len(runs) / cells * parts.run / (goal - parts.case - parts.draw)
        if goal > parts.case + parts.draw
        else None
    )
    more = (
        cases * parts.case / (goal - parts.run - parts.draw)
        if goal > parts.run + parts.draw and parts.case > 0
        else None
    )
    return (
        None if seeds is None else max(math.ceil(len(runs) / cells) + 1, math.ceil(seeds)),
        None if more is None else max(cases + 1, math.ceil(more)),
    )
