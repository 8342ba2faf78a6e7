"""The effect of a budget: an estimate, its error bar, and the rule that decides."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.stats import t as student_t

from scaling.laws.arrays import FloatArray
from scaling.laws.verdicts.crossed import Components, contrast_variance
from scaling.laws.verdicts.design_of_runs import Design
from scaling.laws.verdicts.scores import Scores
from scaling.laws.verdicts.settling import cases_needed, level_of_harm, seeds_needed

Decision = Literal[
    "improves",
    "improves, slightly",
    "no worthwhile improvement",
    "harms",
    "undetermined",
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
    """The effect of contrast `a` [R] on the mean over all test cases, times `sign`, and what would
    settle it where it is undetermined.

    `relative_to`: the baseline score that the effect is a fraction of. `fixed_runs`: the runs
    speak for themselves only, where nothing tells how much runs vary."""
    effect, parts = effect_and_parts(
        name, data, a, fitted, sign, relative_to, smallest, confidence, fixed_runs
    )
    if effect.decision != "undetermined" or effect.low is None:
        return effect
    estimate, cases = effect.estimate, data.values.shape[2]
    return replace(
        effect,
        seeds_needed=seeds_needed(estimate, parts, data.runs, cases, smallest, confidence),
        cases_needed=cases_needed(estimate, parts, cases, smallest, confidence),
    )


def effect_and_parts(
    name: str,
    data: Scores,
    a: FloatArray,
    fitted: Design,
    sign: float,
    relative_to: float | None,
    smallest: float,
    confidence: float,
    fixed_runs: bool = False,
) -> tuple[Effect, Components]:
    """The effect alone, for simulations of thousands, and the parts of its variance."""
    estimate, a = contrast_in_units(data, a, fitted, sign, relative_to)
    parts = contrast_variance(data.values, a, fitted.noise, data.strata)
    effect = effect_of(name, estimate, parts, smallest, confidence, fixed_runs)
    if effect.decision == "harms":
        cases = np.array(data.values.shape[2])
        effect = _surely_harms(effect, parts, float(level_of_harm(cases, confidence)))
    return effect, parts


def _surely_harms(effect: Effect, parts: Components, level: float) -> Effect:
    """The effect, undetermined unless it harms at the confidence that a harm needs."""
    assert effect.se is not None
    if effect.estimate + half_width(effect.se, parts.df, level) < 0:
        return effect
    return replace(effect, decision="undetermined")


def contrast_in_units(
    data: Scores, a: FloatArray, fitted: Design, sign: float, relative_to: float | None
) -> tuple[float, FloatArray]:
    """The estimate (positive is better) and the contrast [R] whose variance it has.

    A relative effect is a ratio to the baseline; its contrast follows from the delta method."""
    mean = data.values.mean((1, 2))
    estimate = float(a @ mean)
    if relative_to is None:
        return sign * estimate, a
    if relative_to == 0:
        raise ValueError(
            "A relative smallest effect needs a baseline score other than 0: state an absolute one."
        )
    return (
        sign * estimate / relative_to,
        a / relative_to - estimate / relative_to**2 * fitted.base,
    )


def effect_of(
    name: str,
    estimate: float,
    parts: Components,
    smallest: float,
    confidence: float,
    fixed_runs: bool = False,
    bias: float = 0.0,
) -> Effect:
    """The effect with the interval that these variances give and the decision it leads to.

    `bias`: the largest bias the estimate may have; the interval then covers for any bias within
    it (Armstrong and Kolesar 2018, Econometrica 86:655)."""
    nothing_varies = parts.variance == 0 and math.isinf(parts.df) and not parts.run_df
    if (not parts.run_df and not fixed_runs) or nothing_varies:
        return Effect(
            name,
            estimate,
            low=None,
            high=None,
            probability=None,
            se=None,
            df=None,
            run=None,
            case=parts.case,
            draw=parts.draw,
            decision="undetermined",
        )
    se = math.sqrt(parts.variance)
    half = half_width(se, parts.df, confidence, bias)
    low, high = estimate - half, estimate + half
    probability = float(estimate - bias > smallest)
    if se > 0:
        probability = float(student_t.cdf((estimate - bias - smallest) / se, parts.df))
    return Effect(
        name,
        estimate,
        low,
        high,
        probability,
        se,
        df=None if math.isinf(parts.df) else parts.df,
        run=parts.run if parts.run_df else None,
        case=parts.case,
        draw=parts.draw,
        decision=decide(estimate, low, high, probability, smallest),
    )


def half_width(se: float, df: float, confidence: float, bias: float = 0.0) -> float:
    """Half width of the interval: a quantile of Student's t, or of |t + bias / se|."""
    usual = se * float(student_t.ppf((1 + confidence) / 2, df))
    if bias == 0 or se == 0:
        return usual + bias
    shift = bias / se
    low, high = usual / se, usual / se + shift
    for _ in range(60):  # bisection on P(|t + shift| <= x) = confidence
        middle = (low + high) / 2
        covered = student_t.cdf(middle - shift, df) - student_t.cdf(-middle - shift, df)
        if covered < confidence:
            low = middle
        else:
            high = middle
    return se * high
