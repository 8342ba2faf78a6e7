"""What the test sites allow to say: of these sites, of sites like them on average, of a new one.

Cases of one site share its scanners and its patients, so sites, not cases, are what a gain
generalises over. Three estimands: (a) the mean over the cases of these sites, where sites are
fixed; (b) the mean over the sites that these stand for, each counted by how well it is measured
(random effects; between-site variance by Paule and Mandel 1982, J. Res. Natl. Bur. Stand.
87:377), with the interval of Knapp and Hartung (2003, Stat. Med. 22:2693) on k - 1 degrees of
freedom, never narrower than without spread between sites (Roever, Knapp and Friede 2015, BMC Med.
Res. Methodol. 15:99); (c) the gain at one new site, by the confidence distribution of the spread
(Nagashima, Noma and Furukawa 2019, Stat. Methods Med. Res. 28:1689), which covers with few sites
where the usual prediction interval does not. Runs are the same at all sites: their scatter adds
to all three.
"""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from scipy.optimize import brentq

from scaling.laws.arrays import FloatArray
from scaling.laws.plain import plain
from scaling.laws.verdicts.crossed import (
    Components,
    RunNoise,
    case_term,
    contrast_variance,
    satterthwaite,
)
from scaling.laws.verdicts.effects import Effect, decide, effect_of
from scaling.laws.verdicts.nesting import with_site_shares
from scaling.laws.verdicts.scores import Scores

DECIDING_SITES = 5
"""From this many sites on, the mean over sites like them decides; with fewer, these sites do."""
PRIOR_SPREAD, PRIOR_SD = 0.055, 0.015
"""Spread of the AUROC between the sites of 469 clinical prediction models (arXiv 2406.08628): mean
and standard deviation. With few sites it is the prior of the spread of a gain."""
DRAWS = 4000


@dataclass(frozen=True)
class AcrossSites:
    """The gain from the smallest to the largest budget, by what it is generalised to."""

    sites: int
    names: tuple[str, ...]
    gains: tuple[float, ...]
    """The gain at every site."""
    these: Effect
    """(a) Over the cases of these sites."""
    mean: Effect | None
    """(b) Over the sites that these stand for; None with one site."""
    new: Effect | None
    """(c) At a new site; None where nothing tells how much sites differ."""
    spread: float | None
    """Standard deviation of the gain between sites, beyond chance; None with one site."""
    prior: bool
    """Whether (c) rests on the spread that is usual of AUROC, for want of sites."""
    decides: str
    """"these" or "mean": the estimand of the decision."""

    def to_dict(self) -> dict[str, Any]:
        """Plain, JSON-safe."""
        return cast(dict[str, Any], plain(self))


@dataclass(frozen=True)
class SiteGains:
    """The gain at every site: estimates and sampling variances [S], over cases alone."""

    names: tuple[str, ...]
    gain: FloatArray
    variance: FloatArray


def gains_by_site(data: Scores, a: FloatArray, sign: float, offset: float) -> SiteGains:
    """The gain `offset` + sign x a'm of every site, and how much cases make each scatter."""
    assert data.site is not None
    names = [str(name) for name in np.unique(data.site)]
    gains, variances = [], []
    for name in names:
        inside = data.site == name
        contrast = a @ data.values.mean(1)[:, inside]  # [J of the site]
        gains.append(offset + sign * float(contrast.mean()))
        variances.append(case_term(contrast, data.strata[inside])[0])
    variance = np.array(variances)
    counts = np.array([(data.site == name).sum() for name in names])
    if (variance == 0).any() and (variance > 0).any():
        # A site of one case scatters like a case of the others.
        of_case = float(np.mean((variance * counts)[variance > 0]))
        variance = np.where(variance == 0, of_case / counts, variance)
    return SiteGains(tuple(names), np.array(gains), variance)


def spread_between(sites: SiteGains) -> float:
    """Variance of the gain between sites beyond sampling, by Paule and Mandel's equation."""

    def excess(spread: float) -> float:
        weight = 1 / (sites.variance + spread + 1e-300)
        mean = weight @ sites.gain / weight.sum()
        return float(weight @ (sites.gain - mean) ** 2) - (len(sites.gain) - 1)

    scatter = float(sites.gain.var(ddof=1))
    if scatter == 0 or excess(1e-12 * scatter) <= 0:
        return 0.0
    top = scatter
    while excess(top) > 0:
        top *= 2
    return float(brentq(excess, 1e-12 * scatter, top))


def mean_over_sites(
    data: Scores, a: FloatArray, sign: float, noise: RunNoise, sites: SiteGains
) -> tuple[float, Components]:
    """Estimate and variance of the mean over sites, runs and sites crossed."""
    k = len(sites.gain)
    weight = 1 / (sites.variance + spread_between(sites) + 1e-300)
    share = weight / weight.sum()
    estimate = float(share @ sites.gain)
    assert data.site is not None
    named = dict(zip(sites.names, share.tolist(), strict=True))
    weighted = with_site_shares(data.values, data.site, named)
    parts = contrast_variance(weighted, a, noise, data.strata)
    knapp_hartung = max(1.0, float(weight @ (sites.gain - estimate) ** 2) / (k - 1))
    of_sites = knapp_hartung / float(weight.sum())
    only_sites = max(of_sites - parts.run_case, parts.case)
    variance = parts.run + only_sites + parts.draw
    df = satterthwaite(
        variance,
        [(parts.run, parts.run_df), (of_sites, k - 1.0), (parts.run_case, parts.run_df)],
        [parts.run_df, k - 1.0],
    )
    return estimate, Components(
        variance, df, parts.run, parts.run_df, only_sites, parts.draw, parts.run_case
    )


