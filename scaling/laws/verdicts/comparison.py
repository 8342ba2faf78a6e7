"""Is one arm better than another (pretrained against scratch)? A paired contrast."""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd

from scaling.laws.columns import require_columns
from scaling.laws.known_metrics import label_of
from scaling.laws.plain import plain
from scaling.laws.verdicts.contrasts import numbers
from scaling.laws.verdicts.crossed import residual_strata
from scaling.laws.verdicts.design_of_runs import Design
from scaling.laws.verdicts.effects import Decision, Effect, estimate_effect
from scaling.laws.verdicts.scores import scores
from scaling.laws.verdicts.stated import stated


@dataclass(frozen=True)
class Comparison:
    """How much better arm a is than arm b (positive = a is better), on the same draws and cases."""

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
    """Runs of a that are better than the mean of b's, of their own network where b has them."""
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
    of_a, of_b = (set(table.loc[table["arm"] == arm, "network"]) for arm in (arm_a, arm_b))
    if of_a <= of_b:
        return table[table["network"].isin(of_a)]
    return table.assign(network="")


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
    # [R, networks]: the share of each run in the mean of b's runs of a network
    of_b = cells / (~in_a @ cells)
    base = ~in_a * (of_b @ (in_a @ cells)) / in_a.sum()
    a = in_a / in_a.sum() - base
    strata = residual_strata(X, numbers(data.runs["cluster"]))
    mean = data.values.mean((1, 2))
    gain = (mean - cells @ ((~in_a * mean) @ of_b))[in_a]
    notes = list(data.notes)
    fitted = Design({"difference": a}, base, strata, strata)
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
    interval = " (no interval)"
    if low is not None and high is not None:
        interval = f" [{low:+.3g}, {high:+.3g}]"
    better = "better" if effect.estimate >= 0 else "worse"
    amount = f"{abs(effect.estimate):.3g} {label_of(metric)}{unit}{interval}"
    sentence = f"{arm_a} is {better} than {arm_b} by {amount}: {CLAIMS[effect.decision]}."
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


CLAIMS: dict[Decision, str] = {
    "improves": "a worthwhile difference",
    "improves, slightly": "a difference, not shown to be a worthwhile one",
    "no worthwhile improvement": "no worthwhile difference",
    "harms": "it does harm",
    "undetermined": "undetermined",
}
