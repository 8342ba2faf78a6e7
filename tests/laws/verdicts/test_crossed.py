"""The crossed variance against exact designs, SciPy's t test and scikit-learn's AUROC."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from scaling.laws.verdicts.crossed import contrast_variance, residual_strata
from scaling.laws.verdicts.scores import auroc_values, pearson_values, placement_values, scores


def test_contrast_one_case_two_groups_is_students_t_test() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=(9, 1, 1))
    X = np.array([[1.0, 0.0]] * 4 + [[0.0, 1.0]] * 5)
    a = np.array([-0.25] * 4 + [0.2] * 5)
    parts = contrast_variance(y, a, residual_strata(X, np.arange(9)), np.zeros(1, int))
    expected = stats.ttest_ind(y[4:, 0, 0], y[:4, 0, 0])
    assert parts.df == pytest.approx(7)
    assert a @ y[:, 0, 0] / np.sqrt(parts.variance) == pytest.approx(expected.statistic)


def test_contrast_fixed_pair_of_runs_is_the_paired_t_test() -> None:
    rng = np.random.default_rng(1)
    y = rng.normal(size=(2, 1, 30)) + rng.normal(size=30)
    parts = contrast_variance(
        y, np.array([-1.0, 1.0]), residual_strata(np.eye(2), np.arange(2)), np.zeros(30, int)
    )
    expected = stats.ttest_rel(y[1, 0], y[0, 0])
    assert parts.df == pytest.approx(29)
    assert (y[1] - y[0]).mean() / np.sqrt(parts.variance) == pytest.approx(expected.statistic)


def test_contrast_shared_trunks_follow_the_split_plot_table() -> None:
    rng = np.random.default_rng(2)
    size, trunk, duration = (
        v.ravel() for v in np.meshgrid(range(2), range(4), range(3), indexing="ij")
    )
    y = rng.normal(size=(2, 4))[size, trunk] + 0.3 * rng.normal(size=24)
    X = np.stack([np.ones(24), size == 1, duration == 1, duration == 2], 1).astype(float)
    strata = residual_strata(X, 4 * size + trunk)
    by_size = np.where(size == 1, 1, -1) / 12
    parts = contrast_variance(y[:, None, None], by_size, strata, np.zeros(1, int))
    means = y.reshape(2, 4, 3).mean(2)
    expected = stats.ttest_ind(means[1], means[0])
    assert parts.df == pytest.approx(6)
    assert by_size @ y / np.sqrt(parts.variance) == pytest.approx(expected.statistic)
    by_duration = ((duration == 2).astype(float) - (duration == 0)) / 8
    assert contrast_variance(
        y[:, None, None], by_duration, strata, np.zeros(1, int)
    ).run_df == pytest.approx(14)


@pytest.mark.parametrize("draws", [1, 4])
def test_contrast_crossed_factors_variance_is_unbiased(draws: int) -> None:
    rng = np.random.default_rng(3)
    a = np.array([-0.5, -0.5, 0.5, 0.5])
    strata = residual_strata(np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]]), np.arange(4))
    estimates, variances = [], []
    for _ in range(3000):
        y = 0.3 * rng.normal(size=(4, 1, 1)) + np.array([0, 0, 1, 1])[:, None, None] * rng.normal(
            size=(1, 1, 12)
        )
        y = (
            y
            + np.array([0, 0, 1, 1])[:, None, None] * rng.normal(size=(1, draws, 1)) * (draws > 1)
            + rng.normal(size=(4, draws, 12))
        )
        estimates.append(a @ y.mean((1, 2)))
        variances.append(contrast_variance(y, a, strata, np.zeros(12, int)).variance)
    # floors at nought make it a little conservative, never the other way round
    assert 0.93 * np.var(estimates) < np.mean(variances) < 1.25 * np.var(estimates)


def test_auroc_values_mean_and_variance_are_delongs() -> None:
    rng = np.random.default_rng(4)
    label = rng.random(60) < 0.3
    score = np.round(rng.normal(size=60) + label, 1)
    values = auroc_values(label, score)
    _, placement = placement_values(label, score)
    assert values.mean() == pytest.approx(roc_auc_score(label, score))
    delong = (
        placement[label].var(ddof=1) / label.sum() + placement[~label].var(ddof=1) / (~label).sum()
    )
    parts = contrast_variance(
        values[None, None], np.ones(1), residual_strata(np.ones((1, 1)), np.zeros(1)), label * 1
    )
    assert parts.variance == pytest.approx(delong)


def test_pearson_values_mean_is_r_and_variance_is_its_jackknife() -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(size=300)
    y = x + rng.normal(size=300)
    values = pearson_values(x, y)
    r = stats.pearsonr(x, y).statistic
    left_out = np.array(
        [stats.pearsonr(np.delete(x, i), np.delete(y, i)).statistic for i in range(300)]
    )
    assert values.mean() == pytest.approx(r)
    assert values.var() / 300 == pytest.approx(
        299 / 300 * ((left_out - left_out.mean()) ** 2).sum(), rel=0.05
    )


def _table() -> pd.DataFrame:
    grid = [(r, d, c) for r in "ab" for d in range(2) for c in range(3)]
    table = pd.DataFrame(grid, columns=["run", "draw", "case"])
    return table.assign(
        size=np.where(table.run == "a", 1.0, 2.0), duration=1.0, value=np.arange(12.0)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="value"), "no column value"),
        (lambda t: t.assign(value=t.value.where(t.value != 3)), "Column value holds 1 missing"),
        (lambda t: pd.concat([t, t.iloc[:2]]), "2 rows repeat a run, draw and case"),
        (lambda t: t.iloc[:0], "no rows"),
        (lambda t: t.assign(size=np.arange(12.0)), "size changes within one run"),
        (lambda t: t[(t.run == "a") == (t.case == 0)], "No test case is scored for every run"),
        (lambda t: t[(t.run == "a") == (t.draw == 0)], "No draw is shared"),
    ],
)
def test_scores_wrong_table_says_what_is_wrong(change, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scores(change(_table()), "dice")


def test_scores_incomplete_cases_are_left_out_with_a_note() -> None:
    data = scores(_table().iloc[:-1], "dice")
    assert data.values.shape == (2, 2, 2)
    assert "1 of 3 cases" in data.notes[0]
