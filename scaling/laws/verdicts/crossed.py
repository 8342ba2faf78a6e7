"""Variance of a contrast when runs, few-shot draws and test cases are crossed random factors.

All runs are scored on the same cases after the same draws, so neither the scatter over runs nor
that over cases alone is the error of a contrast. With `values` y [R, K, J] and a contrast a [R],
the estimate is theta = sum_r a_r mean_kj(y), and by inclusion and exclusion

    V = V_run + V_case + V_draw - V_run,case - V_run,draw - V_case,draw + V_run,case,draw

where V_f is the variance of theta that is seen when the levels of f alone are resampled (Cameron,
Gelbach and Miller 2011, J. Bus. Econ. Stat. 29:238; the ANOVA of Owen 2007, Ann. Appl. Stat.
1:386). Each term is a multiple of a mean square, so Satterthwaite's (1946, Biometrics Bulletin
2:110) degrees of freedom follow. Runs that share a trunk are correlated: the run terms are split
into a stratum between trunks and one within (Henderson's method III), which for a full grid is
the split-plot analysis.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from scaling.laws.arrays import FloatArray, IntArray


class RunNoise(Protocol):
    """An estimate of how much a contrast of run means scatters because runs do."""

    def settled(self, means: FloatArray, a: FloatArray) -> "RunNoise":
        """The same with every choice made that the run means [R] and contrast a [R] decide."""

    def variance(self, columns: FloatArray, a: FloatArray) -> tuple[float, float]:
        """Variance of a'm, summed over columns [R, C], and its degrees of freedom (0: unknown)."""


@dataclass(frozen=True)
class Strata:
    """The residuals of runs of equal noise around a mean model X [R, p], between and within
    clusters."""

    between: FloatArray
    """[R, df_between] orthonormal basis."""
    within: FloatArray
    """[R, df_within] orthonormal basis."""
    cluster_trace: float
    """trace(M Z Z') over the residual space M: how much variance of clusters it holds."""
    membership: FloatArray
    """[R, clusters] one-hot Z."""

    def settled(self, means: FloatArray, a: FloatArray) -> RunNoise:
        """Itself: there is no choice to settle."""
        return self

    def variance(self, columns: FloatArray, a: FloatArray) -> tuple[float, float]:
        """Variance of a'm from residual mean squares, summed over columns [R, C], and its degrees
        of freedom (0: unknown)."""
        df_between, df_within = self.between.shape[1], self.within.shape[1]
        total = float(a @ a)
        exposure = float(((self.membership.T @ a) ** 2).sum())
        between = 0.0
        if self.cluster_trace > 1e-9:
            between = exposure * df_between / self.cluster_trace
        within = total - between
        if exposure > 1e-9 * total and df_between == 0:
            return 0.0, 0.0
        if within > 1e-9 * total and df_within == 0:
            within, between = 0.0, total
            if df_between == 0:
                return 0.0, 0.0
        ms_between = float(((self.between.T @ columns) ** 2).sum()) / max(df_between, 1)
        ms_within = float(((self.within.T @ columns) ** 2).sum()) / max(df_within, 1)
        if df_between and df_within and ms_between < ms_within and between > 0 and within > 0:
            # Runs of one cluster cannot differ more than runs of two: the variance of clusters is
            # nought, and both squares estimate that of a run.
            df = df_between + df_within
            return total * (df_between * ms_between + df_within * ms_within) / df, float(df)
        parts = [(between * ms_between, df_between), (within * ms_within, df_within)]
        estimate = sum(part for part, _ in parts)
        if estimate <= 0:  # an unbalanced grid can subtract more than it adds
            return max(0.0, *(part for part, _ in parts)), float(df_between or df_within)
        spread = sum(part**2 / df for part, df in parts if df)
        if spread == 0:
            return estimate, float(df_between + df_within)
        return estimate, estimate**2 / spread


def residual_strata(X: FloatArray, cluster: IntArray) -> Strata:
    """Split the residual space of `X` [R, p] by `cluster` [R] (integers, one per trunk)."""
    Z = (cluster[:, None] == np.unique(cluster)[None, :]).astype(float)
    means = _basis(X)
    Z_left = Z - means @ (means.T @ Z)
    between = _basis(Z_left)
    everything = np.concatenate([means, between], axis=1)
    within = _basis(np.eye(len(X)) - everything @ everything.T)
    return Strata(between, within, float((Z_left**2).sum()), Z)


