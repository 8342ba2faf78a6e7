"""May the report speak about budgets beyond those that were run? Only if the largest could have
been foretold from the smaller.

For each axis the runs of the largest level are left out, the curve is fitted to the rest, and its
prediction must (1) cover the mean of what was left out, in its own interval for new runs, and (2)
come closer to it than "no change" from the largest level kept.
"""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd

from scaling.laws.curves.fitting import fit
from scaling.laws.plain import plain


@dataclass(frozen=True)
class Gate:
    """What came of leaving out the largest level of `axis`; `opens` if it was covered and beat
    "no change"."""

    axis: str
    left_out: float
    observed: float
    predicted: float | None
    low: float | None
    high: float | None
    no_change: float | None
    covered: bool
    beats_no_change: bool
    sentence: str

    @property
    def opens(self) -> bool:
        return self.covered and self.beats_no_change

    def to_dict(self) -> dict[str, Any]:
        return cast(dict[str, Any], plain(self)) | {"opens": self.opens}


def extrapolation_gate(
    table: pd.DataFrame,
    x: tuple[str, ...],
    y: str,
    *,
    bounds: tuple[float, float] | None,
    lower_is_better: bool,
    cluster: str | None = None,
    seed: int = 0,
) -> tuple[Gate, ...]:
    """Leave-largest-out on each axis of `x` (a row per run; arguments as for `fit`). All must
    open before a prediction beyond the data may be made. An axis with fewer than four levels
    keeps its gate shut: three levels carry no curve to test."""
    gates = []
    for axis in x:
        levels = np.unique(table[axis])
        largest = float(levels[-1])
        kept, out = table[table[axis] < largest], table[table[axis] == largest]
        observed = float(out[y].mean())
        if len(levels) < 4:
            sentence = (
                f"{len(levels)} levels of {axis} are too few to test an extrapolation on: "
                "at least four are needed."
            )
            gates.append(
                Gate(axis, largest, observed, None, None, None, None, False, False, sentence)
            )
            continue
        varying = tuple(c for c in x if c == axis or len(kept[c].unique()) > 1)
        curve = fit(
            kept,
            varying,
            y,
            bounds=bounds,
            lower_is_better=lower_is_better,
            cluster=cluster,
            seed=seed,
        )
        mean, low, high = curve.predict(out[list(varying)].to_numpy(float), new_run=True)
        # runs left out at the same point average their own scatter
        predicted, lowest, highest = float(mean.mean()), float(low.mean()), float(high.mean())
        others = [c for c in x if c != axis]
        nearest = kept[kept[axis] == levels[-2]]
        before = (
            nearest[nearest[others].apply(tuple, axis=1).isin(out[others].apply(tuple, axis=1))]
            if others
            else nearest
        )
        no_change = float((before if len(before) else nearest)[y].mean())
        covered = lowest <= observed <= highest
        beats = abs(predicted - observed) <= abs(no_change - observed)
        verb = "covers" if covered else "misses"
        closer = "closer than" if beats else "no closer than"
        sentence = (
            f"Without {axis} {largest:.3g} the curve foretells {predicted:.4g} ({lowest:.4g} to "
            f"{highest:.4g}) there; {observed:.4g} was "
            f"found. The interval {verb} it, and it is {closer} no change ({no_change:.4g})."
        )
        gates.append(
            Gate(
                axis,
                largest,
                observed,
                predicted,
                lowest,
                highest,
                no_change,
                covered,
                beats,
                sentence,
            )
        )
    return tuple(gates)
