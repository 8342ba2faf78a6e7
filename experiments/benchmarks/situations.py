"""Is the verdict right where studies really are: several sites, unequal noise, curves that bend?

Shows: per situation how often a study without any effect is claimed to improve, falsely for the
estimand that is stated (nominal 5 %), how often it is claimed to harm, how often the 90 % interval
holds the truth, and its mean half width. The truth of "these sites" is that of the sites and their
shares of cases that were drawn; of "sites like them" and of "a new site" that of the distribution
they were drawn from. Costs: about fifteen minutes on one core with the defaults; a file given as
second argument holds finished rows, so that the run can be interrupted and resumed. Seeds: row
number and study number. Command:

    python experiments/benchmarks/situations.py [STUDIES=2000] [FILE or -] [ROWS THAT CONTAIN THIS]
"""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from scaling.files import write_json
from scaling.laws.arrays import FloatArray
from scaling.laws.verdicts.design_of_runs import Design, fit_design
from scaling.laws.verdicts.effects import Effect, estimate_effect
from scaling.laws.verdicts.nesting import numbered
from scaling.laws.verdicts.scores import Scores
from scaling.laws.verdicts.sites import across_sites
from scaling.laws.verdicts.trend import progress
from scaling.laws.verdicts.trunks import with_runs_of_seeds

SMALLEST = 0.02
SIZES = (1e6, 4e6, 16e6, 64e6, 256e6)
DURATIONS = (1e4, 2e4, 4e4, 8e4)
Curve = Callable[[FloatArray, FloatArray], FloatArray]


def nothing(u: FloatArray, size: FloatArray) -> FloatArray:
    """No effect at all."""
    return np.zeros(len(u))


def saturating(u: FloatArray, size: FloatArray) -> FloatArray:
    """A gain of .1 that is nearly reached halfway."""
    return np.asarray(0.105 * (1 - np.exp(-3 * u)), float)


def threshold(u: FloatArray, size: FloatArray) -> FloatArray:
    """A gain of .1 that needs both a large size and a long duration."""
    return np.asarray(0.1 / (1 + np.exp(-20 * (u - 0.7))), float)


@dataclass(frozen=True)
class Situation:
    """A study: its cells and seeds, its noise (standard deviations) and its truth."""

    name: str
    sizes: int = 3
    durations: int = 3
    seeds: tuple[int, ...] = (1,)
    """Seeds at each size; one number for all."""
    cases: int = 200
    curve: Curve = nothing
    run: float = 0.01
    trunk: float = 0.0
    noisier: float = 1.0
    """How many times noisier runs of the largest size are."""
    noisier_duration: float = 1.0
    case_effect: float = 0.05
    run_case: float = 0.1
    sites: int = 0
    site_sd: float = 0.05
    responders: float = 0.0
    """Share of cases that gain .5, the others losing as much in total."""
    shares: tuple[float, ...] = field(default=(0.6, 0.25, 0.15))

    def runs(self) -> pd.DataFrame:
        """One row per run, with a seed and no column that names trunks."""
        rows = []
        for i, size in enumerate(SIZES[: self.sizes]):
            for seed in range(self.seeds[min(i, len(self.seeds) - 1)]):
                rows += [(size, duration, seed) for duration in DURATIONS[: self.durations]]
        table = pd.DataFrame(rows, columns=["size", "duration", "seed"])
        table, _ = with_runs_of_seeds(table, independent=self.trunk == 0)
        if "cluster" not in table:
            table["cluster"] = table["run"]
        return table


@dataclass(frozen=True)
class Truth:
    """The gain that each estimand has in one simulated study."""

    these: float
    mean: float
    new: float


def simulated(
    situation: Situation, runs: pd.DataFrame, rng: np.random.Generator
) -> tuple[Scores, Truth]:
    """Scores [R, 1, J] of one study, and its truth."""
    size, duration = runs["size"].to_numpy(float), runs["duration"].to_numpy(float)
    u = progress(size, duration)
    R, J = len(runs), situation.cases
    sd = situation.run * np.where(size == size.max(), situation.noisier, 1.0)
    sd = sd * np.where(duration == duration.max(), situation.noisier_duration, 1.0)
    trunk = numbered(runs["cluster"].to_numpy(object))
    level = situation.curve(u, size) + sd * rng.normal(size=R)
    level = level + situation.trunk * rng.normal(size=trunk.max() + 1)[trunk]
    response = situation.case_effect * rng.normal(size=J)
    if situation.responders:
        responds = rng.random(J) < situation.responders
        response = response + 0.5 * (responds - situation.responders)
    site, of_site = None, np.zeros(J)
    gain = float(np.ptp(situation.curve(np.array([0.0, 1.0]), size)))
    truth = Truth(gain, gain, gain)
    if situation.sites:
        shares = np.array(situation.shares) if situation.sites == 3 else None
        place = rng.choice(situation.sites, size=J, p=shares)
        effects = situation.site_sd * rng.normal(size=situation.sites)
        of_site = effects[place]
        site = np.array([f"site{p}" for p in place], object)
        new = gain + situation.site_sd * float(rng.normal())
        truth = Truth(gain + float(of_site.mean()), gain, new)
    values = (
        level[:, None]
        + 0.2 * rng.normal(size=J)
        + u[:, None] * (response + of_site)
        + situation.run_case * rng.normal(size=(R, J))
    )
    strata = np.zeros(J, np.int64) if site is None else numbered(site)
    return Scores(values[:, None, :], runs, strata, (), site), truth


