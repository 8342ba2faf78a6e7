"""Three estimands over sites against formulas written out, and coverage by simulation."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from scaling.laws import verdict
from scaling.laws.verdicts.nesting import by_patient
from scaling.laws.verdicts.scores import scores
from scaling.laws.verdicts.sites import SiteGains, new_site, spread_between


def _table(sites: int, spread: float = 0.05, cases: int = 60, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    gains = spread * rng.normal(size=sites)
    rows = [
        (size, run, f"s{site}", case, 0.6 + (size > 1e6) * gains[site] + 0.01 * rng.normal())
        for size in (1e6, 4e6)
        for run in range(3)
        for site in range(sites)
        for case in range(cases)
    ]
    return pd.DataFrame(rows, columns=["size", "seed", "site", "case", "value"])


@pytest.mark.parametrize(("sites", "decides"), [(3, "these"), (6, "mean")])
def test_decision_is_about_these_sites_below_five_and_about_their_like_from_five_on(
    sites: int, decides: str
) -> None:
    result = verdict(_table(sites), task="t", metric="dice")
    assert result.sites.sites == sites
    assert result.sites.decides == decides
    word = {"these": "at these 3 sites", "mean": "over sites like these 6"}[decides]
    assert word in result.sentence
    assert result.sites.new.high - result.sites.new.low > (
        result.sites.mean.high - result.sites.mean.low
    ) * (0.9 if decides == "these" else 1.0)


def test_mean_over_sites_measured_well_is_the_t_interval_of_their_gains() -> None:
    table = _table(6, cases=200)
    result = verdict(table, task="t", metric="dice").sites
    means = table.groupby(["site", "size"])["value"].mean().unstack()  # noqa: PD010
    gains = means[4e6] - means[1e6]
    low, high = stats.t.interval(0.9, 5, gains.mean(), stats.sem(gains))
    assert result.mean.estimate == pytest.approx(gains.mean(), abs=1e-3)
    assert (result.mean.low, result.mean.high) == pytest.approx((low, high), abs=3e-3)
    np.testing.assert_allclose(result.gains, gains.to_numpy())


def test_spread_between_is_paule_and_mandels() -> None:
    sites = SiteGains(("a", "b", "c", "d"), np.array([0.0, 1, 2, 5]), np.array([0.1, 0.2, 0.1, 1]))
    spread = spread_between(sites)
    weight = 1 / (sites.variance + spread)
    mean = (weight * sites.gain).sum() / weight.sum()
    assert (weight * (sites.gain - mean) ** 2).sum() == pytest.approx(3)


@pytest.mark.parametrize(("sites", "prior"), [(3, True), (6, False)])
def test_interval_of_a_new_site_covers(sites: int, prior: bool) -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(150):
        gain = rng.normal(0, 0.055, sites) + rng.normal(0, 0.02, sites)
        draws = new_site(SiteGains(("",) * sites, gain, np.full(sites, 0.02**2)), 0.0, prior)
        low, high = np.quantile(draws, [0.05, 0.95])
        covered.append(low <= rng.normal(0, 0.055) <= high)
    assert 0.83 <= np.mean(covered) <= 0.97


def test_auroc_is_that_within_sites_and_a_site_of_one_class_is_named() -> None:
    rng = np.random.default_rng(0)
    cases = pd.DataFrame({"site": np.repeat(["a", "b", "c"], [40, 20, 10]), "case": range(70)})
    cases["label"] = np.where(cases["site"] == "c", 1, np.arange(70) % 2)
    # Scores of site b are higher for all: pooled over sites they would mislead.
    cases["prediction"] = cases["label"] + 3.0 * (cases["site"] == "b") + rng.normal(size=70)
    table = pd.concat([cases.assign(run=run, size=run + 1.0) for run in range(2)])
    data = scores(table, "auroc")
    within = [
        roc_auc_score(rows["label"], rows["prediction"])
        for name, rows in cases.groupby("site")
        if name != "c"
    ]
    assert data.values[0].mean() == pytest.approx((40 * within[0] + 20 * within[1]) / 60)
    assert any("c (10 cases)" in note for note in data.notes)


def test_site_that_is_blank_in_some_rows_is_refused() -> None:
    table = _table(3)
    table.loc[5, "site"] = None
    with pytest.raises(ValueError, match="Column site is blank in 1 of"):
        verdict(table, task="t", metric="dice")


def test_patients_are_the_units_of_their_cases() -> None:
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(30), rng.integers(1, 5, 30)).astype(object)
    values = rng.normal(size=30)[patient.astype(int)][None, None]
    units, _ = by_patient(values, patient, None)
    assert units.shape == (1, 1, 30)
    assert units.mean() == pytest.approx(values.mean())
    sums = np.bincount(patient.astype(int), (values - values.mean()).ravel())
    cluster_robust = 30 / 29 * (sums**2).sum() / len(patient) ** 2
    assert units.var(ddof=1) / 30 == pytest.approx(cluster_robust)
