"""Curves fitted to data of known laws, and to data that cannot carry one."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import linregress
from scipy.stats import t as student_t

from scaling.laws import fit
from scaling.laws.curves.losses import huber, least_squares


def _law(levels: int, repeats: int = 2, noise: float = 0.01) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    x = np.repeat(2.0 ** np.arange(levels), repeats) * 1e6
    return pd.DataFrame(
        {"size": x, "loss": 2 + 8 * (x / 1e6) ** -0.5 * np.exp(noise * rng.normal(size=len(x)))}
    )


def test_fit_power_law_with_floor_recovers_it_and_extrapolates() -> None:
    curve = fit(_law(8), "size", "loss", bounds=None, lower_is_better=True, resamples=50)
    floor = next(f for f in curve.forms if f.name == "floor")
    assert floor.parameters["alpha"] == pytest.approx(0.5, rel=0.05)
    assert np.exp(floor.parameters["log_E"]) == pytest.approx(2, rel=0.05)
    assert all(f.converged for f in curve.forms)
    mean, low, high = curve.predict([512e6])
    assert low[0] <= 2 + 8 * 512**-0.5 <= high[0]
    assert mean[0] == pytest.approx(2 + 8 * 512**-0.5, rel=0.05)
    json.dumps(curve.to_dict(), allow_nan=False)


def test_fit_three_sizes_claims_no_floor() -> None:
    table = pd.DataFrame(
        {"size": [1e6, 4e6, 16e6] * 2, "auroc": [0.6, 0.65, 0.7, 0.61, 0.64, 0.71]}
    )
    curve = fit(table, "size", "auroc", bounds=(0, 1), lower_is_better=False, resamples=50)
    assert {f.name for f in curve.forms} == {"flat", "power"}
    assert "Too few levels" in curve.summary
    mean, low, high = curve.predict([1e6, 16e6])
    assert mean[1] > mean[0]
    assert ((low > 0) & (low <= mean) & (mean <= high) & (high < 1)).all()


def test_fit_three_runs_has_wide_intervals() -> None:
    table = pd.DataFrame({"size": [1e6, 4e6, 16e6], "auroc": [0.62, 0.6, 0.66]})
    curve = fit(table, "size", "auroc", bounds=(0, 1), lower_is_better=False, resamples=50)
    _, low, high = curve.predict([16e6])
    assert high[0] - low[0] > 0.05


def test_fit_same_seed_gives_the_same_bits() -> None:
    a, b = (
        fit(_law(5), "size", "loss", bounds=None, lower_is_better=True, resamples=20, seed=3)
        for _ in range(2)
    )
    np.testing.assert_array_equal(a.predict([1e9])[2], b.predict([1e9])[2])


def test_fit_constant_metric_is_flat() -> None:
    table = _law(4).assign(loss=3.0)
    curve = fit(table, "size", "loss", bounds=None, lower_is_better=True, resamples=20)
    assert [f.name for f in curve.forms] == ["flat"]
    assert curve.predict([1e9])[0][0] == pytest.approx(3.0)
    assert any("flat by construction" in n for n in curve.notes)


@pytest.mark.parametrize(
    ("change", "bounds", "message"),
    [
        (lambda t: t.drop(columns="size"), None, "no column size"),
        (lambda t: t.assign(loss=np.nan), None, "Column loss holds"),
        (lambda t: t.assign(size=0.0), None, "not positive"),
        (lambda t: t.assign(size=5.0), None, "one value only"),
        (lambda t: t.iloc[:0], None, "no rows"),
        (lambda t: t, (0.0, 1.0), r"outside \(0, 1\)"),
        (lambda t: t.assign(loss=-t.loss), None, "give bounds"),
    ],
)
def test_fit_wrong_table_says_what_is_wrong(change, bounds, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(change(_law(4)), "size", "loss", bounds=bounds, lower_is_better=True)


def test_fit_power_law_without_prior_has_the_t_interval_of_a_straight_line() -> None:
    rng = np.random.default_rng(1)
    x = np.geomspace(1e6, 1e9, 12)
    table = pd.DataFrame(
        {"size": x, "loss": 3 * (x / 1e6) ** -0.1 * np.exp(0.05 * rng.normal(size=12))}
    )
    curve = fit(
        table,
        "size",
        "loss",
        bounds=None,
        lower_is_better=True,
        forms=("power",),
        loss=least_squares,
        prior=0.0,
        resamples=5,
    )
    line = linregress(np.log(x), np.log(table["loss"]))
    form = curve.forms[0]
    half = student_t.ppf(0.95, 10) * line.stderr
    assert form.parameters["alpha"] == pytest.approx(-line.slope, rel=1e-6)
    assert form.high["alpha"] - form.parameters["alpha"] == pytest.approx(half, rel=0.1)
    assert form.parameters["alpha"] - form.low["alpha"] == pytest.approx(half, rel=0.1)


def test_fit_huber_ignores_a_far_outlier() -> None:
    table = _law(8, repeats=1, noise=0.0)
    table.loc[4, "loss"] *= 3
    robust = fit(
        table,
        "size",
        "loss",
        bounds=None,
        lower_is_better=True,
        forms=("floor",),
        loss=huber(1e-3),
        prior=0.0,
        resamples=5,
    )
    assert robust.forms[0].parameters["alpha"] == pytest.approx(0.5, rel=0.01)


def test_fit_unknown_form_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"No form is called cubic: for size there are .*power"):
        fit(_law(4), "size", "loss", bounds=None, lower_is_better=True, forms=("cubic",))
