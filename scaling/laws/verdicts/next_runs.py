"""What to run next: the runs that a budget of accelerator-hours is best added to a study as.

Every choice (a cell once more, all durations of a size once more, the two ends of the budget, the
whole grid) changes the design, and with it the half width that the verdict's interval can be
expected to have, or that of a forecast at a target. Choices are added one by one, by what they
narrow for an hour, and once more by what they narrow altogether; the better of both lists is taken.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from scipy.stats import t as student_t

from scaling.laws.plain import plain
from scaling.laws.verdicts.design import (
    TRUNK_SHARE,
    Hours,
    design_without_scores,
    expected_variance,
    noise_of,
)
from scaling.laws.verdicts.scores import Scores
from scaling.laws.verdicts.simulate import Noise

MOST_STEPS = 8
WORTHWHILE = 0.002
"""A choice must narrow the interval by this share of it."""

Cell = tuple[float, float]  # size, duration
Width = Callable[[pd.DataFrame], float]


@dataclass(frozen=True)
class Choice:
    """Runs that are added together; the cells of one tuple share a trunk."""

    words: str
    trunks: tuple[tuple[Cell, ...], ...]
    hours: float


@dataclass(frozen=True)
class NextRuns:
    """The choices in the order in which they were added, and the half width before and after."""

    choices: tuple[Choice, ...]
    hours: float
    half_width_now: float | None
    half_width_then: float | None
    with_twice_the_cases: float | None
    """The half width where, besides, twice as many test cases are scored."""
    noise: Noise

    def to_dict(self) -> dict[str, Any]:
        return cast(dict[str, Any], plain(self))


def next_runs(
    data: Scores, hours: Hours, budget: float, target: Cell | None = None
) -> tuple[NextRuns, pd.DataFrame]:
    """What to add to the runs of `data` for `budget` accelerator-hours, and the runs that then
    exist.

    By the interval of the verdict, or of the mean predicted at `target` (size, duration) by a line
    in their logarithms. Raises ValueError where the budget pays for no run."""
    noise = noise_of(data)
    cases = data.values.shape[2]

    def width(runs: pd.DataFrame) -> float:
        if target is not None:
            return forecast_half_width(runs, noise, cases, target)
        return verdict_half_width(runs, noise, cases)

    options = choices_of(data.runs, hours)
    cheapest = min(option.hours for option in options)
    if cheapest > budget:
        raise ValueError(
            f"{budget:g} accelerator-hours pay for no further run: the cheapest takes "
            f"{cheapest:.3g}."
        )
    by_hour = _greedy(data.runs, options, budget, width, per_hour=True)
    altogether = _greedy(data.runs, options, budget, width, per_hour=False)
    added = min(by_hour, altogether, key=lambda chosen: width(extended(data.runs, chosen)))
    runs = extended(data.runs, added)
    more_cases = verdict_half_width(runs, noise, 2 * cases)
    if target is not None:
        more_cases = forecast_half_width(runs, noise, 2 * cases, target)
    result = NextRuns(
        choices=tuple(added),
        hours=sum(choice.hours for choice in added),
        half_width_now=_finite(width(data.runs)),
        half_width_then=_finite(width(runs)),
        with_twice_the_cases=_finite(more_cases),
        noise=noise,
    )
    return result, runs


def choices_of(runs: pd.DataFrame, hours: Hours) -> list[Choice]:
    """What may be added: cells of the sizes and durations that were run, alone or together."""
    sizes = sorted({float(size) for size in runs["size"]})
    durations = sorted({float(duration) for duration in runs["duration"]})
    cells = [(size, duration) for size in sizes for duration in durations]
    options = [_choice(_cell_words(cell), ((cell,),), hours) for cell in cells]
    columns = [tuple((size, duration) for duration in durations) for size in sizes]
    if len(durations) > 1:
        for size, column in zip(sizes, columns, strict=True):
            words = f"all {len(durations)} durations of size {size:.3g}, off one trunk"
            options.append(_choice(words, (column,), hours))
    ends = ((cells[0],), (cells[-1],))
    options.append(_choice("the smallest and the largest budget", ends, hours))
    options.append(_choice("the whole grid", tuple(columns), hours))
    return options


def extended(runs: pd.DataFrame, added: list[Choice]) -> pd.DataFrame:
    """The runs and those that are added, each new trunk a cluster of its own."""
    blocks = runs["block"].unique() if "block" in runs else [None]
    rows = []
    for number, choice in enumerate(added):
        for trunk, cells in enumerate(choice.trunks):
            for block in blocks:
                cluster = f"next/{number}/{trunk}/{block}"
                for size, duration in cells:
                    row = {"size": size, "duration": duration, "cluster": cluster}
                    rows.append(row if block is None else {**row, "block": block})
    together = pd.concat([runs, pd.DataFrame(rows)], ignore_index=True)
    together["run"] = np.arange(len(together))
    together["cluster"] = together["cluster"].astype(str)
    return together


def verdict_half_width(runs: pd.DataFrame, noise: Noise, cases: int) -> float:
    """Expected half width of the 90 % interval of the whole gain; infinite where the runs leave
    nothing to judge their noise from."""
    variance, df = expected_variance(design_without_scores(runs), noise, cases)
    if df == 0:
        return float("inf")
    return float(student_t.ppf(0.95, df) * np.sqrt(variance))


def forecast_half_width(runs: pd.DataFrame, noise: Noise, cases: int, target: Cell) -> float:
    """Expected half width of the 90 % interval of the mean at `target`, by a line in the
    logarithms of size and duration (generalised least squares over trunks)."""
    logs = np.log(runs[["size", "duration"]].to_numpy(float))
    moving = np.ptp(logs, axis=0) > 0
    X = np.column_stack([np.ones(len(runs)), logs[:, moving]])
    at = np.concatenate([[1.0], np.log(target)[moving]])
    trunk = np.unique(runs["cluster"].astype(str), return_inverse=True)[1]
    V = noise.trunk**2 * (trunk[:, None] == trunk)
    V = V + np.eye(len(runs)) * (noise.run**2 + noise.run_case**2 / cases + 1e-12)
    information = X.T @ np.linalg.solve(V, X)
    df = len(np.unique(trunk)) - X.shape[1]
    if df < 1:
        return float("inf")
    of_runs = float(at @ np.linalg.solve(information, at))
    variance = of_runs + (noise.case**2 + noise.case_effect**2) / cases
    return float(student_t.ppf(0.95, df) * np.sqrt(variance))


def _greedy(
    runs: pd.DataFrame, options: list[Choice], budget: float, width: Width, per_hour: bool
) -> list[Choice]:
    """Choices added one by one until the budget is spent or nothing narrows the interval."""
    added: list[Choice] = []
    left, now = budget, width(runs)
    for _ in range(MOST_STEPS):
        best, best_gain, best_width = None, 0.0, now
        for option in options:
            if option.hours > left * (1 + 1e-9):
                continue
            then = width(extended(runs, [*added, option]))
            gain = _narrowing(now, then)
            if gain < WORTHWHILE:
                continue
            gain = gain / option.hours if per_hour else gain
            if gain > best_gain:
                best, best_gain, best_width = option, gain, then
        if best is None:
            break
        added.append(best)
        left, now = left - best.hours, best_width
    return added


def _narrowing(now: float, then: float) -> float:
    """By how much an interval narrows, in logarithms; a first finite one is worth most."""
    if not np.isfinite(then):
        return 0.0
    if not np.isfinite(now):
        return 10.0 - float(np.log(then))
    return float(np.log(now / then))


def _choice(words: str, trunks: tuple[tuple[Cell, ...], ...], hours: Hours) -> Choice:
    return Choice(words, trunks, sum(_trunk_hours(cells, hours) for cells in trunks))


def _trunk_hours(cells: tuple[Cell, ...], hours: Hours) -> float:
    """A trunk up to its longest cooldown, and a cooldown per duration."""
    longest = max(duration for _, duration in cells)
    cooldowns = sum((1 - TRUNK_SHARE) * duration for _, duration in cells)
    return hours(cells[0][0], TRUNK_SHARE * longest + cooldowns)


def _cell_words(cell: Cell) -> str:
    return f"size {cell[0]:.3g}, duration {cell[1]:.3g}"


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