def _basis(matrix: FloatArray) -> FloatArray:
    """Orthonormal basis [R, rank] of the columns of a matrix."""
    u, s, _ = np.linalg.svd(matrix, full_matrices=False)
    return u[:, s > 1e-9 * max(1.0, float(s.max(initial=0.0)))]


@dataclass(frozen=True)
class Components:
    """Variance of one contrast and where it comes from."""

    variance: float
    df: float
    """Satterthwaite's degrees of freedom."""
    run: float
    run_df: float
    """0 where nothing tells how much runs vary."""
    case: float
    draw: float
    run_case: float = 0.0
    """The part of `run` that comes from the scatter of runs on single cases."""


def contrast_variance(
    values: FloatArray, a: FloatArray, noise: RunNoise, case_strata: IntArray
) -> Components:
    """Variance of sum_r a_r mean(values[r]) for `values` [R, K, J], contrast `a` [R] and groups
    of cases `case_strata` [J] that were drawn separately."""
    _, K, J = values.shape
    means, by_case, by_draw = values.mean((1, 2)), values.mean(1), values.mean(2)
    noise = noise.settled(means, a)
    run, run_df = noise.variance(means[:, None], a)
    case = draw = case_draw = run_case = run_draw = run_case_draw = 0.0
    case_df = float(J - 1)
    if J > 1:
        case, case_df = case_term(a @ by_case, case_strata)
        run_case = _run_case_term(by_case, a, noise, case_strata)
    if K > 1:
        draw = float((a @ by_draw).var(ddof=1)) / K
        centred = by_draw - by_draw.mean(1, keepdims=True)  # [R, K]
        run_draw = noise.variance(centred, a)[0] / (K * (K - 1))
    if J > 1 and K > 1:
        pairs = values - by_case[:, None, :] - by_draw[:, :, None] + means[:, None, None]
        scale = K * (K - 1) * J * (J - 1)
        case_draw = float((np.einsum("r,rkj->kj", a, pairs) ** 2).sum()) / scale
        run_case_draw = noise.variance(pairs.reshape(len(pairs), K * J), a)[0] / scale
    interaction = max(case_draw - run_case_draw, 0.0)
    case_only = max(case - run_case - interaction, 0.0)
    draw_only = max(draw - run_draw - interaction, 0.0)
    variance = run + case_only + draw_only + interaction
    terms, least = [(run, run_df)], [run_df]
    if case_only:
        terms += [(case, case_df), (run_case, run_df * (J - 1))]
        least.append(case_df)
    if draw_only:
        terms += [(draw, K - 1), (run_draw, run_df * (K - 1))]
        least.append(K - 1)
    if interaction:
        terms += [(case_draw, (K - 1) * (J - 1)), (run_case_draw, run_df * (K - 1) * (J - 1))]
        least.append((K - 1) * (J - 1))
    df = satterthwaite(variance, terms, least)
    return Components(variance, df, run, run_df, case_only, draw_only + interaction, run_case)


def satterthwaite(variance: float, terms: list[tuple[float, float]], least: list[float]) -> float:
    """Degrees of freedom of a sum of mean squares: `terms` holds each with its own.

    Subtracted mean squares can push the figure below that of the poorest component in `least`,
    which is a lower bound."""
    spread = sum(part**2 / df for part, df in terms if df)
    if spread == 0:
        return float(np.inf)
    return float(max(variance**2 / spread, min((df for df in least if df), default=0.0)))


def case_term(contrast: FloatArray, case_strata: IntArray) -> tuple[float, float]:
    """Variance of the mean of `contrast` [J] over cases drawn separately in each group, and its
    degrees of freedom."""
    J, parts = len(contrast), []
    for group in np.unique(case_strata):
        inside = contrast[case_strata == group]
        if len(inside) > 1:
            parts.append((len(inside) / J**2 * float(inside.var(ddof=1)), len(inside) - 1))
    total = sum(part for part, _ in parts)
    if total == 0:
        return 0.0, float(J - 1)
    return total, total**2 / sum(part**2 / df for part, df in parts)


def _run_case_term(
    by_case: FloatArray, a: FloatArray, noise: RunNoise, case_strata: IntArray
) -> float:
    """The part of `case_term` that the scatter of runs on single cases [R, J] accounts for."""
    J, total = by_case.shape[1], 0.0
    for group in np.unique(case_strata):
        inside = by_case[:, case_strata == group]
        n = inside.shape[1]
        if n > 1:
            centred = inside - inside.mean(1, keepdims=True)
            total += noise.variance(centred, a)[0] / (n - 1) * n / J**2
    return total
