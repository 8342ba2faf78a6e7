"""The shape of a surface in words: does it add up, and is larger always better?"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.stats import t as student_t

from scaling.laws.arrays import FloatArray
from scaling.laws.verdicts.contrasts import (
    AXES,
    block_numbers,
    in_all_runs,
    is_grid,
    level_contrasts,
    mean_of,
    short,
)
from scaling.laws.verdicts.crossed import contrast_variance
from scaling.laws.verdicts.design_of_runs import Design
from scaling.laws.verdicts.scores import Scores


@dataclass(frozen=True)
class Peak:
    """A level within the ladder of one axis that is better than its largest level."""

    axis: str
    level: float
    over_smallest: float
    """How much better its mean score is than at the smallest level."""
    over_largest: float
    """How much better its mean score is than at the largest level."""

    @property
    def sentence(self) -> str:
        """In words, in the units of the metric."""
        return (
            f"Best at {self.axis} {short(self.level)} ({self.over_smallest:+.3f} against the "
            f"smallest); larger is worse ({-self.over_largest:+.3f})."
        )


def peaks(
    data: Scores, fitted: Design, sign: float, smallest: float, level: float = 0.05
) -> tuple[Peak, ...]:
    """The axes along which an inner level is better than both ends, than the largest by more than
    chance and by `smallest`.

    Every inner level is tested against the largest, at `level` shared between them (Bonferroni).
    """
    runs = data.runs.reset_index(drop=True)
    if not is_grid(runs):
        return ()
    result = []
    for axis in AXES:
        levels = np.unique(runs[axis]).tolist()
        inner = levels[1:-1]
        best: Peak | None = None
        for middle in inner:
            fall = _step(runs, axis, levels[-1], middle)
            rise = _step(runs, axis, levels[0], middle)
            if fall is None or rise is None:
                continue
            over_largest = sign * float(fall @ data.values.mean((1, 2)))
            over_smallest = sign * float(rise @ data.values.mean((1, 2)))
            if over_smallest <= 0 or over_largest < smallest:
                continue
            certain = _p_positive(data, fitted, fall, over_largest) < level / len(inner)
            if certain and (best is None or over_largest > best.over_largest):
                best = Peak(axis, middle, over_smallest, over_largest)
        if best is not None:
            result.append(best)
    return tuple(result)


def _step(runs: pd.DataFrame, axis: str, low: float, high: float) -> FloatArray | None:
    """Weights [R] of the step between two levels of an axis at shared levels of the other,
    averaged over blocks."""
    other = AXES[1 - AXES.index(axis)]
    parts = []
    for _, block in runs.groupby(block_numbers(runs)):
        steps = level_contrasts(block, axis, low, high, other)
        if steps:
            parts.append(in_all_runs(np.mean(steps, axis=0), block, runs))
    if not parts:
        return None
    return np.asarray(np.mean(parts, axis=0), float)


def _p_positive(data: Scores, fitted: Design, a: FloatArray, estimate: float) -> float:
    """One-sided p of an estimate above nought; 1 where nothing tells how much runs vary."""
    parts = contrast_variance(data.values, a, fitted.noise, data.strata)
    if not parts.run_df or parts.variance <= 0:
        return 1.0
    return float(student_t.sf(estimate / np.sqrt(parts.variance), parts.df))


def interaction_contrast(data: Scores) -> FloatArray | None:
    """Weights [R] of how much more both axes bring together than one after the other; None
    where not all four corners were run in every block."""
    runs = data.runs.reset_index(drop=True)
    parts = []
    for _, block in runs.groupby(block_numbers(runs)):
        if any(len(block[axis].unique()) == 1 for axis in AXES):
            return None
        whole = np.zeros(len(runs))
        for size_end, duration_end, weight in ((0, 0, 1), (1, 0, -1), (0, 1, -1), (1, 1, 1)):
            corner = mean_of(
                block,
                size=float(np.unique(block["size"])[-size_end]),
                duration=float(np.unique(block["duration"])[-duration_end]),
            )
            if not corner.any():
                return None
            whole[runs.index.get_indexer(block.index)] += weight * corner
        parts.append(whole)
    return np.asarray(np.mean(parts, axis=0), float)


def non_additivity(data: Scores, fitted: Design, sign: float) -> tuple[float, str] | None:
    """p of a test that size and duration add up, and what it says in words; None where the
    corners were not run or nothing tells how much runs vary."""
    a = interaction_contrast(data)
    if a is None or not is_grid(data.runs):
        return None
    estimate = sign * float(a @ data.values.mean((1, 2)))
    p = 2 * min(_p_positive(data, fitted, side * a, side * sign * estimate) for side in (1, -1))
    if p >= 0.05:
        return min(p, 1.0), ""
    word = "less" if estimate < 0 else "more"
    return p, (
        f"Size and duration do not add up: together they bring {abs(estimate):.3f} {word} than "
        f"one after the other (p = {p:.2g})."
    )


def largest_interaction(data: Scores, fitted: Design) -> float | None:
    """The largest non-additivity among the rectangles of cells that were run, beyond its chance
    scatter: how far a corner that was never run may lie off an additive mean. None without any
    rectangle."""
    runs = data.runs.reset_index(drop=True)
    mean = data.values.mean((1, 2))
    sizes, durations = (np.unique(runs[axis]).tolist() for axis in AXES)
    largest: float | None = None
    for i, j in zip(*np.triu_indices(len(sizes), 1), strict=True):
        for k, m in zip(*np.triu_indices(len(durations), 1), strict=True):
            corners = [
                mean_of(runs, size=sizes[x], duration=durations[y])
                for x, y in ((j, m), (j, k), (i, m), (i, k))
            ]
            if not all(corner.any() for corner in corners):
                continue
            a = corners[0] - corners[1] - corners[2] + corners[3]
            largest = max(largest or 0.0, abs(float(a @ mean)))
    return largest


def relative_peaks(found: tuple[Peak, ...], baseline: float) -> tuple[Peak, ...]:
    """Peaks as fractions of the score at the smallest budget."""
    return tuple(
        replace(
            peak,
            over_smallest=peak.over_smallest / baseline,
            over_largest=peak.over_largest / baseline,
        )
        for peak in found
    )
