"""How much a contrast scatters because runs do, where runs of some levels may be noisier.

Pooling all residuals assumes that every run is as noisy as any other; five seeds of the smallest
size then vouch for a largest size that is four times noisier. Here the noise of a run is estimated
from the residuals at its own level: HC2 (MacKinnon and White 1985, J. Econometrics 29:305), summed
over trunks where durations share one (CR2; Pustejovsky and Tipton 2018, J. Bus. Econ. Stat.
36:672). Few residuals make such a variance uncertain. The degrees of freedom are the smaller of
two figures: Bell and McCaffrey's (2002, Surv. Methodol. 28:169), which follow from the design, and
Satterthwaite's, which follow from how unequal the levels turned out to be.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from scaling.laws.arrays import FloatArray, IntArray
from scaling.laws.verdicts.crossed import RunNoise

INVISIBLE = 0.05
"""Share of a level's variance that residuals must keep; below it they say nothing of its noise."""


def residual_maker(X: FloatArray) -> FloatArray:
    """The projection [R, R] of run means onto their residuals around a mean model X [R, p]."""
    u, s, _ = np.linalg.svd(X, full_matrices=False)
    basis = u[:, s > 1e-9 * max(1.0, float(s.max(initial=0.0)))]
    return np.asarray(np.eye(len(X)) - basis @ basis.T, float)


def sums_by(level: IntArray, columns: FloatArray) -> FloatArray:
    """Sums [L, C] of the rows of columns [R, C] of every level; `level` [R] numbers all from 0."""
    order = np.argsort(level, kind="stable")
    starts = np.searchsorted(level[order], np.arange(level.max() + 1))
    return np.asarray(np.add.reduceat(columns[order], starts, axis=0), float)


@dataclass(frozen=True)
class LevelNoise:
    """Runs are independent, and all runs of one level share a variance.

    `residuals` [R, R]: see `residual_maker`; `level` [R] numbers the level of every run."""

    residuals: FloatArray
    level: IntArray

    def settled(self, means: FloatArray, a: FloatArray) -> RunNoise:
        """Itself: there is no choice to settle."""
        return self

    def variance(self, columns: FloatArray, a: FloatArray) -> tuple[float, float]:
        """Variance of a'm, summed over columns [R, C], and its degrees of freedom (0: unknown)."""
        squares = ((self.residuals @ columns) ** 2).sum(1)
        exposure = np.bincount(self.level, a**2)
        visible = np.bincount(self.level, np.diag(self.residuals))
        used = exposure > 1e-9 * float(a @ a)
        if (visible < INVISIBLE * np.bincount(self.level))[used].any():
            return 0.0, 0.0
        scale = np.where(used, exposure / np.where(used, visible, 1.0), 0.0)
        parts = scale * np.bincount(self.level, squares)
        blocks = self._squared_blocks
        bell_mccaffrey = (scale @ visible) ** 2 / float(scale @ blocks @ scale)
        within = np.diag(blocks) / np.where(used, visible, 1.0) ** 2
        spread = float((parts**2 * within).sum())
        if spread == 0:
            return 0.0, float(bell_mccaffrey)
        return float(parts.sum()), float(min(bell_mccaffrey, parts.sum() ** 2 / spread))

    @cached_property
    def _squared_blocks(self) -> FloatArray:
        """Sum of the squared entries of `residuals` between any two levels [L, L]."""
        member = (self.level[:, None] == np.arange(self.level.max() + 1)).astype(float)
        return np.asarray(member.T @ self.residuals**2 @ member, float)


@dataclass(frozen=True)
class UnknownNoise:
    """Nothing says how noisy the runs are that decide."""

    def settled(self, means: FloatArray, a: FloatArray) -> RunNoise:
        """Itself: there is no choice to settle."""
        return self

    def variance(self, columns: FloatArray, a: FloatArray) -> tuple[float, float]:
        """Unknown: no degrees of freedom."""
        return 0.0, 0.0


MUCH_NOISIER = 2.0
"""An axis by which the variance is this many times larger is the one that noise follows."""


@dataclass(frozen=True)
class MeanOf:
    """The mean of several estimates of one variance, on the fewest degrees of freedom."""

    options: tuple[LevelNoise, ...]

    def settled(self, means: FloatArray, a: FloatArray) -> RunNoise:
        """Itself: there is no choice to settle."""
        return self

    def variance(self, columns: FloatArray, a: FloatArray) -> tuple[float, float]:
        """Variance of a'm, summed over columns [R, C], and its degrees of freedom (0: unknown)."""
        estimates = [option.variance(columns, a) for option in self.options]
        total = sum(variance for variance, _ in estimates)
        return total / len(estimates), min(df for _, df in estimates)


@dataclass(frozen=True)
class NoisierOf:
    """Noise may follow size or duration, nobody knows which: the axis by which the variance is
    much larger counts alone, else the mean of both.

    The larger of both, always, would be too wide where all runs are equally noisy."""

    options: tuple[LevelNoise, ...]

    def settled(self, means: FloatArray, a: FloatArray) -> RunNoise:
        """The estimate of the variance of contrast a [R] of the run means [R]."""
        totals = [option.variance(means[:, None], a)[0] for option in self.options]
        if max(totals) > MUCH_NOISIER * min(totals):
            return self.options[int(np.argmax(totals))]
        return MeanOf(self.options)

    def variance(self, columns: FloatArray, a: FloatArray) -> tuple[float, float]:
        """Variance of a'm, summed over columns [R, C], and its degrees of freedom (0: unknown)."""
        return max(option.variance(columns, a) for option in self.options)


