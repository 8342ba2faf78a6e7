"""Designs against simulation: expected interval widths, recovered components, costs by hand."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from scaling.cli import app
from scaling.laws import self_test, verdict
from scaling.laws.verdicts.design import (
    cost,
    expected_variance,
    noise_of,
    noise_with_draws,
    proportional_hours,
    propose,
    simulated,
)
from scaling.laws.verdicts.design_of_runs import fit_design
from scaling.laws.verdicts.simulate import Grid, Noise, simulate_study

SIZES, DURATIONS = (1e6, 4e6, 16e6), (1e4, 2e4, 4e4)
NOISE = Noise(trunk=0.02, run=0.01, case=0.2, case_effect=0.1, run_case=0.1)


@pytest.mark.parametrize("shared", [True, False])
def test_expected_variance_is_the_scatter_of_simulated_estimates(shared: bool) -> None:
    grid = Grid(SIZES, DURATIONS, 2, 40, shared_trunks=shared)
    rng = np.random.default_rng(0)
    first = simulate_study(grid, NOISE, 0.0, rng)
    design = fit_design(first)
    estimates = [
        design.contrasts["budget"] @ simulate_study(grid, NOISE, 0.0, rng).values.mean((1, 2))
        for _ in range(3000)
    ]
    variance, df = expected_variance(design, NOISE, 40)
    assert np.var(estimates) == pytest.approx(variance, rel=0.1)
    assert df > 2


def test_noise_of_a_large_pilot_recovers_the_components() -> None:
    found = noise_of(
        simulate_study(
            Grid(SIZES, DURATIONS, 40, 400, shared_trunks=True),
            NOISE,
            0.03,
            np.random.default_rng(0),
        )
    )
    for name in ("trunk", "run", "case", "case_effect", "run_case"):
        assert getattr(found, name) == pytest.approx(getattr(NOISE, name), rel=0.15)


def test_noise_with_draws_recovers_the_components_of_draws() -> None:
    truth = Noise(
        trunk=0.01,
        run=0.02,
        case=0.2,
        case_effect=0.05,
        run_case=0.1,
        draw=0.05,
        draw_effect=0.03,
        run_draw=0.02,
    )
    grid = Grid(SIZES, DURATIONS, 3, 60, draws=5, shared_trunks=True)
    studies = [
        noise_with_draws(simulate_study(grid, truth, 0.03, np.random.default_rng(seed)))
        for seed in range(60)
    ]
    for name in ("run", "case_effect", "run_case", "draw_effect", "run_draw"):
        assert np.sqrt(np.mean([getattr(one, name) ** 2 for one in studies])) == pytest.approx(
            getattr(truth, name), rel=0.2
        )


@pytest.mark.parametrize("draws", [1, 4])
def test_self_test_interval_is_as_wide_as_the_verdicts_own_and_right_as_often_as_it_says(
    draws: int,
) -> None:
    noise = Noise(
        run=0.02, case=0.2, case_effect=0.05, run_case=0.1, draw_effect=0.02, run_draw=0.02
    )
    widths, claims, coverages, found = [], [], [], []
    for seed in range(4):
        study = simulate_study(
            Grid(SIZES, DURATIONS, 3, 60, draws=draws), noise, 0.0, np.random.default_rng(seed)
        )
        run, draw, case = (v.ravel() for v in np.indices(study.values.shape))
        cases = (
            study.runs.iloc[run]
            .reset_index(drop=True)
            .assign(draw=draw, case=case, value=0.6 + study.values.ravel())
        )
        judged = verdict(cases, task="t", metric="dice", smallest_effect=0.05)
        tested = self_test(cases, judged, studies=100)
        half = (judged.effects[0].high - judged.effects[0].low) / 2
        widths.append(tested.null.half_width / half)
        claims.append(tested.null.claims)
        coverages.append(tested.null.coverage)
        found.append(tested.real.claims)
        assert tested.real.effect == pytest.approx(0.1)
    # One study's own interval is as lucky as its few seeds: the widths agree on the average.
    assert np.mean(widths) == pytest.approx(1, abs=0.15)
    assert np.mean(claims) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)
    assert np.mean(coverages) > 0.9 - 3 * np.sqrt(0.9 * 0.1 / 400)
    assert np.mean(found) > 0.5


def test_cost_of_shared_trunks_is_one_trunk_and_its_cooldowns() -> None:
    hours = proportional_hours(SIZES, DURATIONS, 10)
    shared = cost(Grid((16e6,), DURATIONS, 2, 1, shared_trunks=True), hours)
    assert shared == pytest.approx(2 * 10 * (0.8 + 0.2 * (0.25 + 0.5 + 1)))
    assert cost(Grid((16e6,), DURATIONS, 2, 1), hours) == pytest.approx(2 * 10 * 1.75)


def test_propose_narrowest_interval_first_within_the_budget() -> None:
    found = propose(
        SIZES, DURATIONS, (50, 200), proportional_hours(SIZES, DURATIONS, 10), 100, NOISE
    )
    assert all(p.hours <= 100 for p in found)
    assert [p.half_width for p in found] == sorted(p.half_width for p in found)
    assert found[0].grid.cases == 200
    assert found[0].grid.seeds > 1
    tried = simulated(found[0], NOISE, 0.06, 0.02, studies=300)
    assert tried.null.half_width == pytest.approx(found[0].half_width, rel=0.2)
    assert tried.null.claims < 0.1


def test_propose_budget_too_small_says_what_is_needed() -> None:
    with pytest.raises(ValueError, match="No design fits 1 accelerator-hours"):
        propose(SIZES, DURATIONS, (50,), proportional_hours(SIZES, DURATIONS, 10), 1, NOISE)


def test_design_verb_prints_designs_with_their_error_rates() -> None:
    arguments = [
        "design",
        "--budget",
        "80",
        "--sizes",
        "1e6,4e6,16e6",
        "--durations",
        "1e4,4e4",
        "--largest",
        "10",
        "--show",
        "1",
    ]
    result = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    best = json.loads(result.stdout)["designs"][0]
    assert best["hours"] <= 80
    assert 0 <= best["null"]["claims"] <= 0.12
    assert "interval right in" in CliRunner().invoke(app, arguments).stdout
