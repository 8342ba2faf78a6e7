"""The published replication of the Chinchilla fit. Set SCALING_LAWS_REFS to the folder of
published tables to run these."""

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest

REFS = os.environ.get("SCALING_LAWS_REFS", "")
pytestmark = pytest.mark.skipif(
    not REFS, reason="SCALING_LAWS_REFS names no folder of published tables"
)


@pytest.fixture(scope="module")
def fitted():
    path = Path(__file__).parents[2] / "experiments" / "benchmarks" / "chinchilla.py"
    spec = importlib.util.spec_from_file_location("chinchilla", path)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    folder = Path(REFS) / "chinchilla_epoch"
    log_x, y = benchmark.runs(folder)
    weights = benchmark.resamples(len(y))
    point, fits = benchmark.ours(log_x, y, weights)
    return (
        benchmark,
        json.loads((folder / "published.json").read_text()),
        log_x,
        y,
        weights,
        point,
        fits,
    )


def test_chinchilla_point_estimate_is_as_low_as_published_and_agrees(fitted) -> None:
    benchmark, published, log_x, *_, point, _ = fitted
    assert point.objective[0] <= 0.0010182740346
    for name, value in benchmark.natural(point.theta, log_x).items():
        assert value[0] == pytest.approx(published["grid_fit_published"][name], rel=1e-3)


def test_chinchilla_bootstrap_standard_errors_and_intervals_are_the_published_ones(fitted) -> None:
    benchmark, published, log_x, *_, fits = fitted
    assert fits.converged.all()
    for name, values in benchmark.natural(fits.theta, log_x).items():
        assert values.std(ddof=1) == pytest.approx(
            published["bootstrap"]["se_published"][name], rel=1e-3
        )
        low, high = published["bootstrap"]["ci95_published"][name]
        # in one resample (number 2260) the published BFGS stopped short of the optimum, which
        # moved this end by 0.3 %
        assert np.percentile(values, 2.5) == pytest.approx(low, rel=4e-3 if name == "A" else 1e-3)
        assert np.percentile(values, 97.5) == pytest.approx(high, rel=1e-3)


def test_chinchilla_resamples_are_never_worse_than_scipys_bfgs(fitted) -> None:
    benchmark, _, log_x, y, weights, _, fits = fitted
    for b in (*range(25), 447, 2260):
        w = weights[b].astype(int)
        _, objective = benchmark.scipy_fit(np.repeat(log_x, w, axis=1), np.repeat(y, w))
        assert fits.objective[b] <= objective * (1 + 1e-9)
