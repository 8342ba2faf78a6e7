"""What to run next against simulated studies and exhaustive search."""

import json
from itertools import combinations_with_replacement

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from scaling.cli import app
from scaling.laws.verdicts.design import half_width_over_sites, proportional_hours
from scaling.laws.verdicts.next_runs import (
    choices_of,
    extended,
    forecast_half_width,
    next_runs,
    verdict_half_width,
)
from scaling.laws.verdicts.simulate import Grid, Noise, simulate_study

NOISE = Noise(trunk=0.0, run=0.02, case=0.2, case_effect=0.02, run_case=0.05)
SIZES, DURATIONS = (1e6, 4e6, 16e6), (1e4, 4e4)


def _study():
    grid = Grid(SIZES, DURATIONS, seeds=2, cases=100)
    return simulate_study(grid, NOISE, 0.05, np.random.default_rng(0))


def test_next_runs_narrows_as_well_as_exhaustive_search_of_few_choices() -> None:
    data = _study()
    hours = proportional_hours(SIZES, DURATIONS, 1.0)
    result, _ = next_runs(data, hours, 2.2)
    assert result.hours <= 2.2 * (1 + 1e-9)
    options = choices_of(data.runs, hours)
    best = np.inf
    for count in (1, 2):
        for some in combinations_with_replacement(options, count):
            if sum(option.hours for option in some) <= 2.2:
                runs = extended(data.runs, list(some))
                best = min(best, verdict_half_width(runs, result.noise, 100))
    assert result.half_width_then is not None
    assert result.half_width_then <= best * 1.05


def test_forecast_half_width_agrees_with_ordinary_least_squares() -> None:
    runs = _study().runs
    noise = Noise(trunk=0.0, run=0.03, case=0.0, case_effect=0.0, run_case=0.0)
    logs = np.log(runs[["size", "duration"]].to_numpy())
    X = np.column_stack([np.ones(len(runs)), logs])
    at = np.array([1.0, np.log(6.4e7), np.log(4e4)])
    se = 0.03 * np.sqrt(at @ np.linalg.inv(X.T @ X) @ at)
    half = forecast_half_width(runs, noise, 100, (6.4e7, 4e4))
    assert half == pytest.approx(1.8331 * se, rel=1e-3)  # t of 9 degrees of freedom


def test_next_runs_budget_too_small_says_what_the_cheapest_takes() -> None:
    hours = proportional_hours(SIZES, DURATIONS, 1.0)
    with pytest.raises(ValueError, match="pay for no further run"):
        next_runs(_study(), hours, 1e-4)


def test_design_given_results_lists_the_next_runs(tmp_path) -> None:
    data = _study()
    rows = []
    for run, (facts, values) in enumerate(
        zip(data.runs.to_dict("records"), data.values[:, 0], strict=True)
    ):
        for case, value in enumerate(values):
            rows.append((facts["size"], facts["duration"], run, case, value))
    table = pd.DataFrame(rows, columns=["size", "duration", "run", "case", "value"])
    table.to_csv(tmp_path / "results.csv", index=False)
    arguments = ["design", "--given", str(tmp_path / "results.csv"), "--budget", "4"]
    for more in ([], ["--target", "6.4e7/4e4"]):
        result = CliRunner().invoke(app, [*arguments, "--largest", "1", *more, "--json"])
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)["next"][0]
        assert found["choices"]
        assert found["half_width_then"] < found["half_width_now"]


def test_interval_over_sites_is_students_where_only_sites_scatter() -> None:
    still = Noise(trunk=0.0, run=1e-6, case=0.0, case_effect=0.0, run_case=0.0)
    half = half_width_over_sites(_study().runs, still, 100, 5, 0.05)
    assert half == pytest.approx(2.1318 * 0.05 / np.sqrt(5), rel=1e-3)  # t of 4 degrees of freedom
    assert half_width_over_sites(_study().runs, still, 100, 1, 0.05) is None
