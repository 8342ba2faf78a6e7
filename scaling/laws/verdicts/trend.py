"""Is there any trend towards better scores with more budget? Multiple contrasts over candidate
shapes, and Holm over tasks.

MCP-Mod's first step (Bretz, Pinheiro and Branson 2005, Biometrics 61:738): one contrast per
candidate shape of the rise, the largest of their t statistics against the multivariate t
distribution. Covariances are those of `crossed`, by polarisation.
"""

import numpy as np
from scipy.stats import multivariate_t

from scaling.laws.arrays import FloatArray
from scaling.laws.verdicts.contrasts import block_numbers
from scaling.laws.verdicts.crossed import contrast_variance
from scaling.laws.verdicts.design_of_runs import Design
from scaling.laws.verdicts.scores import Scores

SHAPES = {  # gain over progress u through the budget, 0 to 1
    "steady": lambda u: u,
    "early": lambda u: 1.25 * u / (u + 0.25),
    "late": lambda u: 1 - 1.25 * (1 - u) / (1.25 - u),
}


def trend_test(data: Scores, design: Design, sign: float) -> tuple[float, str] | None:
    """One-sided p of an improvement (scores times `sign`) with budget, adjusted for the shapes,
    and the shape that fits best; None where nothing tells how much runs vary. The trend is that
    within blocks, which may have ladders of their own."""
    u = progress(data.runs["size"].to_numpy(float), data.runs["duration"].to_numpy(float))
    shapes = np.stack([shape(u) for shape in SHAPES.values()])
    block = block_numbers(data.runs)
    contrasts = shapes - np.stack([shapes[:, block == b].mean(1) for b in block], axis=1)
    if not contrasts.any():
        return None
    contrasts /= np.sqrt((contrasts**2).sum(1, keepdims=True))
    estimates = sign * contrasts @ data.values.mean((1, 2))
    parts = [contrast_variance(data.values, a, design.noise, data.strata) for a in contrasts]
    variance = np.array([p.variance for p in parts])
    if not all(p.run_df for p in parts) or (variance <= 0).any():
        return None
    statistic = estimates / np.sqrt(variance)
    best = int(statistic.argmax())
    correlation = _correlation(data, contrasts, variance, design)
    df = min(p.df for p in parts)
    bound = np.full(len(statistic), statistic[best])
    reference = multivariate_t(
        shape=correlation, df=max(1, round(min(df, 1e6))), allow_singular=True
    )
    return float(
        np.clip(1 - reference.cdf(bound, random_state=np.random.default_rng(0)), 0, 1)
    ), list(SHAPES)[best]


def progress(size: FloatArray, duration: FloatArray) -> FloatArray:
    """How far each run is from the smallest (0) to the largest (1) budget [R]: the mean over the
    axes that vary, in logarithms."""
    parts = [
        (np.log(x) - np.log(x).min()) / np.ptp(np.log(x)) for x in (size, duration) if np.ptp(x) > 0
    ]
    return np.asarray(np.mean(parts, axis=0), float)


def _correlation(
    data: Scores, contrasts: FloatArray, variance: FloatArray, design: Design
) -> FloatArray:
    """Correlations of the contrasts from V(a + b) = V(a) + V(b) + 2 Cov(a, b)."""
    scale = 1 / np.sqrt(variance)
    result = np.eye(len(contrasts))
    for i in range(len(contrasts)):
        for j in range(i):
            together = contrast_variance(
                data.values,
                contrasts[i] * scale[i] + contrasts[j] * scale[j],
                design.noise,
                data.strata,
            ).variance
            result[i, j] = result[j, i] = np.clip(together / 2 - 1, -0.999, 0.999)
    values, vectors = np.linalg.eigh(result)
    nearest = (
        vectors * np.maximum(values, 1e-9) @ vectors.T
    )  # estimates need not make a positive definite matrix
    spread = np.sqrt(np.diag(nearest))
    return np.asarray(nearest / np.outer(spread, spread), float)


def holm(p: FloatArray) -> FloatArray:
    """Adjusted p values of a family of tests (Holm 1979, Scand. J. Stat. 6:65)."""
    order = np.argsort(p)
    adjusted = np.maximum.accumulate(np.minimum(1.0, p[order] * np.arange(len(p), 0, -1)))
    result = np.empty(len(p))
    result[order] = adjusted
    return result
