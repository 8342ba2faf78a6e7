"""The verdict's error rates on simulated studies, and its categories on published tasks."""

import importlib.util
import os
from pathlib import Path

import pytest

from scaling.laws.verdicts.power import operating_characteristics
from scaling.laws.verdicts.simulate import Grid, Noise

REFS = os.environ.get("SCALING_LAWS_REFS", "")
SIZES, DURATIONS = (1e6, 4e6, 16e6), (1e4, 2e4, 4e4)
RUNS = Noise(run=0.03, case=0.2, case_effect=0.02, run_case=0.1)
CASES = Noise(run=0.003, case=0.3, case_effect=0.15, run_case=0.1)


@pytest.mark.parametrize(
    ("noise", "seeds", "trunks"), [(RUNS, 3, False), (CASES, 1, False), (RUNS, 3, True)]
)
def test_verdict_without_effect_claims_at_the_nominal_rate_and_covers(
    noise: Noise, seeds: int, trunks: bool
) -> None:
    found = operating_characteristics(
        Grid(SIZES, DURATIONS, seeds, 50, shared_trunks=trunks),
        noise,
        0.0,
        0.02,
        studies=800,
        seed=3,
    )
    assert 0.02 <= found.claims <= 0.075  # standard error 0.008; noise by level is conservative
    assert 0.87 <= found.coverage <= 0.95


def test_verdict_power_grows_with_cases_where_cases_dominate() -> None:
    few, many = (
        operating_characteristics(Grid(SIZES, DURATIONS, 1, n, 1), CASES, 0.06, 0.02, studies=200)
        for n in (50, 200)
    )
    assert few.claims < many.claims
    assert many.claims > 0.95
    assert many.half_width < 0.7 * few.half_width


@pytest.mark.skipif(not REFS, reason="SCALING_LAWS_REFS names no folder of published tables")
@pytest.mark.parametrize("budget", ["parameters x tokens per parameter", "FLOPs"])
def test_verdict_published_tasks_agree_with_their_categories(budget: str) -> None:
    path = Path(__file__).parents[2] / "experiments" / "benchmarks" / "downstream.py"
    spec = importlib.util.spec_from_file_location("downstream", path)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    table = benchmark.decisions(Path(REFS) / "downstream_tasks", benchmark.BUDGETS[budget])
    predictable = table["category"] == "predictable"
    assert table.loc[predictable, "decision"].isin(["improves", "improves, slightly"]).mean() >= 0.9
    assert not (
        table.loc[table["category"].isin(["trendless", "inverse"]), "decision"] == "improves"
    ).any()
