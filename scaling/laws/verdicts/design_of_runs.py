"""What the runs of a study can tell: the contrasts of its gains, and an estimate of their noise."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from scaling.laws.arrays import FloatArray, IntArray
from scaling.laws.verdicts.contrasts import (
    AXES,
    block_numbers,
    cell_name,
    cell_numbers,
    corner_contrast,
    is_grid,
    listed,
    margin_contrast,
    mean_of,
    never_run,
    numbers,
)
from scaling.laws.verdicts.crossed import RunNoise, Strata, residual_strata
from scaling.laws.verdicts.noise import (
    LevelNoise,
    NoisierOf,
    SplitPlotNoise,
    TrunkNoise,
    UnknownNoise,
    residual_maker,
)
from scaling.laws.verdicts.scores import Scores


@dataclass(frozen=True)
class Design:
    """Contrasts of run means and what their noise is judged from."""

    contrasts: dict[str, FloatArray]
    """Name -> weights [R], budget first: observed gains where the cells were run."""
    base: FloatArray
    """Weights [R] of the score at the smallest budget."""
    noise: RunNoise
    strata: Strata
    """Residuals of the additive mean between and within trunks, for variance components."""
    notes: tuple[str, ...] = ()
    additive: FloatArray | None = None
    """Weights [R] of the budget's gain under a mean that is additive in size and duration."""
    missing: tuple[str, ...] = ()
    """The corners that were never run; the gain is then that of the additive mean."""


@dataclass(frozen=True)
class Plane:
    """An additive mean of the runs: its columns X [R, p], and steps [p] per name of a gain."""

    X: FloatArray
    steps: dict[str, FloatArray]
    base: FloatArray
    size_levels: bool
    """Whether sizes are levels of their own; False: a straight line in log size."""


def fit_design(data: Scores) -> Design:
    """The contrasts of the gains from budget, size and duration, and the noise of the runs.

    Blocks (another factor of the study, such as the objective) shift the mean; gains are those
    within a block, averaged over blocks."""
    runs = data.runs.reset_index(drop=True)
    plane, strata = _richest_plane(runs)
    inverse = np.linalg.pinv(plane.X)  # [p, R]: run means -> parameters of the additive mean
    additive = {name: step @ inverse for name, step in plane.steps.items()}
    # Where blocks have ladders of their own, a step from the smallest level to the largest would
    # be one between blocks: it is then no combination of the rows of X, and cannot be estimated.
    estimable = {
        name: np.allclose(step @ inverse @ plane.X, step) for name, step in plane.steps.items()
    }
    notes = _notes(runs, plane, all(estimable.values()))
    contrasts = dict(additive) if all(estimable.values()) else {"budget": additive["budget"]}
    base = plane.base @ inverse
    missing: list[str] = []
    if is_grid(runs):
        # The observed gain, where the smallest and the largest budget were run.
        corner, missing = corner_contrast(runs)
        if corner is not None:
            contrasts["budget"] = corner
            # The runs that the gain subtracts are those of the smallest budget.
            base = np.where(corner < 0, -corner, 0.0) / -corner[corner < 0].sum()
        for axis in contrasts.keys() & set(AXES):
            margin = margin_contrast(runs, axis)
            if margin is not None:
                contrasts[axis] = margin
    noise = run_noise(runs, strata, list(contrasts.values()))
    return Design(contrasts, base, noise, strata, tuple(notes), additive["budget"], tuple(missing))


def _notes(runs: pd.DataFrame, plane: Plane, separable: bool) -> list[str]:
    notes = []
    if "block" in runs and len(runs["block"].unique()) > 1:
        names = sorted(runs["block"].astype(str).unique())
        notes.append(f"Averaged over {', '.join(names)}.")
    if not separable:
        notes.append(
            "Size and duration changed together in every run: their separate effects cannot be "
            "told apart."
        )
    elif cells := never_run(runs):
        notes.append(f"Never run: {listed(cells)}.")
    if not is_grid(runs):
        notes.append(
            "The budget has many levels: the gain is that along a fitted line, not that between "
            "two cells."
        )
    elif not plane.size_levels and len(runs["size"].unique()) > 1:
        notes.append(
            "Too few runs to judge the levels one by one: their noise is judged from a straight "
            "line in log size."
        )
    return notes + _unrepeated_ends(runs)


def _unrepeated_ends(runs: pd.DataFrame) -> list[str]:
    """A note for every end of the budget that was run once where another cell was repeated."""
    units = runs.groupby(cell_numbers(runs))["cluster"].nunique()
    if not is_grid(runs) or units.max() == 1:
        return []
    notes = []
    for word, pick in (("smallest", min), ("largest", max)):
        levels = {axis: float(pick(runs[axis])) for axis in AXES}
        weights = mean_of(runs, **levels)
        if len(runs.loc[weights > 0, "cluster"].unique()) == 1:
            notes.append(
                f"The {word} budget ({cell_name(runs, levels)}) was run once, others up to "
                f"{units.max()} times: its noise can be judged from how far it strays from the "
                "trend at best, and where there is no trend to stray from, not at all. Repeat it "
                "with another seed."
            )
    return notes


