"""Can the verdict on this study be trusted? It is tried on simulated studies of the same kind.

The simulated studies have the runs, trunks, draws, cases and sites of the real one, its unequal
noise and the shape of its surface; only the gain from the smallest to the largest budget is set.
"""

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pandas as pd

from scaling.laws.arrays import FloatArray, IntArray
from scaling.laws.plain import plain
from scaling.laws.verdicts.contrasts import cell_numbers, numbers
from scaling.laws.verdicts.design import noise_of, noise_with_draws
from scaling.laws.verdicts.design_of_runs import Design, fit_design
from scaling.laws.verdicts.effects import Effect, effect_and_parts, effect_of
from scaling.laws.verdicts.noise import residual_maker
from scaling.laws.verdicts.power import OperatingCharacteristics, characteristics
from scaling.laws.verdicts.scores import Scores, scores_on_axes
from scaling.laws.verdicts.simulate import Noise
from scaling.laws.verdicts.sites import gains_by_site, mean_over_sites
from scaling.laws.verdicts.trend import progress
from scaling.laws.verdicts.verdict import Verdict

MOST_CLAIMS, LEAST_COVERAGE = 0.08, 0.87
"""Beyond these (nominal .05 and .90) a verdict is not to be trusted."""


@dataclass(frozen=True)
class SelfTest:
    """How a verdict behaves on simulated studies like its own, in the metric's units."""

    null: OperatingCharacteristics
    """Without an effect."""
    real: OperatingCharacteristics
    """With twice the smallest effect of interest."""

    @property
    def warning(self) -> str | None:
        """Why the verdict cannot be trusted, in words; None where nothing speaks against it."""
        error = 2 * np.sqrt(0.05 * 0.95 / self.null.studies)
        if self.null.claims > MOST_CLAIMS + error:
            return (
                f"Of simulated studies like this one without any effect {self.null.claims:.0%} are "
                "claimed to improve (nominal 5 %): do not trust a claim of improvement."
            )
        if self.null.coverage < LEAST_COVERAGE - error:
            return (
                f"In simulated studies like this one the 90 % interval is right in "
                f"{self.null.coverage:.0%} only: take it as too narrow."
            )
        return None

    def to_dict(self) -> dict[str, Any]:
        """Plain, JSON-safe."""
        return cast(dict[str, Any], plain(self)) | {"warning": self.warning}


@dataclass(frozen=True)
class Situation:
    """What simulated studies share with a real one."""

    data: Scores
    noise: Noise
    u: FloatArray
    """[R] progress through the budget, 0 to 1."""
    shape: FloatArray
    """[R] the surface, less a straight gain, so that both ends of the budget are equal."""
    noisier: FloatArray
    """[R] how many times noisier a run is than the average run."""
    trunk: IntArray
    """[R] the trunk of every run."""
    spread: float
    """Standard deviation of the gain between sites."""

    def study(self, gain: float, rng: np.random.Generator) -> Scores:
        """Scores of one simulated study whose gain is `gain`."""
        R, K, J = self.data.values.shape
        trunks = rng.normal(size=int(self.trunk.max()) + 1)
        level = self.shape + gain * self.u + self.noise.trunk * trunks[self.trunk]
        level = level + self.noise.run * self.noisier * rng.normal(size=R)
        response = np.zeros(J) + self.noise.case_effect * rng.normal(size=J)
        if self.data.site is not None:
            sites, place = np.unique(self.data.site, return_inverse=True)
            gains = self.spread * rng.standard_normal(len(sites))
            response = response + gains[place.ravel()]
        answer = np.zeros(K) + self.noise.draw_effect * rng.normal(size=K)
        values = (
            level[:, None, None]
            + self.noise.case * rng.normal(size=J)
            + self.u[:, None, None] * (response + answer[:, None])
            + self.noise.draw * rng.normal(size=(K, 1))
            + self.noise.run_draw * rng.normal(size=(R, K, 1))
            + self.noise.run_case * rng.normal(size=(R, K, J))
        )
        return replace(self.data, values=values)


def situation_of(data: Scores, design: Design, spread: float) -> Situation:
    """The situation of a study, from its own scores."""
    runs = data.runs.reset_index(drop=True)
    mean = data.values.mean((1, 2))
    u = progress(runs["size"].to_numpy(float), runs["duration"].to_numpy(float))
    cell = cell_numbers(runs)
    of_cell = (cell[:, None] == np.unique(cell)).astype(float)
    fitted = of_cell @ (mean @ of_cell / of_cell.sum(0))
    gain = float(design.contrasts["budget"] @ mean)
    draws = data.values.shape[1]
    noise = noise_of(data) if draws == 1 else noise_with_draws(data)
    repeated = len(runs) > of_cell.shape[1]
    shape = fitted - gain * u if repeated else np.zeros(len(runs))
    return Situation(
        data=data,
        noise=noise,
        u=u,
        shape=shape - shape.mean(),
        noisier=_noisier(runs["size"], mean, of_cell),
        trunk=numbers(runs["cluster"]),
        spread=spread,
    )


def _noisier(size: pd.Series, mean: FloatArray, of_cell: FloatArray) -> FloatArray:
    """How many times noisier than average the runs of each size are [R], where repeats tell."""
    residuals = residual_maker(of_cell)
    squares, freedom = (residuals @ mean) ** 2, np.diag(residuals)
    level = np.unique(size, return_inverse=True)[1].ravel()
    of_level = np.bincount(level, freedom)
    if freedom.sum() == 0 or squares.sum() == 0:
        return np.ones(len(mean))
    average = squares.sum() / freedom.sum()
    # A level with fewer than two residuals of its own says little: it counts as average.
    variance = np.where(
        of_level >= 2, np.bincount(level, squares) / np.maximum(of_level, 1e-9), average
    )
    return np.asarray(np.sqrt(variance / average)[level], float)


def self_test(cases: pd.DataFrame, judged: Verdict, studies: int = 400) -> SelfTest:
    """Try the verdict `judged` from `cases` on simulated studies of its own situation."""
    data = scores_on_axes(cases, judged.metric)
    smallest = judged.smallest_effect * (abs(judged.baseline) if judged.relative else 1.0)
    design = fit_design(data)
    over_sites = judged.sites is not None and judged.sites.decides == "mean"
    spread = 0.0
    if over_sites and judged.sites is not None and judged.sites.spread is not None:
        spread = judged.sites.spread * (abs(judged.baseline) if judged.relative else 1.0)
    situation = situation_of(data, design, spread)

    def tried(gain: float, seed: int) -> OperatingCharacteristics:
        def judge(rng: np.random.Generator) -> Effect:
            return _judged(situation.study(gain, rng), design, over_sites, smallest)

        return characteristics(judge, gain, studies, seed)

    return SelfTest(null=tried(0.0, seed=1), real=tried(2 * smallest, seed=2))


def _judged(data: Scores, design: Design, over_sites: bool, smallest: float) -> Effect:
    """The effect that would decide on simulated scores."""
    a = design.contrasts["budget"]
    if not over_sites:
        return effect_and_parts("budget", data, a, design, 1.0, None, smallest, 0.90)[0]
    sites = gains_by_site(data, a, 1.0, 0.0)
    estimate, parts = mean_over_sites(data, a, 1.0, design.noise, sites)
    return effect_of("budget", estimate, parts, smallest, 0.90)
