"""The two ways from budget to metric against truths that are written out."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import curve_fit
from typer.testing import CliRunner

from scaling.cli import app
from scaling.laws.curves.two_stage import fit_sigmoid, two_stage


def _metric(loss: np.ndarray) -> np.ndarray:
    return 0.5 + 0.45 / (1 + np.exp(6 * (loss - 2.2)))


def _runs(confounded: float = 0.0) -> pd.DataFrame:
    """Accuracies that follow the loss; `confounded` scatters the loss apart from the accuracy."""
    rng = np.random.default_rng(0)
    compute = np.repeat(np.geomspace(1e17, 1e21, 9), 3)
    loss = 1.6 + 2.0 * (compute / 1e17) ** -0.15
    seen = loss * np.exp(confounded * rng.normal(size=loss.size))
    accuracy = _metric(loss) + 0.004 * rng.normal(size=loss.size)
    return pd.DataFrame({"compute": compute, "loss": seen, "accuracy": accuracy})


def test_two_stage_metric_that_turns_late_is_predicted_over_the_loss() -> None:
    runs = _runs()
    ways = two_stage(
        runs, ("compute",), "loss", "accuracy", bounds=(0.0, 1.0), lower_is_better=False
    )
    assert ways.better == "two-stage"
    mean, low, high = ways.predict(np.array([[1e22]]))
    truth = float(_metric(np.array(1.6 + 2.0 * 1e5**-0.15)))
    assert low[0] < truth < high[0]
    assert mean[0] == pytest.approx(truth, abs=0.03)


def test_two_stage_loss_that_says_little_leaves_it_to_the_direct_curve() -> None:
    ways = two_stage(
        _runs(confounded=0.3),
        ("compute",),
        "loss",
        "accuracy",
        bounds=(0.0, 1.0),
        lower_is_better=False,
    )
    assert ways.better != "two-stage"


def test_fit_sigmoid_whole_range_agrees_with_scipy() -> None:
    loss = np.linspace(1.2, 3.4, 40)
    metric = _metric(loss) + 0.01 * np.random.default_rng(1).normal(size=40)
    ours = fit_sigmoid(loss, metric)
    theirs, _ = curve_fit(
        lambda x, b, a, k, m: b + a / (1 + np.exp(k * (x - m))), loss, metric, p0=[0.5, 0.4, 5, 2]
    )
    reference = theirs[0] + theirs[1] / (1 + np.exp(theirs[2] * (loss - theirs[3])))
    np.testing.assert_allclose(ours(loss), reference, atol=0.004)
    assert ours.middle == pytest.approx(theirs[3], abs=0.03)


def test_two_stage_verb_gives_both_backtests_and_predictions(tmp_path) -> None:
    _runs().to_csv(tmp_path / "own.csv", index=False)
    arguments = ["two-stage", str(tmp_path / "own.csv"), "--x", "compute", "--y", "accuracy"]
    result = CliRunner().invoke(app, [*arguments, "--at", "1e22", "--json"])
    assert result.exit_code == 0, result.output
    ways = json.loads(result.stdout)["two_stage"][0]
    assert len(ways["errors_two_stage"]) == len(ways["later_runs"])
    assert set(ways["predictions"][0]) == {"x", "two_stage", "direct"}


def test_two_stage_verb_without_losses_names_the_column(tmp_path) -> None:
    _runs().drop(columns="loss").to_csv(tmp_path / "own.csv", index=False)
    arguments = ["two-stage", str(tmp_path / "own.csv"), "--x", "compute", "--y", "accuracy"]
    result = CliRunner().invoke(app, arguments)
    assert "no column loss" in str(result.exception)
