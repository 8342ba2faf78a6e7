"""Which runs a gain is read from: corner against corner where both were run, else a fitted plane.

The gain from the smallest to the largest budget is the observed difference between the two corners
of the grid. It means the same whatever the shape of the surface between them. A plane that is
additive in size and duration would use more runs, but promises a Dice of 1.4 where the surface
saturates; it stands beside the observed gain, and replaces it only where a corner was never run.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from scaling.laws.arrays import FloatArray, IntArray

AXES = ("size", "duration")
MANY_LEVELS = 8
"""More levels than this are a continuous budget: no level stands for itself, a line does."""


def numbers(column: pd.Series) -> IntArray:
    """The distinct entries of a column, numbered in the order of their first occurrence."""
    return np.asarray(pd.factorize(column)[0], np.int64)


def block_numbers(runs: pd.DataFrame) -> IntArray:
    """The block of each run [R]; without blocks all are of one."""
    if "block" not in runs:
        return np.zeros(len(runs), np.int64)
    return numbers(runs["block"].astype(str))


def cell_numbers(runs: pd.DataFrame) -> IntArray:
    """The cell (block, size and duration) of each run [R]."""
    cells = runs[["size", "duration"]].astype(str).agg("/".join, axis=1)
    return numbers(cells + "/" + block_numbers(runs).astype(str))


def is_grid(runs: pd.DataFrame) -> bool:
    """Whether the levels of both axes are few enough to stand for themselves."""
    return all(runs[axis].nunique() <= MANY_LEVELS for axis in AXES)


def mean_of(runs: pd.DataFrame, **levels: float) -> FloatArray:
    """Weights [R] of the mean over the runs at these levels; zeros where there are none."""
    inside = np.ones(len(runs), bool)
    for column, level in levels.items():
        inside &= (runs[column] == level).to_numpy()
    return inside / max(int(inside.sum()), 1)


def corner_contrast(runs: pd.DataFrame) -> tuple[FloatArray | None, list[str]]:
    """Weights [R] of the observed gain from the smallest to the largest budget, averaged over the
    blocks in which the budget varies; None, and the corners by name, where one was never run."""
    parts, missing = [], []
    for _, block in runs.groupby(block_numbers(runs)):
        if all(len(block[axis].unique()) == 1 for axis in AXES):
            continue
        ends = [{axis: float(pick(block[axis])) for axis in AXES} for pick in (min, max)]
        weights = [mean_of(block, **levels) for levels in ends]
        missing += [
            cell_name(runs, levels)
            for levels, weight in zip(ends, weights, strict=True)
            if not weight.any()
        ]
        parts.append(in_all_runs(weights[1] - weights[0], block, runs))
    if missing:
        return None, list(dict.fromkeys(missing))
    return np.mean(parts, axis=0), []


def margin_contrast(runs: pd.DataFrame, axis: str) -> FloatArray | None:
    """Weights [R] of the observed gain from the smallest to the largest level of one axis, at the
    levels of the other axis (and in the blocks) where both were run, averaged; None where a block
    has no such level."""
    other = AXES[1 - AXES.index(axis)]
    parts = []
    for _, block in runs.groupby(block_numbers(runs)):
        low, high = float(block[axis].min()), float(block[axis].max())
        if low == high:
            continue
        steps = level_contrasts(block, axis, low, high, other)
        if not steps:
            return None
        parts += [in_all_runs(step, block, runs) for step in steps]
    if not parts:
        return None
    return np.asarray(np.mean(parts, axis=0), float)


def in_all_runs(weights: FloatArray, part: pd.DataFrame, runs: pd.DataFrame) -> FloatArray:
    """Weights [R] of all runs from those of some of them; the others have none."""
    whole = np.zeros(len(runs))
    whole[runs.index.get_indexer(part.index)] = weights
    return whole


def level_contrasts(
    runs: pd.DataFrame, axis: str, low: float, high: float, other: str
) -> list[FloatArray]:
    """Weights [R] of the step between two levels of `axis`, one entry for every level of `other`
    at which both were run."""
    steps = []
    for level in np.unique(runs[other]):
        first = mean_of(runs, **{axis: low, other: float(level)})
        last = mean_of(runs, **{axis: high, other: float(level)})
        if first.any() and last.any():
            steps.append(last - first)
    return steps


def never_run(runs: pd.DataFrame) -> list[str]:
    """The cells of the grid of sizes and durations that no run fills, by name."""
    if not is_grid(runs):
        return []
    filled = set(zip(runs["size"], runs["duration"], strict=True))
    names = []
    for size in np.unique(runs["size"]):
        for duration in np.unique(runs["duration"]):
            if (size, duration) not in filled:
                names.append(cell_name(runs, {"size": size, "duration": duration}))
    return names


def cell_name(runs: pd.DataFrame, levels: dict[str, float]) -> str:
    """A cell in words, naming the axes that vary."""
    varying = [axis for axis in AXES if len(runs[axis].unique()) > 1]
    return " and ".join(f"{axis} {short(levels[axis])}" for axis in varying)


def short(number: float) -> str:
    """A size or duration as people write it: 4M, 20k, 0.5."""
    for unit, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= unit:
            return f"{number / unit:.4g}{suffix}"
    return f"{number:.4g}"


def listed(names: Sequence[str], most: int = 4) -> str:
    """Names in a row, the first few of them."""
    if len(names) <= most:
        return "; ".join(names)
    return "; ".join(names[:most]) + f"; and {len(names) - most} more"
