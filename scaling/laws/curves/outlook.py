"""What the runs of a task say beyond themselves: ten times the budget, where the gate allows it,
and how a compute is best spent."""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd

from scaling.laws.curves.along import suits_a_curve
from scaling.laws.curves.curve import Curve
from scaling.laws.curves.fitting import fit
from scaling.laws.curves.frontier import Frontier, budgets_within, frontier
from scaling.laws.curves.gate import Gate, extrapolation_gate
from scaling.laws.plain import plain

AXES = ("size", "duration")


@dataclass(frozen=True)
class Outlook:
    """`curve`: over every axis that varies. `tenfold`: mean, low and high of a new run at ten
    times the largest budget, None while a gate is shut. `frontier`: best use of each compute
    (size x duration) between the smallest and the largest that were run, None with one axis."""

    curve: Curve
    gates: tuple[Gate, ...]
    tenfold: tuple[float, float, float] | None
    frontier: Frontier | None
    sentences: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        parts = {
            "gates": [gate.to_dict() for gate in self.gates],
            "frontier": self.frontier and self.frontier.to_dict(),
        }
        return cast(
            dict[str, Any], plain({**parts, "tenfold": self.tenfold, "sentences": self.sentences})
        )


def outlook(
    runs: pd.DataFrame, metric: str, bounds: tuple[float, float] | None, lower_is_better: bool
) -> Outlook | None:
    """Look beyond the runs of one task: a row per run with size, duration, trunk and value, named
    `metric` in the sentences.

    None where there is no curve to extend: no axis of three levels, or a metric that no form
    suits."""
    axes = tuple(axis for axis in AXES if len(runs[axis].unique()) > 1)
    if not suits_a_curve(runs["value"], bounds, lower_is_better) or all(
        len(runs[axis].unique()) < 3 for axis in axes
    ):
        return None
    cluster = "trunk" if len(runs["trunk"].unique()) > 1 else None
    curve = fit(
        runs, axes, "value", bounds=bounds, lower_is_better=lower_is_better, cluster=cluster
    )
    gates = extrapolation_gate(
        runs, axes, "value", bounds=bounds, lower_is_better=lower_is_better, cluster=cluster
    )
    tenfold, said = None, [gate.sentence for gate in gates if gate.predicted is not None]
    if all(gate.opens for gate in gates):
        # Ten times the budget, shared evenly (in logarithms) between the axes there are.
        point = np.array(curve.x_high) * 10 ** (1 / len(axes))
        mean, low, high = (float(values[0]) for values in curve.predict(point[None], new_run=True))
        tenfold = (mean, low, high)
        where = " and ".join(f"{axis} {x:.3g}" for axis, x in zip(axes, point, strict=True))
        said.insert(
            0,
            f"At ten times the budget ({where}) {metric} is foretold to be {mean:.4g} (90 % "
            f"interval {low:.4g} to {high:.4g}).",
        )
    else:
        reasons = [
            f"{gate.axis} has too few levels to test it on (four at least)"
            if gate.predicted is None
            else f"the largest {gate.axis} could not have been foretold from the rest"
            for gate in gates
            if not gate.opens
        ]
        said.insert(0, f"Nothing is said of ten times the budget: {', and '.join(reasons)}.")
    best = None
    if len(axes) == 2:
        best = frontier(curve, budgets_within(curve))
        said.append(_best_use(best))
    return Outlook(curve, gates, tenfold, best, tuple(said))


def _best_use(best: Frontier) -> str:
    """How compute is best split between size and duration, in a sentence."""
    inside = best.table[best.table["inside"]]
    if best.exponent is None or inside.empty:
        return (
            "The fitted surface has no best size for a given compute within what was run: no "
            "split of compute can be advised."
        )
    row = inside.iloc[-1]
    return (
        f"For a given compute the best size grows as compute to the power {best.exponent:.2f} "
        f"({best.exponent_low:.2f} to {best.exponent_high:.2f}); at size x duration "
        f"{row['compute']:.3g} it is {row['size']:.3g} ({row['size_low']:.3g} to "
        f"{row['size_high']:.3g}), trained for {row['duration']:.3g}."
    )
