"""Does a larger model, or a longer pretraining, help this task? A decision per task with an error
bar.

The estimand is stated beforehand: the change of the score from the smallest to the largest size,
from the shortest to the longest duration, and both together (the budget), under a mean that is
additive in size and duration, as every separable law is. One interval decides; failing to find an
effect is never taken for its absence.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pandas as pd

from scaling.laws.columns import require_columns
from scaling.laws.known_metrics import KnownMetric, known_metric, label_of
from scaling.laws.plain import plain
from scaling.laws.verdicts.crossed import residual_strata
from scaling.laws.verdicts.effects import (
    Decision,
    Design,
    Effect,
    block_numbers,
    estimate_effect,
    fit_design,
    numbers,
)
from scaling.laws.verdicts.scores import scores, scores_on_axes
from scaling.laws.verdicts.trend import holm as holm_adjusted
from scaling.laws.verdicts.trend import trend_test


@dataclass(frozen=True)
class Verdict:
    """The decision for one task; `effects` holds budget first, then size and duration where they
    vary."""

    task: str
    metric: str
    decision: Decision
    sentence: str
    smallest_effect: float
    relative: bool
    lower_is_better: bool
    confidence: float
    baseline: float
    effects: tuple[Effect, ...]
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

    def to_dict(self) -> dict[str, Any]:
        return cast(dict[str, Any], plain(self))

    def effect(self, name: str) -> Effect:
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
    """Judge one task from a long table with columns size, duration, and block, run, cluster,
    draw, case (each may be absent, at a stated price), and either value (a per-case score) or
    label and prediction (for the metrics auroc and pearson).

    `smallest_effect` is the smallest change worth having: absolute, or a fraction of the score at
    the smallest budget if `relative`; its default, and which way is better, follow from the
    metric. Raises ValueError on tables that cannot be judged."""
    smallest, relative, lower = stated(metric, smallest_effect, relative, lower_is_better)
    data = scores_on_axes(cases, metric)
    sizes, durations = np.unique(data.runs["size"]), np.unique(data.runs["duration"])
    block = block_numbers(data.runs)
    axes = data.runs.groupby(block)[["size", "duration"]]
    if (axes.max() == axes.min()).all(axis=None):
        found = f"one size ({sizes[0]:g}) and one duration ({durations[0]:g})"
        raise ValueError(
            f"Task {task} was run at {found if block.max() == 0 else 'one size and one duration of each block'}: "
            "a verdict on scaling compares at least two."
        )
    notes = list(data.notes)
    if np.ptp(data.values) == 0:
        notes.append(
            f"Every score equals {data.values.flat[0]:g}: the metric does not move at all."
        )
    fitted = fit_design(data)
    notes += fitted.notes
    sign = -1.0 if lower else 1.0
    mean = data.values.mean((1, 2))
    baseline = float(fitted.base @ mean)
    effects = [
        estimate_effect(
            name, data, a, fitted, sign, baseline if relative else None, smallest, confidence
        )
        for name, a in fitted.contrasts.items()
    ]
    if data.values.shape[1] == 1 and "draw" in cases:
        notes.append("One few-shot draw: the interval does not cover another draw.")
    main = effects[0]
    if len(data.runs) == len(
        data.runs[[c for c in ("size", "duration", "block") if c in data.runs]].drop_duplicates()
    ):
        notes.append(
            "One run per cell: how much runs scatter is judged from how far they stray from the "
            "fitted trend."
        )
    trend_p, trend_shape = trend_test(data, fitted, sign) or (None, None)
    return Verdict(
        task=task,
        metric=metric,
        decision=main.decision,
        sentence=_sentence(
            task, label_of(metric), main, effects[1:], smallest, relative, confidence
        ),
        smallest_effect=smallest,
        relative=relative,
        lower_is_better=lower,
        confidence=confidence,
        baseline=baseline,
        effects=tuple(effects),
        sizes=len(sizes),
        durations=len(durations),
        runs=len(data.runs),
        clusters=int(data.runs["cluster"].nunique()),
        draws=data.values.shape[1],
        cases=data.values.shape[2],
        notes=tuple(notes),
        trend_p=trend_p,
        trend_shape=trend_shape,
    )


def stated(
    metric: str, smallest: float | None, relative: bool | None, lower: bool | None
) -> tuple[float, bool, bool]:
    """The smallest effect of interest, whether it is relative, and whether lower is better: as
    given, else what the metric's name says.

    Raises ValueError when the smallest effect is not a positive number."""
    known = known_metric(metric) or KnownMetric(metric)
    smallest = known.smallest_effect if smallest is None else smallest
    if smallest is None or smallest <= 0:
        raise ValueError(
            f"The smallest effect of interest is {smallest} for metric {metric}: state a positive "
            "number."
        )
    return (
        smallest,
        known.relative if relative is None else relative,
        known.lower_is_better if lower is None else lower,
    )


def holm(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts with the p of their trend tests adjusted for all tasks (Holm 1979)."""
    tested = [v.trend_p for v in verdicts if v.trend_p is not None]
    adjusted = iter(holm_adjusted(np.array(tested)))
    return [
        v if v.trend_p is None else replace(v, trend_p_holm=float(next(adjusted))) for v in verdicts
    ]


