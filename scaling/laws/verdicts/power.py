"""How often the verdict is right: type-I error, power and interval coverage on simulated studies
of a given design."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from scaling.laws.plain import plain
from scaling.laws.verdicts.design_of_runs import fit_design
from scaling.laws.verdicts.effects import Effect, effect_and_parts
from scaling.laws.verdicts.simulate import Grid, Noise, simulate_study


@dataclass(frozen=True)
class OperatingCharacteristics:
    """Rates over simulated studies whose true gain is `effect`: `claims` of any improvement
    (interval above nought), each decision, `coverage` of the interval; and its mean half width.
    `se` is the standard error of `claims`."""

    effect: float
    studies: int
    claims: float
    se: float
    coverage: float
    half_width: float
    decisions: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        return cast(dict[str, Any], plain(self))


def operating_characteristics(
    grid: Grid,
    noise: Noise,
    effect: float,
    smallest: float,
    studies: int,
    seed: int = 0,
    confidence: float = 0.90,
) -> OperatingCharacteristics:
    """Simulate `studies` studies on `grid` and judge the gain from the smallest to the largest
    budget of each."""
    # The design is the same for every study: it follows from the runs alone.
    design = fit_design(simulate_study(grid, noise, effect, np.random.default_rng(0)))

    def judge(rng: np.random.Generator) -> Effect:
        data = simulate_study(grid, noise, effect, rng)
        budget = design.contrasts["budget"]
        return effect_and_parts("budget", data, budget, design, 1.0, None, smallest, confidence)[0]

    return characteristics(judge, effect, studies, seed)


def characteristics(
    judge: Callable[[np.random.Generator], Effect], effect: float, studies: int, seed: int
) -> OperatingCharacteristics:
    """Rates over studies that `judge` simulates and judges; their true gain is `effect`."""
    decisions: Counter[str] = Counter()
    claims = covered = 0
    widths = []
    for sequence in np.random.SeedSequence(seed).spawn(studies):
        result = judge(np.random.default_rng(sequence))
        decisions[result.decision] += 1
        if result.low is not None and result.high is not None:
            claims += result.low > 0
            covered += result.low <= effect <= result.high
            widths.append((result.high - result.low) / 2)
    rate = claims / studies
    return OperatingCharacteristics(
        effect=effect,
        studies=studies,
        claims=rate,
        se=float(np.sqrt(rate * (1 - rate) / studies)),
        coverage=covered / studies,
        half_width=float(np.mean(widths)) if widths else float("nan"),
        decisions={name: count / studies for name, count in decisions.most_common()},
    )