def across_sites(
    data: Scores,
    a: FloatArray,
    noise: RunNoise,
    sign: float,
    these: Effect,
    smallest: float,
    confidence: float,
    prior_applies: bool,
    fixed_runs: bool = False,
) -> AcrossSites:
    """All three estimands of contrast `a` [R], whose effect at these sites is `these`.

    `prior_applies`: the metric lies between 0 and 1, so that the usual spread of AUROC is a guess
    at its spread."""
    overall = sign * float(a @ data.values.mean((1, 2)))
    sites = gains_by_site(data, a, sign, these.estimate - overall)
    k = len(sites.gain)
    mean, spread = None, None
    if k > 1:
        estimate, parts = mean_over_sites(data, a, sign, noise, sites)
        mean = effect_of("budget", estimate, parts, smallest, confidence, fixed_runs)
        spread = float(np.sqrt(spread_between(sites)))
    with_prior = prior_applies and k < DECIDING_SITES
    new = None
    if these.se is not None and (with_prior or k >= 3):
        run_variance = these.run or 0.0
        future = new_site(sites, run_variance, with_prior)
        new = _of_draws(future, smallest, confidence)
    decides = "mean" if k >= DECIDING_SITES else "these"
    return AcrossSites(
        k, sites.names, tuple(sites.gain.tolist()), these, mean, new, spread, with_prior, decides
    )


def new_site(sites: SiteGains, run_variance: float, with_prior: bool) -> FloatArray:
    """Draws [N] of the gain at a new site, given those at the sites there are."""
    rng = np.random.default_rng(0)
    spread = _prior_draws(sites, rng) if with_prior else _confidence_draws(sites, rng)
    weight = 1 / (sites.variance + spread[:, None] + 1e-300)  # [N, S]
    total = weight.sum(1)
    mean = weight @ sites.gain / total
    error = rng.normal(size=DRAWS) / np.sqrt(total)
    if not with_prior:
        # Knapp and Hartung's standard error, with its t on k - 1 degrees of freedom.
        k = len(sites.gain)
        scatter = (weight * (sites.gain - mean[:, None]) ** 2).sum(1) / ((k - 1) * total)
        error = rng.standard_t(k - 1, size=DRAWS) * np.sqrt(np.maximum(scatter, 1 / total))
    runs = np.sqrt(run_variance) * rng.normal(size=DRAWS)
    return np.asarray(mean + error + runs + np.sqrt(spread) * rng.normal(size=DRAWS), float)


def _prior_draws(sites: SiteGains, rng: np.random.Generator) -> FloatArray:
    """Draws [N] of the variance between sites from its posterior under the usual spread."""
    grid = np.linspace(0.0, PRIOR_SPREAD + 5 * PRIOR_SD, 200)
    weight = 1 / (sites.variance + grid[:, None] ** 2 + 1e-12)
    mean = weight @ sites.gain / weight.sum(1)
    squares = (weight * (sites.gain - mean[:, None]) ** 2).sum(1)
    log_posterior = 0.5 * (np.log(weight).sum(1) - np.log(weight.sum(1)) - squares)
    log_posterior -= 0.5 * ((grid - PRIOR_SPREAD) / PRIOR_SD) ** 2
    mass = np.exp(log_posterior - log_posterior.max())
    return np.asarray(rng.choice(grid, size=DRAWS, p=mass / mass.sum()) ** 2, float)


def _confidence_draws(sites: SiteGains, rng: np.random.Generator) -> FloatArray:
    """Draws [N] of the variance between sites from its confidence distribution.

    Cochran's Q is a sum of chi-squares, so P(Q >= observed) as a function of the spread is the
    distribution that is drawn from; here by simulation on a grid of spreads."""
    k = len(sites.gain)
    scale = float(sites.gain.var(ddof=1)) + float(sites.variance.mean())
    if scale == 0:
        return np.zeros(DRAWS)
    fixed = 1 / np.maximum(sites.variance, 1e-6 * scale)
    projection = np.diag(fixed) - np.outer(fixed, fixed) / fixed.sum()
    observed = float(sites.gain @ projection @ sites.gain)
    grid = np.concatenate([[0.0], np.geomspace(1e-3, 1e4, 80)]) * scale
    chi_squares = rng.chisquare(1, size=(DRAWS, k))
    share = np.empty(len(grid))
    for i, spread in enumerate(grid):
        root = np.sqrt(np.maximum(sites.variance, 1e-6 * scale) + spread)
        values = np.linalg.eigvalsh(root[:, None] * projection * root)
        share[i] = (chi_squares @ np.maximum(values, 0.0) >= observed).mean()
    return np.interp(rng.random(DRAWS), np.maximum.accumulate(share), grid)


def _of_draws(draws: FloatArray, smallest: float, confidence: float) -> Effect:
    tail = (1 - confidence) / 2
    low, estimate, high = (float(q) for q in np.quantile(draws, [tail, 0.5, 1 - tail]))
    probability = float((draws > smallest).mean())
    return Effect(
        "new site",
        estimate,
        low,
        high,
        probability,
        se=float(draws.std()),
        df=None,
        run=None,
        case=0.0,
        draw=0.0,
        decision=decide(estimate, low, high, probability, smallest),
    )