@dataclass(frozen=True)
class Comparison:
    """How much better arm a is than arm b (positive = a is better), on the same draws and cases;
    `better_a` runs of it are better than the mean of b's, of their own network where b has them
    all.
    """

    arm_a: str
    arm_b: str
    metric: str
    effect: Effect
    sentence: str
    smallest_effect: float
    relative: bool
    mean_a: float
    mean_b: float
    runs_a: int
    runs_b: int
    better_a: int
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return cast(dict[str, Any], plain(self))


def matched(cases: pd.DataFrame, arm_a: str, arm_b: str) -> pd.DataFrame:
    """The rows of two arms, to be compared within each `network`: of `arm_b` only the networks
    that `arm_a` has. Where `arm_b` lacks one of those, or the table does not tell them, all are
    of one network.
    """
    table = cases[cases["arm"].isin([arm_a, arm_b])]
    if "network" not in table:
        return table.assign(network="")
    own, theirs = (set(table.loc[table["arm"] == arm, "network"]) for arm in (arm_a, arm_b))
    return table[table["network"].isin(own)] if own <= theirs else table.assign(network="")


def compare(
    cases: pd.DataFrame,
    arm_a: str,
    arm_b: str,
    *,
    metric: str,
    smallest_effect: float | None = None,
    relative: bool | None = None,
    lower_is_better: bool | None = None,
    confidence: float = 0.90,
) -> Comparison:
    """Paired contrast of two arms (for example pretrained and scratch): the columns of `verdict`,
    a column arm and perhaps network.

    Draws and cases are paired, and networks where both arms have them (see `matched`); runs are
    random where there are more of them than networks and arms, else the interval speaks of these
    runs only."""
    require_columns(cases, ["arm"])
    for arm in (arm_a, arm_b):
        if not (cases["arm"] == arm).any():
            raise ValueError(
                f"No rows of arm {arm}: the table holds "
                f"{', '.join(map(str, cases['arm'].unique()))}."
            )
    smallest, relative, lower = stated(metric, smallest_effect, relative, lower_is_better)
    data = scores(matched(cases, arm_a, arm_b), metric)
    in_a = (data.runs["arm"] == arm_a).to_numpy()
    network = numbers(data.runs["network"])
    cells = (network[:, None] == np.unique(network)).astype(float)
    X = np.concatenate([cells, in_a[:, None]], axis=1)
    of_b = cells / (
        ~in_a @ cells
    )  # [R, networks] each run's share in the mean of b's runs of a network
    base = ~in_a * (of_b @ (in_a @ cells)) / in_a.sum()
    a = in_a / in_a.sum() - base
    strata = residual_strata(X, numbers(data.runs["cluster"]))
    mean = data.values.mean((1, 2))
    gain = (mean - cells @ ((~in_a * mean) @ of_b))[in_a]
    notes = list(data.notes)
    fitted = Design({"difference": a}, base, strata, ())
    effect = estimate_effect(
        "difference",
        data,
        a,
        fitted,
        -1.0 if lower else 1.0,
        float(base @ mean) if relative else None,
        smallest,
        confidence,
        fixed_runs=True,
    )
    if effect.run is None:
        notes.append(
            "One run per arm and network: the interval holds for these runs, not for another seed "
            "of pretraining."
        )
    unit = " (relative)" if relative else ""
    low, high = effect.low, effect.high
    known = (
        f" [{low:+.3g}, {high:+.3g}]" if low is not None and high is not None else " (no interval)"
    )
    better = "better" if effect.estimate >= 0 else "worse"
    amount = f"{abs(effect.estimate):.3g} {label_of(metric)}{unit}{known}"
    sentence = f"{arm_a} is {better} than {arm_b} by {amount}: {_CLAIM[effect.decision]}."
    return Comparison(
        arm_a=arm_a,
        arm_b=arm_b,
        metric=metric,
        effect=effect,
        sentence=sentence,
        smallest_effect=smallest,
        relative=relative,
        mean_a=float((mean * in_a).sum() / in_a.sum()),
        mean_b=float(base @ mean),
        runs_a=int(in_a.sum()),
        runs_b=int((~in_a).sum()),
        better_a=int((gain < 0).sum() if lower else (gain > 0).sum()),
        notes=tuple(notes),
    )


