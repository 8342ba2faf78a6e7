"""Is it worth asking what to run next? `design --given` against random runs and against the whole
grid again, for the same accelerator-hours.

Shows: per situation and way of spending the same hours, the half width of the verdict's 90 %
interval once those runs exist, the share of studies in which it holds the true gain, and the share
in which a gain of .05 is claimed. Pilots are simulated; the choice sees the pilot's scores only.
Costs: half an hour on one core. Seeds: situation and study number. Command:

    python experiments/benchmarks/next_runs.py [STUDIES=40]
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scaling.laws.arrays import FloatArray
from scaling.laws.verdicts.design import Hours, proportional_hours
from scaling.laws.verdicts.design_of_runs import fit_design
from scaling.laws.verdicts.effects import estimate_effect
from scaling.laws.verdicts.next_runs import Choice, choices_of, extended, next_runs
from scaling.laws.verdicts.scores import Scores
from scaling.laws.verdicts.simulate import Grid, Noise, study_runs
from scaling.laws.verdicts.trend import progress

GAIN, SMALLEST = 0.05, 0.02


@dataclass(frozen=True)
class Situation:
    """A pilot, its noise, and the hours to add (a run of the largest budget takes one)."""

    name: str
    pilot: Grid
    noise: Noise
    hours: float


SITUATIONS = (
    Situation(
        "3 x 3, 2 seeds, runs of their own",
        Grid((1e6, 4e6, 16e6), (1e4, 2e4, 4e4), 2, 200),
        Noise(run=0.02, case_effect=0.03, run_case=0.1),
        4.0,
    ),
    Situation(
        "4 x 3, 2 seeds, shared trunks",
        Grid((1e6, 4e6, 16e6, 64e6), (1e4, 2e4, 4e4), 2, 200, shared_trunks=True),
        Noise(trunk=0.02, run=0.01, case_effect=0.03, run_case=0.1),
        6.0,
    ),
    Situation(
        "3 x 1, 2 seeds",
        Grid((1e6, 4e6, 16e6), (2e4,), 2, 200),
        Noise(run=0.02, case_effect=0.03, run_case=0.1),
        4.0,
    ),
)


@dataclass(frozen=True)
class Cases:
    """The test cases of a study [J]: their levels and how they answer to more budget."""

    level: FloatArray
    response: FloatArray


def scored(runs: pd.DataFrame, cases: Cases, noise: Noise, rng: np.random.Generator) -> FloatArray:
    """Values [R, J] of runs whose true gain is `GAIN`."""
    u = progress(runs["size"].to_numpy(float), runs["duration"].to_numpy(float))
    trunk = pd.factorize(runs["cluster"])[0]
    R, J = len(runs), len(cases.level)
    level = GAIN * u + noise.trunk * rng.normal(size=trunk.max() + 1)[trunk]
    level = level + noise.run * rng.normal(size=R)
    values = level[:, None] + cases.level + u[:, None] * cases.response
    return np.asarray(values + noise.run_case * rng.normal(size=(R, J)), float)


def as_scores(values: FloatArray, runs: pd.DataFrame) -> Scores:
    """Values [R, J] as the verdict reads them."""
    return Scores(values[:, None, :], runs, np.zeros(values.shape[1], np.int64), ())


def by_design(pilot: Scores, hours: Hours, budget: float, rng: np.random.Generator) -> pd.DataFrame:
    """What `design --given` would add."""
    return next_runs(pilot, hours, budget)[1]


def at_random(pilot: Scores, hours: Hours, budget: float, rng: np.random.Generator) -> pd.DataFrame:
    """Cells and columns at random until no hours are left."""
    added: list[Choice] = []
    while True:
        options = [option for option in choices_of(pilot.runs, hours) if option.hours <= budget]
        if not options or len(added) == 40:
            return extended(pilot.runs, added)
        added.append(options[int(rng.integers(len(options)))])
        budget -= added[-1].hours


def whole_grid(
    pilot: Scores, hours: Hours, budget: float, rng: np.random.Generator
) -> pd.DataFrame:
    """The whole grid once more, as often as the hours pay for."""
    grid = next(o for o in choices_of(pilot.runs, hours) if o.words == "the whole grid")
    return extended(pilot.runs, [grid] * int(budget / grid.hours + 1e-9))


Way = Callable[[Scores, Hours, float, np.random.Generator], pd.DataFrame]
WAYS: dict[str, Way] = {"design": by_design, "random": at_random, "grid": whole_grid}


def widths(situation: Situation, number: int, studies: int) -> pd.DataFrame:
    """A row per study and way: half width, whether it covers, whether the gain is claimed."""
    runs, noise = study_runs(situation.pilot), situation.noise
    hours = proportional_hours(situation.pilot.sizes, situation.pilot.durations, 1.0)
    rows = []
    for study in range(studies):
        rng = np.random.default_rng((number, study))
        J = situation.pilot.cases
        cases = Cases(0.2 * rng.normal(size=J), noise.case_effect * rng.normal(size=J))
        values = scored(runs, cases, noise, rng)
        pilot = as_scores(values, runs)
        for name, way in WAYS.items():
            then = way(pilot, hours, situation.hours, rng)
            new = then.iloc[len(runs) :]
            if len(new):
                values_then = np.concatenate([values, scored(new, cases, noise, rng)])
            else:
                values_then = values
            data = as_scores(values_then, then)
            design = fit_design(data)
            effect = estimate_effect(
                "budget", data, design.contrasts["budget"], design, 1.0, None, SMALLEST, 0.90
            )
            if effect.low is None or effect.high is None:
                rows.append((name, len(new), np.nan, False, False))
                continue
            half = (effect.high - effect.low) / 2
            covers = effect.low <= GAIN <= effect.high
            rows.append((name, len(new), half, covers, effect.low > 0))
    return pd.DataFrame(rows, columns=["way", "runs", "half width", "covers", "claimed"])


def main(studies: int) -> None:
    for number, situation in enumerate(SITUATIONS):
        table = widths(situation, number, studies)
        means = table.groupby("way", sort=False).mean().round(3)
        means["median half width"] = table.groupby("way")["half width"].median().round(4)
        means["no interval"] = table.groupby("way")["half width"].apply(
            lambda half: half.isna().mean()
        )
        print(f"{situation.name}, {situation.hours:g} hours, {studies} studies")
        print(means.to_string(), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