@dataclass(frozen=True)
class SplitPlotNoise:
    """Every size has several trunks of the same durations: its noise is that between its trunks
    and that within them, as in a split-plot design, and is its own.

    `cell` [R], `trunk` [R] and `group` [R] number the cell, the trunk and the size (in its block)
    of every run."""

    cell: IntArray
    trunk: IntArray
    group: IntArray

    def settled(self, means: FloatArray, a: FloatArray) -> RunNoise:
        """Itself: there is no choice to settle."""
        return self

    def variance(self, columns: FloatArray, a: FloatArray) -> tuple[float, float]:
        """Variance of a'm, summed over columns [R, C], and its degrees of freedom (0: unknown)."""
        of_trunk, trunks, durations = self._layout
        total = np.bincount(self.group, a**2)
        shared = of_trunk.T @ np.bincount(self.trunk, a) ** 2 / durations  # [groups]
        cell_means = sums_by(self.cell, columns) / np.bincount(self.cell)[:, None]
        residuals = columns - cell_means[self.cell]
        sums = sums_by(self.trunk, residuals)  # [trunks, C]
        between = of_trunk.T @ (sums**2).sum(1) / durations
        within = np.bincount(self.group, (residuals**2).sum(1)) - between
        df_between, df_within = trunks - 1, (trunks - 1) * (durations - 1)
        parts = [(shared * between / df_between, df_between)]
        if (durations > 1).any():
            alone = np.maximum(total - shared, 0.0)
            parts.append((alone * np.maximum(within, 0.0) / np.maximum(df_within, 1), df_within))
        estimate = sum(float(part.sum()) for part, _ in parts)
        spread = sum(float((part**2 / np.maximum(df, 1)).sum()) for part, df in parts)
        if spread == 0:
            return 0.0, float(df_between[total > 0].sum())
        return estimate, estimate**2 / spread

    @cached_property
    def _layout(self) -> tuple[FloatArray, IntArray, IntArray]:
        """Which trunk is of which group [trunks, groups]; trunks and durations per group."""
        of_trunk = np.zeros((self.trunk.max() + 1, self.group.max() + 1))
        of_trunk[self.trunk, self.group] = 1.0
        trunks = of_trunk.sum(0).astype(np.int64)
        return of_trunk, trunks, np.bincount(self.group) // trunks


@dataclass(frozen=True)
class TrunkNoise:
    """Runs of one trunk resemble each other; trunks are independent, those of one size alike.

    `residuals` [R, R]; `trunk` [R] numbers the trunk of every run, `size` [R] its level of size.
    The working covariance, which only scales the residuals, gives a trunk and a run equal shares.
    """

    residuals: FloatArray
    trunk: IntArray
    size: IntArray

    def settled(self, means: FloatArray, a: FloatArray) -> RunNoise:
        """Itself: there is no choice to settle."""
        return self

    def variance(self, columns: FloatArray, a: FloatArray) -> tuple[float, float]:
        """Variance of a'm, summed over columns [R, C], and its degrees of freedom (0: unknown)."""
        member = (self.trunk[:, None] == np.arange(self.trunk.max() + 1)).astype(float)
        exposed = member * a[:, None]  # [R, trunks]
        used = (np.abs(exposed) > 0).any(0)
        exposed, level = exposed[:, used], self.size[member[:, used].argmax(0)]
        projected = self.residuals @ exposed  # [R, trunks]
        needed, visible = self._working(exposed, member), self._working(projected, member)
        shared = ((member.T @ exposed) ** 2).sum(0)  # what a trunk's own noise adds
        shared_visible = ((member.T @ projected) ** 2).sum(0)
        hidden = (shared > 1e-9) & (shared_visible < INVISIBLE * shared)
        groups = np.unique(level, return_inverse=True)[1]
        of_group = np.bincount(groups, visible)
        if hidden.any() or (of_group < INVISIBLE * np.bincount(groups, needed)).any():
            return 0.0, 0.0
        scale = np.bincount(groups, needed) / of_group
        squares = ((projected.T @ columns) ** 2).sum(1)
        parts = scale * np.bincount(groups, squares)
        covariance = projected.T @ (projected + member @ (member.T @ projected))
        return float(parts.sum()), _trunk_degrees(covariance, groups, scale, parts)

    @staticmethod
    def _working(columns: FloatArray, member: FloatArray) -> FloatArray:
        """Variance of every column's combination of runs [trunks] under the working covariance."""
        return np.asarray((columns**2).sum(0) + ((member.T @ columns) ** 2).sum(0), float)


def _trunk_degrees(
    covariance: FloatArray, groups: IntArray, scale: FloatArray, parts: FloatArray
) -> float:
    weight = scale[groups]
    expected = weight * np.diag(covariance)
    squared = weight[:, None] * covariance**2 * weight
    bell_mccaffrey = float(expected.sum()) ** 2 / float(squared.sum())
    spread = 0.0
    for group, part in enumerate(parts):
        inside = groups == group
        block = squared[np.ix_(inside, inside)]
        spread += float(part) ** 2 * float(block.sum()) / float(expected[inside].sum()) ** 2
    if spread == 0:
        return bell_mccaffrey
    return min(bell_mccaffrey, float(parts.sum()) ** 2 / spread)
