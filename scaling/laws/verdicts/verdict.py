"""Does a larger model, or a longer pretraining, help this task? A decision per task with an error
bar.

The estimand is stated beforehand: the observed change of the score from the smallest to the largest
budget (size and duration together), and of each alone. One interval decides; failing to find an
effect is never taken for its absence. Where the table names test sites, the decision says whether
it is about these sites or about sites like them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pandas as pd

from scaling.laws.known_metrics import UNIT, known_metric, label_of
from scaling.laws.plain import plain
from scaling.laws.verdicts.contrasts import block_numbers
from scaling.laws.verdicts.crossed import contrast_variance
from scaling.laws.verdicts.design_of_runs import Design, fit_design
from scaling.laws.verdicts.effects import (
    Decision,
    Effect,
    contrast_in_units,
    effect_of,
    estimate_effect,
)
from scaling.laws.verdicts.scores import Scores, scores_on_axes
from scaling.laws.verdicts.sentences import verdict_sentence
from scaling.laws.verdicts.shape import (
    Peak,
    largest_interaction,
    non_additivity,
    peaks,
    relative_peaks,
)
from scaling.laws.verdicts.sites import AcrossSites, across_sites
from scaling.laws.verdicts.stated import stated
from scaling.laws.verdicts.trend import holm as holm_adjusted
from scaling.laws.verdicts.trend import trend_test


@dataclass(frozen=True)
class Verdict:
    """The decision for one task."""

    task: str
    metric: str
    decision: Decision
    sentence: str
    smallest_effect: float
    relative: bool
    lower_is_better: bool
    confidence: float
    baseline: float
    """Score at the smallest budget."""
    effects: tuple[Effect, ...]
    """The budget's effect first, then those of size and duration where they vary."""
    sizes: int
    durations: int
    runs: int
    clusters: int
    draws: int
    cases: int
    notes: tuple[str, ...] = ()
    trend_p: float | None = None
    trend_shape: str | None = None
    trend_p_holm: float | None = None
    additive: Effect | None = None
    """The budget's effect under a mean that is additive in size and duration."""
    sites: AcrossSites | None = None
    """The budget's effect at these sites, on average over sites, and at a new one."""
    peaks: tuple[Peak, ...] = ()
    """Axes along which an inner level is better than the largest."""
    non_additive_p: float | None = None
    """p of a test that size and duration add up."""

    def to_dict(self) -> dict[str, Any]:
        """Plain, JSON-safe."""
        return cast(dict[str, Any], plain(self))

    def effect(self, name: str) -> Effect:
        """The effect of "budget", "size" or "duration"."""
        return next(e for e in self.effects if e.name == name)


def verdict(
    cases: pd.DataFrame,
    *,
    task: str,
    metric: str,
    smallest_effect: float | None = None,
    relative: bool | None = None,
    lower_is_better: bool | None = None,
    confidence: float = 0.90,
) -> Verdict:
    """Judge one task from a long table with columns size, duration, and block, run (or seed),
    cluster, draw, case, site, patient (each may be absent, at a stated price), and either value (a
    per-case score) or label and prediction (for the metrics auroc and pearson).

    `smallest_effect` is the smallest change worth having: absolute, or a fraction of the score at
    the smallest budget if `relative`; its default, and which way is better, follow from the
    metric. Raises ValueError on tables that cannot be judged."""
    smallest, relative, lower = stated(metric, smallest_effect, relative, lower_is_better)
    data = scores_on_axes(cases, metric)
    _refuse_one_budget(data, task)
    fitted = fit_design(data)
    sign = -1.0 if lower else 1.0
    baseline = float(fitted.base @ data.values.mean((1, 2)))
    relative_to = baseline if relative else None
    effects = [
        estimate_effect(name, data, a, fitted, sign, relative_to, smallest, confidence)
        for name, a in fitted.contrasts.items()
    ]
    additive = _additive(data, fitted, sign, relative_to, smallest, confidence)
    notes = [*data.notes, *fitted.notes, *_notes(data, cases)]
    if fitted.missing:
        effects[0], note = _allowing_for_bias(data, fitted, effects[0], smallest, confidence)
        notes.append(note)
    sites = None
    if data.site is not None:
        sites = _across_sites(
            data, fitted, metric, sign, relative_to, effects[0], smallest, confidence
        )
        if sites.decides == "mean" and sites.mean is not None:
            effects[0] = sites.mean
    peaks_along = _peaks(data, fitted, sign, baseline, smallest, relative)
    additivity = non_additivity(data, fitted, sign)
    if additivity is not None and additivity[1]:
        notes.append(additivity[1])
    trend_p, trend_shape = trend_test(data, fitted, sign) or (None, None)
    return Verdict(
        task=task,
        metric=metric,
        decision=effects[0].decision,
        sentence=verdict_sentence(
            task,
            label_of(metric),
            effects,
            additive,
            sites,
            peaks_along,
            smallest,
            relative,
            confidence,
        ),
        smallest_effect=smallest,
        relative=relative,
        lower_is_better=lower,
        confidence=confidence,
        baseline=baseline,
        effects=tuple(effects),
        sizes=int(data.runs["size"].nunique()),
        durations=int(data.runs["duration"].nunique()),
        runs=len(data.runs),
        clusters=int(data.runs["cluster"].nunique()),
        draws=data.values.shape[1],
        cases=data.values.shape[2],
        notes=tuple(notes),
        trend_p=trend_p,
        trend_shape=trend_shape,
        additive=additive,
        sites=sites,
        peaks=peaks_along,
        non_additive_p=additivity[0] if additivity is not None else None,
    )


