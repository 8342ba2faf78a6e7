"""Which study to run: cells, seeds and test cases that a budget of accelerator-hours is best
spent on, and what its verdict will be worth.

The variance of the gain from the smallest to the largest budget follows from a few components
(`simulate.Noise`), known from a pilot or guessed; every affordable design is ranked by the half
width of the interval that it can be expected to give, and the best are simulated.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any, cast

import numpy as np
import pandas as pd
from scipy.stats import t as student_t

from scaling.laws.plain import plain
from scaling.laws.verdicts.design_of_runs import Design, fit_design
from scaling.laws.verdicts.power import OperatingCharacteristics, operating_characteristics
from scaling.laws.verdicts.scores import Scores
from scaling.laws.verdicts.simulate import Grid, Noise, study_runs

# of the longest duration; each duration is a cooldown of the remaining share of its own length
TRUNK_SHARE = 0.8
Hours = Callable[[float, float], float]


@dataclass(frozen=True)
class Proposal:
    """A study: its grid, accelerator-hours, expected half width of the interval for the whole
    gain, and, once simulated, how its verdict behaves without an effect (`null`) and with the
    gain that is hoped for (`real`)."""

    grid: Grid
    hours: float
    half_width: float
    df: float
    null: OperatingCharacteristics | None = None
    real: OperatingCharacteristics | None = None

    def to_dict(self) -> dict[str, Any]:
        return cast(dict[str, Any], plain(self))


def proportional_hours(sizes: Sequence[float], durations: Sequence[float], largest: float) -> Hours:
    """Hours of a run as size x duration, `largest` for the largest size and longest duration."""
    return lambda size, duration: largest * size * duration / (max(sizes) * max(durations))


def cost(grid: Grid, hours: Hours) -> float:
    """Accelerator-hours of a grid; durations that share a trunk cost the trunk once, and a
    cooldown each."""
    longest = max(grid.durations)
    if not grid.shared_trunks:
        return grid.seeds * sum(hours(s, d) for s, d in product(grid.sizes, grid.durations))
    cooldowns = [(1 - TRUNK_SHARE) * d for d in grid.durations]
    return grid.seeds * sum(hours(s, TRUNK_SHARE * longest + sum(cooldowns)) for s in grid.sizes)


def propose(
    sizes: Sequence[float],
    durations: Sequence[float],
    cases: Sequence[int],
    hours: Hours,
    budget: float,
    noise: Noise,
    shared_trunks: bool = True,
    most_seeds: int = 10,
) -> list[Proposal]:
    """Every affordable design that keeps the smallest and the largest budget, best (narrowest
    interval) first.

    Raises ValueError if the budget does not pay for one run of each end, or too few runs to learn
    their scatter from."""
    if len(set(sizes)) == len(set(durations)) == 1:
        raise ValueError(
            "One size and one duration leave nothing to compare: give two sizes, or two "
            "durations, at least."
        )
    found = []
    grids = product(_ladders(sizes), _ladders(durations), range(1, most_seeds + 1))
    for some_sizes, some_durations, seeds in grids:
        grid = Grid(some_sizes, some_durations, seeds, max(cases), shared_trunks=shared_trunks)
        price = cost(grid, hours)
        if price > budget:
            continue
        design = design_without_scores(study_runs(grid))
        for J in cases:
            variance, df = expected_variance(design, noise, J)
            if df > 0:
                half = float(student_t.ppf(0.95, df) * np.sqrt(variance))
                found.append(Proposal(replace(grid, cases=J), price, half, df))
    if not found:
        cheapest = min(
            cost(
                Grid(
                    (min(sizes), max(sizes)),
                    (min(durations), max(durations)),
                    2,
                    1,
                    1,
                    shared_trunks,
                ),
                hours,
            ),
            np.inf,
        )
        raise ValueError(
            f"No design fits {budget:g} accelerator-hours: two seeds of the smallest and largest "
            f"budgets alone take {cheapest:.3g}. "
            "Raise the budget, or lower the largest size or duration."
        )
    return sorted(found, key=lambda p: (p.half_width, p.hours))


def half_width_over_sites(
    runs: pd.DataFrame, noise: Noise, cases: int, sites: int, site_sd: float
) -> float | None:
    """Expected half width of the mean over sites like `sites` test sites whose gains differ with
    standard deviation `site_sd`, for these runs and `cases` in all.

    None for one site, which tells nothing of others, and where the runs leave nothing to judge
    their noise from."""
    if sites < 2:
        return None
    at_these, df = expected_variance(design_without_scores(runs), noise, cases)
    if df == 0:
        return None
    between = site_sd**2 / sites
    total = at_these + between
    spread = at_these**2 / df + between**2 / (sites - 1)
    return float(student_t.ppf(0.95, total**2 / spread) * np.sqrt(total))


def simulated(
    proposal: Proposal, noise: Noise, gain: float, smallest: float, studies: int = 400
) -> Proposal:
    """The same with its verdict tried on simulated studies without an effect and with the gain
    that is hoped for."""
    null = operating_characteristics(proposal.grid, noise, 0.0, smallest, studies, seed=1)
    return replace(
        proposal,
        null=null,
        real=operating_characteristics(proposal.grid, noise, gain, smallest, studies, seed=2),
    )


def _ladders(levels: Sequence[float]) -> Iterator[tuple[float, ...]]:
    """All ladders that keep the lowest and the highest rung."""
    ordered = sorted(set(levels))
    if len(ordered) <= 2:
        yield tuple(ordered)
        return
    for count in range(len(ordered) - 1):
        for middle in combinations(ordered[1:-1], count):
            yield (ordered[0], *middle, ordered[-1])


def design_without_scores(runs: pd.DataFrame) -> Design:
    """The contrasts of runs that were not scored yet, and what their noise will be judged from."""
    return fit_design(Scores(np.zeros((len(runs), 1, 1)), runs, np.zeros(1, np.int64), ()))


def expected_variance(design: Design, noise: Noise, cases: int) -> tuple[float, float]:
    """Variance of the gain from the smallest to the largest budget, and its expected degrees of
    freedom (0: none).

    The degrees of freedom are those of `design.noise`, where runs are equally noisy."""
    a = design.contrasts["budget"]
    no_scores = np.zeros((len(a), 1))
    run_df = design.noise.settled(no_scores[:, 0], a).variance(no_scores, a)[1]
    if run_df == 0:
        return np.inf, 0.0
    exposure = float(((design.strata.membership.T @ a) ** 2).sum())
    run = noise.run**2 + noise.run_case**2 / cases
    parts = [(exposure * noise.trunk**2 + float(a @ a) * run, run_df)]
    if cases > 1:
        parts.append((noise.case_effect**2 / cases, cases - 1))
    total = sum(variance for variance, _ in parts)
    spread = sum(variance**2 / df for variance, df in parts)
    return total, total**2 / spread if spread > 0 else float("inf")


def noise_of(data: Scores) -> Noise:
    """Variance components of a pilot by the method of moments; few-shot draws are averaged over."""
    design = fit_design(data)
    y = data.values.mean(1)  # [R, J]
    J = y.shape[1]
    a, strata = design.contrasts["budget"], design.strata
    residual = np.concatenate([strata.between, strata.within], axis=1)
    centred = y - y.mean(1, keepdims=True)
    run_case = float(
        ((residual.T @ centred) ** 2).sum() / (max(residual.shape[1], 1) * max(J - 1, 1))
    )
    between, within = (
        ((basis.T @ y.mean(1)) ** 2).sum() / max(basis.shape[1], 1)
        for basis in (strata.between, strata.within)
    )
    if strata.within.shape[1] == 0:
        between, within = 0.0, between
    size = strata.cluster_trace / max(strata.between.shape[1], 1)
    shared = strata.between.shape[1] > 0 and size > 1
    run = within - run_case / J
    trunk = (between - within) / size if shared else 0.0
    contrast = float((a @ y).var(ddof=1)) - run_case * float(a @ a) if J > 1 else 0.0
    case = float(y.mean(0).var(ddof=1)) if J > 1 else 0.0
    square = np.maximum([trunk, run, case, contrast, run_case], 0.0)
    return Noise(*np.sqrt(square).tolist())


def noise_with_draws(data: Scores) -> Noise:
    """The same of each few-shot draw on its own: how draws answer to more budget, and how runs
    scatter between draws."""
    averaged, design = noise_of(data), fit_design(data)
    _, K, J = data.values.shape
    a, residual = (
        design.contrasts["budget"],
        np.concatenate([design.strata.between, design.strata.within], axis=1),
    )
    per_draw = data.values.mean(2)  # [R, K]
    run_case = K * averaged.run_case**2
    scatter = ((residual.T @ (per_draw - per_draw.mean(1, keepdims=True))) ** 2).sum() / (
        max(residual.shape[1], 1) * (K - 1)
    )
    run_draw = max(float(scatter) - run_case / J, 0.0)
    answer = max(float((a @ per_draw).var(ddof=1)) - float(a @ a) * (run_draw + run_case / J), 0.0)
    run = max(averaged.run**2 - run_draw / K, 0.0)
    roots = np.sqrt([run, answer, run_draw, run_case]).tolist()
    return replace(
        averaged, **dict(zip(("run", "draw_effect", "run_draw", "run_case"), roots, strict=True))
    )
