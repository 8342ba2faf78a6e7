"""Synthetic studies with known truth, to test the verdict on: runs and cases crossed, durations
branching off shared trunks."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from scaling.laws.arrays import FloatArray, IntArray
from scaling.laws.verdicts.scores import Scores
from scaling.laws.verdicts.trend import progress


@dataclass(frozen=True)
class Noise:
    """Standard deviations, in the metric's units: of a trunk, of a cooldown (or of a whole run
    where runs share no trunk), of a case's level, of how a case answers to more budget, of a run
    on one case; and of a draw's level, answer and interaction with a run."""

    trunk: float = 0.0
    run: float = 0.01
    case: float = 0.2
    case_effect: float = 0.05
    run_case: float = 0.1
    draw: float = 0.0
    draw_effect: float = 0.0
    run_draw: float = 0.0


@dataclass(frozen=True)
class Grid:
    """What is run: `sizes` x `durations` cells, `seeds` each, scored on `cases` after `draws`
    few-shot draws."""

    sizes: tuple[float, ...]
    durations: tuple[float, ...]
    seeds: int
    cases: int
    draws: int = 1
    shared_trunks: bool = False


def study_runs(grid: Grid) -> pd.DataFrame:
    """One row per run: size, duration, cluster."""
    rows = [
        (
            size,
            duration,
            f"{size:g}/{seed}" if grid.shared_trunks else f"{size:g}/{duration:g}/{seed}",
        )
        for size in grid.sizes
        for seed in range(grid.seeds)
        for duration in grid.durations
    ]
    return (
        pd.DataFrame(rows, columns=["size", "duration", "cluster"]).rename_axis("run").reset_index()
    )


@lru_cache(maxsize=64)
def _layout(grid: Grid) -> tuple[pd.DataFrame, FloatArray, IntArray]:
    runs = study_runs(grid)
    return (
        runs,
        progress(runs["size"].to_numpy(float), runs["duration"].to_numpy(float)),
        np.asarray(pd.factorize(runs["cluster"])[0], np.int64),
    )


def simulate_study(grid: Grid, noise: Noise, effect: float, rng: np.random.Generator) -> Scores:
    """Scores of one study whose true gain from the smallest to the largest budget is `effect`."""
    runs, x, trunk = _layout(grid)
    R, K, J = len(runs), grid.draws, grid.cases
    level = noise.trunk * rng.normal(size=trunk.max() + 1)[trunk] + noise.run * rng.normal(size=R)
    case, case_effect = noise.case * rng.normal(size=J), noise.case_effect * rng.normal(size=J)
    draw, draw_effect = noise.draw * rng.normal(size=K), noise.draw_effect * rng.normal(size=K)
    values = (
        (effect * x + level)[:, None, None]
        + case[None, None, :]
        + x[:, None, None] * (case_effect[None, None, :] + draw_effect[None, :, None])
        + draw[None, :, None]
        + noise.run_draw * rng.normal(size=(R, K, 1))
        + noise.run_case * rng.normal(size=(R, K, J))
    )
    return Scores(values, runs, np.zeros(J, np.int64), ())