def _across_sites(
    data: Scores,
    fitted: Design,
    metric: str,
    sign: float,
    relative_to: float | None,
    effect: Effect,
    smallest: float,
    confidence: float,
) -> AcrossSites:
    """The gain at every site and over sites like them."""
    _, a = contrast_in_units(data, fitted.contrasts["budget"], fitted, sign, relative_to)
    facts = known_metric(metric)
    return across_sites(
        data,
        a,
        fitted.noise,
        sign,
        effect,
        smallest,
        confidence,
        # The prior on how sites differ is that of absolute gains on a scale from 0 to 1.
        prior_applies=facts is not None and facts.bounds == UNIT and relative_to is None,
    )


def _peaks(
    data: Scores, fitted: Design, sign: float, baseline: float, smallest: float, relative: bool
) -> tuple[Peak, ...]:
    """Axes along which an inner level is the best one, in the unit of the smallest effect."""
    if not relative:
        return peaks(data, fitted, sign, smallest)
    absolute = peaks(data, fitted, sign, smallest * abs(baseline))
    return relative_peaks(absolute, baseline) if baseline else absolute


def _refuse_one_budget(data: Scores, task: str) -> None:
    block = block_numbers(data.runs)
    axes = data.runs.groupby(block)[["size", "duration"]]
    if not (axes.max() == axes.min()).all(axis=None):
        return
    where = "one size and one duration of each block"
    if block.max() == 0:
        size, duration = data.runs["size"].iloc[0], data.runs["duration"].iloc[0]
        where = f"one size ({size:g}) and one duration ({duration:g})"
    raise ValueError(f"Task {task} was run at {where}: a verdict on scaling compares at least two.")


def _notes(data: Scores, cases: pd.DataFrame) -> list[str]:
    """What the data do not hold, in words."""
    notes = []
    if np.ptp(data.values) == 0:
        notes.append(
            f"Every score equals {data.values.flat[0]:g}: the metric does not move at all."
        )
    if data.values.shape[1] == 1 and "draw" in cases:
        notes.append("One few-shot draw: the interval does not cover another draw.")
    cell = [column for column in ("size", "duration", "block") if column in data.runs]
    if len(data.runs) == len(data.runs[cell].drop_duplicates()):
        notes.append(
            "One run per cell: how much runs scatter is judged from how far they stray from the "
            "fitted trend."
        )
    return notes


def _additive(
    data: Scores,
    fitted: Design,
    sign: float,
    relative_to: float | None,
    smallest: float,
    confidence: float,
) -> Effect | None:
    """The budget's effect under an additive mean, where it differs from the observed gain."""
    if fitted.additive is None or np.allclose(fitted.additive, fitted.contrasts["budget"]):
        return None
    return estimate_effect(
        "additive", data, fitted.additive, fitted, sign, relative_to, smallest, confidence
    )


def _allowing_for_bias(
    data: Scores, fitted: Design, effect: Effect, smallest: float, confidence: float
) -> tuple[Effect, str]:
    """The additive gain with an interval that allows for a surface that does not add up, and what
    it rests on; undetermined where no rectangle of cells shows how far it may not."""
    corners = " and ".join(fitted.missing)
    bias = largest_interaction(data, fitted)
    if bias is None or effect.low is None:
        return (
            replace(effect, decision="undetermined"),
            f"Never run: {corners}. The gain is that of an additive surface, and nothing tells "
            "whether size and duration add up: run that cell.",
        )
    parts = contrast_variance(data.values, fitted.contrasts["budget"], fitted.noise, data.strata)
    scale = effect.se / np.sqrt(parts.variance) if effect.se and parts.variance else 1.0
    parts = replace(parts, variance=(effect.se or 0.0) ** 2)
    wider = effect_of(
        effect.name, effect.estimate, parts, smallest, confidence, bias=float(bias * scale)
    )
    return wider, (
        f"Never run: {corners}. The gain is that of an additive surface; its interval allows for "
        f"a non-additivity as large as the largest among the cells that were run ({bias:.3f})."
    )


def holm(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts with the p of their trend tests adjusted for all tasks (Holm 1979)."""
    tested = [v.trend_p for v in verdicts if v.trend_p is not None]
    adjusted = iter(holm_adjusted(np.array(tested)))
    return [
        v if v.trend_p is None else replace(v, trend_p_holm=float(next(adjusted))) for v in verdicts
    ]
