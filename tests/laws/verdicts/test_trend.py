"""The trend test's error rate on simulated studies, and Holm's adjustment against statsmodels."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from scaling.laws.verdicts.design_of_runs import fit_design
from scaling.laws.verdicts.simulate import Grid, Noise, simulate_study
from scaling.laws.verdicts.trend import SHAPES, holm, progress, trend_test

GRID = Grid((1e6, 4e6, 16e6), (1e4, 2e4, 4e4), seeds=2, cases=30)
NOISE = Noise(run=0.02, case=0.2, case_effect=0.02, run_case=0.1)


def _p(effect: float, seed: int) -> tuple[float, str]:
    data = simulate_study(GRID, NOISE, effect, np.random.default_rng(seed))
    return trend_test(data, fit_design(data), 1.0)


def test_trend_test_without_effect_rejects_at_the_nominal_rate() -> None:
    p = np.array([_p(0.0, seed)[0] for seed in range(300)])
    assert 0.02 <= (p <= 0.05).mean() <= 0.09
    assert stats.kstest(p, "uniform").pvalue > 1e-3


def test_trend_test_clear_effect_is_found() -> None:
    assert all(_p(0.15, seed)[0] < 0.01 for seed in range(5))


def test_trend_test_of_one_sure_shape_is_not_smaller_than_its_t_test() -> None:
    data = simulate_study(GRID, NOISE, 0.03, np.random.default_rng(0))
    p, shape = trend_test(data, fit_design(data), 1.0)
    assert shape in SHAPES
    u = progress(data.runs["size"].to_numpy(), data.runs["duration"].to_numpy())
    alone = stats.linregress(
        SHAPES[shape](u), data.values.mean((1, 2)), alternative="greater"
    ).pvalue
    assert alone / 5 < p < max(10 * alone, 0.01)


def test_holm_equals_statsmodels() -> None:
    p = np.random.default_rng(0).random(7) ** 3
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])


def test_holm_of_no_tests_is_empty() -> None:
    assert len(holm(np.array([]))) == 0


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_run_from_nought_to_one(name: str) -> None:
    assert SHAPES[name](0.0) == pytest.approx(0)
    assert SHAPES[name](1.0) == pytest.approx(1)
