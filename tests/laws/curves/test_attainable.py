"""The frontier of many models against scikit-learn's quantile regression and simulated models."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import QuantileRegressor
from typer.testing import CliRunner

from scaling.cli import app
from scaling.laws.curves.attainable import attainable, quantile_line


def _models(count: int, seed: int) -> pd.DataFrame:
    """Models whose recipes lose up to 2 of log odds to the best one at their compute."""
    rng = np.random.default_rng(seed)
    compute = np.exp(rng.uniform(np.log(1e18), np.log(1e22), count))
    best = -1.0 + 0.35 * np.log(compute / 1e18)
    score = 1 / (1 + np.exp(-(best - 2 * rng.random(count))))
    return pd.DataFrame({"flops": compute, "accuracy": score})


def test_quantile_line_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    t = rng.normal(size=60)
    z = 1 - 0.7 * t + rng.normal(size=60)
    weights = rng.random(60)
    intercept, slope = quantile_line(t, z, weights, 0.9)
    reference = QuantileRegressor(quantile=0.1, alpha=0.0, solver="highs")
    reference.fit(t[:, None], z, sample_weight=weights)
    assert intercept == pytest.approx(reference.intercept_, abs=1e-6)
    assert slope == pytest.approx(reference.coef_[0], abs=1e-6)


def test_quantile_line_of_worsening_models_does_not_fall() -> None:
    t = np.linspace(-1, 1, 40)
    assert quantile_line(t, 0.5 * t, np.ones(40), 0.9)[1] == 0.0


def test_frontier_of_simulated_models_holds_the_true_one() -> None:
    covered = []
    for seed in range(8):
        frontier = attainable(
            _models(150, seed),
            "flops",
            "accuracy",
            bounds=(0.0, 1.0),
            lower_is_better=False,
            quantile=0.9,
            resamples=60,
        )
        x = np.array([1e19, 1e20, 1e21])
        truth = 1 / (1 + np.exp(-(-1.0 + 0.35 * np.log(x / 1e18) - 0.2)))
        value, low, high = frontier.predict(x)
        np.testing.assert_allclose(value, truth, atol=0.05)
        covered.append((low <= truth) & (truth <= high))
    assert np.mean(covered) >= 0.7


def test_attainable_too_few_models_says_how_many() -> None:
    with pytest.raises(ValueError, match="at least 20"):
        attainable(_models(8, 0), "flops", "accuracy", bounds=(0.0, 1.0), lower_is_better=False)


def test_attainable_verb_prints_the_backtest_and_predictions(tmp_path) -> None:
    _models(60, 0).to_csv(tmp_path / "models.csv", index=False)
    arguments = ["attainable", str(tmp_path / "models.csv"), "--x", "flops", "--y", "accuracy"]
    result = CliRunner().invoke(app, [*arguments, "--at", "1e23", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["attainable"][0]
    assert found["models"] == 60
    assert len(found["backtest"]) == 3
    assert found["predictions"][0]["low"] <= found["predictions"][0]["value"] <= 1