def judged(
    data: Scores, design: Design, truth: Truth
) -> Iterator[tuple[str, Effect | None, float]]:
    """Estimand, its effect, and its truth in this study."""
    a = design.contrasts["budget"]
    these = estimate_effect("budget", data, a, design, 1.0, None, SMALLEST, 0.90)
    if data.site is None:
        yield "gain", these, truth.mean
        return
    sites = across_sites(data, a, design.noise, 1.0, these, SMALLEST, 0.90, prior_applies=True)
    yield "these sites", these, truth.these
    yield "sites like them", sites.mean, truth.mean
    yield "a new site", sites.new, truth.new


def rates(situation: Situation, studies: int, row: int) -> list[dict[str, float | str]]:
    """One line per estimand: how often it was claimed falsely, and covered."""
    runs = situation.runs()
    lines: dict[str, list[tuple[bool, bool, bool, bool, float]]] = {}
    design = None
    for study in range(studies):
        data, truth = simulated(situation, runs, np.random.default_rng((row, study)))
        design = design or fit_design(data)
        for name, effect, gain in judged(data, design, truth):
            if effect is None or effect.low is None or effect.high is None:
                continue
            up, down = effect.low > 0, effect.decision == "harms"
            lines.setdefault(name, []).append(
                (
                    up and gain <= 0,
                    up,
                    down and gain >= 0,
                    effect.low <= gain <= effect.high,
                    (effect.high - effect.low) / 2,
                )
            )
    result = []
    for name, outcomes in lines.items():
        false, claims, harms, covered, half = np.array(outcomes, float).mean(0)
        result.append(
            {
                "situation": situation.name,
                "estimand": name,
                "studies": len(outcomes),
                "false claims": float(false),
                "claims": float(claims),
                "false harms": float(harms),
                "coverage": float(covered),
                "half width": float(half),
            }
        )
    return result


SITUATIONS = (
    Situation("3 sites, 1 seed", sites=3),
    Situation("3 sites, 2 seeds", sites=3, seeds=(2,)),
    Situation("3 sites, 3 seeds", sites=3, seeds=(3,)),
    Situation("5 sites, 2 seeds", sites=5, seeds=(2,)),
    Situation("10 sites, 2 seeds", sites=10, seeds=(2,)),
    Situation("5 sites alike, 2 seeds", sites=5, seeds=(2,), site_sd=0.0),
    Situation("durations of one trunk, seed column only, 1 seed", trunk=0.03),
    Situation("durations of one trunk, seed column only, 2 seeds", trunk=0.03, seeds=(2,)),
    Situation("durations of one trunk, seed column only, 3 seeds", trunk=0.03, seeds=(3,)),
    Situation("trunks, 3 seeds at the smallest size, 1 elsewhere", trunk=0.03, seeds=(3, 1)),
    Situation("trunks, 3 seeds, largest 4 times noisier", trunk=0.03, seeds=(3,), noisier=4),
    Situation(
        "4 sizes, 5 seeds at the smallest, largest 4 times noisier",
        sizes=4,
        durations=1,
        seeds=(5, 1),
        run=0.03,
        noisier=4,
    ),
    Situation("4 sizes, 5 seeds at the smallest", sizes=4, durations=1, seeds=(5, 1), run=0.03),
    Situation("3 x 3, 3 seeds at the smallest size, 1 elsewhere", seeds=(3, 1), run=0.03),
    Situation("3 x 3, 3 seeds, largest 4 times noisier", seeds=(3,), run=0.03, noisier=4),
    Situation("3 x 3, 1 seed, longest 4 times noisier", run=0.03, noisier_duration=4),
    Situation("5 x 4, 1 seed, largest 4 times noisier", 5, 4, run=0.03, noisier=4),
    Situation("3 x 3, 3 seeds, same noise", seeds=(3,), run=0.03),
    Situation("3 x 3, 1 seed, same noise", run=0.03),
    Situation("5 x 4, 1 seed, same noise", 5, 4, run=0.03),
    Situation("saturating truth, 60 cases", 4, 4, (2,), 60, saturating),
    Situation("saturating truth, 200 cases", 4, 4, (2,), 200, saturating),
    Situation("threshold truth, 200 cases", 4, 4, (2,), 200, threshold),
    Situation("20 cases of which 5 % respond", seeds=(2,), cases=20, responders=0.05, run=0.005),
)


def main(studies: int, file: Path | None, chosen: str) -> None:
    finished = json.loads(file.read_text()) if file and file.exists() else {}
    for row, situation in enumerate(SITUATIONS):
        if chosen not in situation.name:
            continue
        key = f"{situation.name}, {studies} studies"
        if key not in finished:
            finished[key] = rates(situation, studies, row)
            if file:
                write_json(file, finished)
        print(pd.DataFrame(finished[key]).round(3).to_string(index=False, header=row == 0))


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 2000,
        Path(sys.argv[2]) if len(sys.argv) > 2 and sys.argv[2] != "-" else None,
        sys.argv[3] if len(sys.argv) > 3 else "",
    )