def run_noise(runs: pd.DataFrame, strata: Strata, contrasts: list[FloatArray]) -> RunNoise:
    """The noise of runs around the richest mean that leaves residuals wherever `contrasts` look.

    A mean per cell, where every cell is repeated; else additive levels; else straight lines. Where
    none leaves any, the noise is unknown if other cells than the ends were repeated; else equal
    noise is all that can be assumed (`strata`)."""
    cells = cell_numbers(runs)
    models = [plane.X for plane in _planes(runs)]
    if runs.groupby(cells)["cluster"].nunique().min() > 1:
        if _trunks_are_whole(runs):
            group = numbers(runs["size"].astype(str) + "/" + block_numbers(runs).astype(str))
            return SplitPlotNoise(cells, numbers(runs["cluster"]), group)
        of_cell = (cells[:, None] == np.unique(cells)).astype(float)
        models.insert(0, of_cell)
    no_scores = np.zeros((len(runs), 1))
    for X in models:
        noise = _noise_around(X, runs)
        if all(noise.settled(no_scores[:, 0], a).variance(no_scores, a)[1] for a in contrasts):
            return noise
    if _unrepeated_ends(runs):
        # Repeats of other cells say nothing of how noisy the one at the end is.
        return UnknownNoise()
    return strata


def _trunks_are_whole(runs: pd.DataFrame) -> bool:
    """Whether runs share trunks, and all trunks of a size (in its block) have its durations."""
    if runs["cluster"].nunique() == len(runs):
        return False
    block = pd.Series(block_numbers(runs), index=runs.index)
    durations = runs.groupby([block, "size"])["duration"].transform("nunique")
    of_trunk = runs.groupby("cluster")["duration"].transform("nunique")
    runs_of_trunk = runs.groupby("cluster")["duration"].transform("size")
    return bool((durations == of_trunk).all() and (of_trunk == runs_of_trunk).all())


def _noise_around(X: FloatArray, runs: pd.DataFrame) -> RunNoise:
    residuals = residual_maker(X)
    trunk = numbers(runs["cluster"])
    if len(np.unique(trunk)) < len(runs):
        return TrunkNoise(residuals, trunk, _levels(runs["size"]))
    if not is_grid(runs):
        return LevelNoise(residuals, np.arange(len(runs)))
    options = [
        LevelNoise(residuals, _levels(runs[axis])) for axis in AXES if len(runs[axis].unique()) > 1
    ]
    return NoisierOf(tuple(options))


def _levels(column: pd.Series) -> IntArray:
    return np.asarray(np.unique(column, return_inverse=True)[1].ravel(), np.int64)


def _richest_plane(runs: pd.DataFrame) -> tuple[Plane, Strata]:
    """The additive mean with the most levels that leaves residuals for every gain."""
    no_scores = np.zeros((len(runs), 1))
    cluster = numbers(runs["cluster"])
    for plane in _planes(runs):
        inverse = np.linalg.pinv(plane.X)
        strata = residual_strata(plane.X, cluster)
        budget = plane.steps["budget"]
        gains = [step @ inverse for step in plane.steps.values()]
        if not np.allclose(budget @ inverse @ plane.X, budget):
            continue
        if all(strata.variance(no_scores, a)[1] for a in gains):
            break
    return plane, strata


def _planes(runs: pd.DataFrame) -> list[Plane]:
    """Additive means, the richest first: levels of size and duration, then straight lines in
    their logarithms; blocks shift them."""
    size, duration = (runs[axis].to_numpy(float) for axis in AXES)
    block = block_numbers(runs)
    shifts = (block[:, None] == np.unique(block)[None, 1:]).astype(float)  # [R, blocks - 1]
    planes = []
    for size_levels, duration_levels in ((True, True), (False, True), (False, False)):
        left, size_step = _columns(size, size_levels, block)
        right, duration_step = _columns(duration, duration_levels, block)
        none = np.zeros(shifts.shape[1])
        steps = {"budget": np.concatenate([[0.0], size_step, duration_step, none])}
        if left.shape[1]:
            steps["size"] = np.concatenate([[0.0], size_step, 0 * duration_step, none])
        if right.shape[1]:
            steps["duration"] = np.concatenate([[0.0], 0 * size_step, duration_step, none])
        X = np.concatenate([np.ones((len(size), 1)), left, right, shifts], axis=1)
        base = np.concatenate([[1.0], 0 * size_step, 0 * duration_step, shifts.mean(0)])
        planes.append(Plane(X, steps, base, size_levels))
    return planes


def _columns(x: FloatArray, as_levels: bool, block: IntArray) -> tuple[FloatArray, FloatArray]:
    """Columns [R, p] of one factor, zero at its smallest level, and the step [p] from its smallest
    to its largest.

    The step along a line is that of the blocks with more than one level, on average, each within
    its own. No columns where no block has more than one level: levels that differ between blocks
    only are the blocks' doing."""
    levels = np.unique(x)
    position = np.log(x / levels[0]) if levels[0] > 0 else x - levels[0]
    spans = np.array([np.ptp(position[block == one]) for one in np.unique(block)])
    if not spans.any():
        return np.empty((len(x), 0)), np.empty(0)
    if as_levels:
        last = len(levels) - 2
        return (x[:, None] == levels[None, 1:]).astype(float), np.eye(1, last + 1, last)[0]
    span = spans[spans > 0].mean()
    return position[:, None] / position.max(), np.array([span / position.max()])