_CLAIM: dict[Decision, str] = {
    "improves": "a worthwhile difference",
    "improves, slightly": "a difference, not shown to be a worthwhile one",
    "no worthwhile improvement": "no worthwhile difference",
    "harms": "it does harm",
    "undetermined": "undetermined",
}


def _sentence(
    task: str,
    metric: str,
    main: Effect,
    others: list[Effect],
    smallest: float,
    relative: bool,
    confidence: float,
) -> str:
    def number(x: float, signed: bool = True) -> str:
        sign = "+" if signed else ""
        return f"{100 * x + 0.0:{sign}.1f} %" if relative else f"{round(x, 3) + 0.0:{sign}.3f}"

    if main.low is None or main.high is None:
        return (
            f"{task}: undetermined. From the smallest to the largest budget {metric} changes by "
            f"{number(main.estimate)} (positive is better), but nothing tells how much runs "
            "differ by chance: "
            "repeat runs with other seeds."
        )
    worth = f"what is worth having ({number(smallest, False)})"
    claim = {
        "improves": f"more budget improves {metric}, by more than {worth}",
        "improves, slightly": f"more budget improves {metric}, but perhaps by less than {worth}",
        "no worthwhile improvement": f"more budget brings no improvement of {metric} beyond "
        f"{worth}",
        "harms": f"more budget harms {metric}",
        "undetermined": f"undetermined whether more budget helps {metric}",
    }[main.decision]
    if main.decision == "improves, slightly" and main.high < smallest:
        claim = f"more budget improves {metric}, by less than {worth}"
    interval = (
        f"{number(main.estimate)} ({confidence:.0%} interval {number(main.low)} to "
        f"{number(main.high)})"
    )
    parts = [f"{task}: {claim}: {interval}."]
    for effect in others:
        alone = f"{effect.name.capitalize()} alone: {number(effect.estimate)}"
        if effect.low is None or effect.high is None:
            parts.append(f"{alone}, no interval without repeated runs.")
        else:
            parts.append(f"{alone} ({number(effect.low)} to {number(effect.high)}).")
    if main.decision == "undetermined":
        ways = [f"{main.seeds_needed} seeds per cell"] if main.seeds_needed else []
        ways += [f"{main.cases_needed} test cases"] if main.cases_needed else []
        if ways:
            parts.append(f"About {' or '.join(ways)} would settle it.")
        else:
            parts.append("Neither more seeds nor more cases alone would settle it.")
    return " ".join(parts)
