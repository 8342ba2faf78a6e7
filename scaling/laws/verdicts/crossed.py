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

import numpy as np

from scaling.laws.arrays import FloatArray, IntArray


@dataclass(frozen=True)
class Strata:
    """The residuals of the runs around a mean model X [R, p]: projections onto the strata between
    and within clusters."""

    between: FloatArray  # [R, df_between] orthonormal basis
    within: FloatArray  # [R, df_within]
    cluster_trace: (
        float  # trace(M Z Z') over the residual space M: how much trunk variance it holds
    )
    membership: FloatArray  # [R, clusters] one-hot Z


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
    """Variance of one contrast and where it comes from. `df` is Satterthwaite's; `run_df` is 0
    where nothing tells how much runs vary."""

    variance: float
    df: float
    run: float
    run_df: float
    case: float
    draw: float


def contrast_variance(
    values: FloatArray, a: FloatArray, strata: Strata, case_strata: IntArray
) -> Components:
    """Variance of sum_r a_r mean(values[r]) for `values` [R, K, J], contrast `a` [R] and case
    groups `case_strata` [J]."""
    _, K, J = values.shape
    over_draws_and_cases, over_draws, over_cases = (
        values.mean((1, 2)),
        values.mean(1),
        values.mean(2),
    )
    run, run_df = _run_term(over_draws_and_cases[:, None], a, strata)
    case = draw = case_draw = run_case = run_draw = run_case_draw = 0.0
    case_df = float(J - 1)
    if J > 1:
        case, case_df = _case_term(a @ over_draws, case_strata)
        run_case = _run_case_term(over_draws, a, strata, case_strata)
    if K > 1:
        draw = float((a @ over_cases).var(ddof=1)) / K
        run_draw = _run_term(over_cases - over_cases.mean(1, keepdims=True), a, strata)[0] / (
            K * (K - 1)
        )
    if J > 1 and K > 1:
        pairs = (
            values
            - over_draws[:, None, :]
            - over_cases[:, :, None]
            + over_draws_and_cases[:, None, None]
        )
        scale = K * (K - 1) * J * (J - 1)
        case_draw = float((np.einsum("r,rkj->kj", a, pairs) ** 2).sum()) / scale
        run_case_draw = _run_term(pairs.reshape(len(pairs), -1), a, strata)[0] / scale
    interaction = max(case_draw - run_case_draw, 0.0)
    case_only, draw_only = (
        max(case - run_case - interaction, 0.0),
        max(draw - run_draw - interaction, 0.0),
    )
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
    spread = sum(v**2 / df for v, df in terms if df)
    # subtracted mean squares can push Satterthwaite's figure below that of the poorest component,
    # which is a lower
    # bound
    df = (
        max(variance**2 / spread, min((d for d in least if d), default=0.0))
        if spread > 0
        else np.inf
    )
    return Components(variance, df, run, run_df, case_only, draw_only + interaction)


def _run_term(columns: FloatArray, a: FloatArray, strata: Strata) -> tuple[float, float]:
    """Variance of a'm from the residual mean squares of `columns` [R, C] (summed over columns),
    and its degrees of freedom."""
    df_between, df_within = strata.between.shape[1], strata.within.shape[1]
    exposure = float(((strata.membership.T @ a) ** 2).sum())
    between = exposure * df_between / strata.cluster_trace if strata.cluster_trace > 1e-9 else 0.0
    needs_between = exposure > 1e-9 * float(a @ a)
    within = float(a @ a) - between
    if needs_between and df_between == 0:
        return 0.0, 0.0
    if within > 1e-9 * float(a @ a) and df_within == 0:
        within, between = 0.0, float(a @ a)
        if df_between == 0:
            return 0.0, 0.0
    ms_between = float(((strata.between.T @ columns) ** 2).sum()) / max(df_between, 1)
    ms_within = float(((strata.within.T @ columns) ** 2).sum()) / max(df_within, 1)
    if df_between and df_within and ms_between < ms_within and between > 0 and within > 0:
        # runs of one trunk cannot resemble each other less than runs of two: the trunk's variance
        # is nought, both squares are one
        ms = (df_between * ms_between + df_within * ms_within) / (df_between + df_within)
        return (between + within) * ms, float(df_between + df_within)
    parts = [(between * ms_between, df_between), (within * ms_within, df_within)]
    total = sum(v for v, _ in parts)
    if (
        total <= 0
    ):  # an unbalanced grid can subtract more than it adds: fall back to the larger stratum
        total = max(v for v, _ in parts)
        return max(total, 0.0), float(df_between or df_within)
    spread = sum(v**2 / d for v, d in parts if d)
    return total, total**2 / spread if spread > 0 else float(df_between + df_within)


def _case_term(contrast: FloatArray, case_strata: IntArray) -> tuple[float, float]:
    """Variance of the mean of `contrast` [J] over cases drawn separately in each group, and its
    degrees of freedom."""
    J, parts = len(contrast), []
    for group in np.unique(case_strata):
        inside = contrast[case_strata == group]
        if len(inside) > 1:
            parts.append((len(inside) / J**2 * float(inside.var(ddof=1)), len(inside) - 1))
    total = sum(v for v, _ in parts)
    return total, total**2 / sum(v**2 / d for v, d in parts) if total > 0 else float(J - 1)


def _run_case_term(
    over_cases: FloatArray, a: FloatArray, strata: Strata, case_strata: IntArray
) -> float:
    J, total = over_cases.shape[1], 0.0
    for group in np.unique(case_strata):
        inside = over_cases[:, case_strata == group]
        n = inside.shape[1]
        if n > 1:
            total += (
                _run_term(inside - inside.mean(1, keepdims=True), a, strata)[0] / (n - 1) * n / J**2
            )
    return total
