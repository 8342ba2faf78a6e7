"""Rankings against the published FOMO25 leaderboard, SciPy's tests and brute force."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scaling.laws.verdicts.case_rankings import rank_cases, tiers
from scaling.laws.verdicts.rankings import (
    RankedMetric,
    better_than,
    metrics_of,
    rank,
    rank_differences,
    ranks,
)

# FOMO25 method track: team, ranks published on the challenge's site and in the paper's second
# version (arXiv 2604.11679), metrics
FOMO25 = """FOMO2JOMO,2.7,2.3,0.782,0.095,0.071,0.651,10.96
Dolphins_creators,4.8,4.3,0.684,0.261,0.232,0.448,12.67
TUKE,5.2,4.8,0.75,0.046,0.043,0.602,11.96
MaastrichtU-CDS,5.2,4.7,0.688,0.181,0.126,0.599,16.17
FARM,5.3,,0.715,0.148,0.113,0.531,13.41
DKFZ_MIC,5.8,,0.569,0.171,0.155,0.557,13.31
MIPLAB,6.0,5.3,0.473,0.065,0.053,0.632,11.48
prenuvo,6.2,,0.649,0.064,0.047,0.626,12.53
fomo25_brain,6.8,,0.76,0.006,0.005,0.409,14.85
ashash,7.2,,0.789,0.003,0.004,0.37,17.62
biopet,10.8,,0.44,0.005,0.002,0.137,18.21"""
COLUMNS = ("team", "website", "paper", "t1_auroc", "t2_dice", "t2_nsd", "t3_corr", "t3_mae")


def _leaderboard() -> pd.DataFrame:
    rows = [line.split(",") for line in FOMO25.splitlines()]
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.assign(**{c: pd.to_numeric(table[c]) for c in COLUMNS[1:]})


def _rank(table: pd.DataFrame):
    return rank(table, "team", metrics_of(table))


def test_rank_fomo25_method_track_gives_the_published_ranks() -> None:
    table = _leaderboard()
    ours = _rank(table).table.set_index("model")["overall"]
    np.testing.assert_allclose(ours[table["team"]].round(1), table["website"])


def test_rank_fomo25_without_the_withdrawn_team_gives_the_papers_ranks() -> None:
    table = _leaderboard()
    ours = _rank(table[table["team"] != "FARM"]).table.set_index("model")["overall"]
    published = table.dropna(subset="paper")
    np.testing.assert_allclose(ours[published["team"]].round(1), published["paper"])


def test_rank_missing_task_ranks_one_more_than_its_entries() -> None:
    table = pd.DataFrame(
        {"team": list("abc"), "x_auroc": [0.9, 0.8, np.nan], "y_dice": [np.nan, 0.2, np.nan]}
    )
    result = _rank(table).table.set_index("model")
    assert result["x"].to_dict() == {"a": 1, "b": 2, "c": 3}
    assert result["y"].to_dict() == {"a": 2, "b": 1, "c": 2}


def test_better_than_fomo25_supervised_baseline_counts_models() -> None:
    control = pd.DataFrame(
        [{"team": "supervised", "t1_auroc": 0.5791, "t2_dice": 0.089, "t3_mae": 16.79}]
    )
    table = pd.concat([_leaderboard().query("team != 'FARM'"), control], ignore_index=True)
    found = better_than(table, "team", metrics_of(table), ["supervised"]).set_index("metric")
    assert found["better"].to_dict() == {"t1_auroc": 7, "t2_dice": 4, "t3_mae": 8}
    assert (found["of"] == 10).all()


def test_rank_differences_interval_is_students() -> None:
    ranking = _rank(_leaderboard())
    groups = {team: "mae" if i % 2 else "hybrid" for i, team in enumerate(ranking.table["model"])}
    found = (
        rank_differences(ranking, groups, confidence=0.95)
        .query("task == 't1' and other_task == 't2' and objective == 'mae'")
        .iloc[0]
    )
    difference = (ranking.table["t1"] - ranking.table["t2"])[
        [groups[m] == "mae" for m in ranking.table["model"]]
    ]
    expected = stats.ttest_1samp(difference, 0).confidence_interval(0.95)
    assert (found["low"], found["high"]) == pytest.approx(tuple(expected))


def _cases(shift: float, models: int = 2, n: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    level = rng.normal(size=n)
    parts = [
        pd.DataFrame(
            {
                "model": f"m{i}",
                "task": "seg",
                "metric": "dice",
                "case": range(n),
                "value": level + shift * i + rng.normal(size=n),
            }
        )
        for i in range(models)
    ]
    return pd.concat(parts, ignore_index=True)


def test_rank_cases_two_models_permutation_p_is_scipys() -> None:
    cases = _cases(0.35)
    ranking = rank_cases(
        cases, [RankedMetric("seg", "dice", False)], resamples=500, permutations=20_000
    )
    values = [cases.loc[cases["model"] == m, "value"].to_numpy() for m in ("m1", "m0")]
    expected = stats.permutation_test(
        values,
        lambda a, b, axis: (a - b).mean(axis),
        permutation_type="samples",
        n_resamples=20_000,
        vectorized=True,
        rng=1,
    )
    assert ranking.table["model"].tolist() == ["m1", "m0"]
    assert ranking.p[0, 1] == pytest.approx(expected.pvalue, abs=0.01)
    assert ranking.p[0, 1] == pytest.approx(stats.ttest_rel(*values).pvalue, abs=0.02)


def test_rank_cases_difference_of_many_ranks_is_seen_and_its_absence_too() -> None:
    clear = rank_cases(
        _cases(1.0, models=6),
        [RankedMetric("seg", "dice", False)],
        resamples=200,
        permutations=2000,
    )
    assert clear.p[0, 5] == pytest.approx(1 / 2001)
    assert clear.table["tier"].iloc[-1] > 1
    same = rank_cases(
        _cases(0.0, models=6),
        [RankedMetric("seg", "dice", False)],
        resamples=200,
        permutations=2000,
    )
    assert same.table["tier"].tolist()[:3] == [1, 1, 1]
    assert (same.table["low"] <= same.table["overall"]).all()
    assert (same.table["overall"] <= same.table["high"]).all()


def test_tiers_open_where_a_model_differs_from_the_one_that_opened() -> None:
    p = np.ones((4, 4))
    p[0, 2] = p[0, 3] = p[2, 3] = 0.01
    assert tiers(p).tolist() == [1, 1, 2, 3]


def test_ranks_ties_are_averaged() -> None:
    metric, _, overall = ranks(np.array([[1.0], [1.0], [0.0]]), [False], np.zeros(1, int))
    assert metric.ravel().tolist() == [1.5, 1.5, 3]
    assert all(a <= b for a, b in pairwise(overall))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.iloc[:0], "no rows"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "more than once"),
        (lambda t: t.assign(t1_auroc="good"), "not a number"),
        (lambda t: t[["team"]], "No column is named TASK_METRIC"),
    ],
)
def test_rank_wrong_table_says_what_is_wrong(change, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _rank(change(_leaderboard()))


def test_rank_by_weights_and_last_place_follows_the_rule_by_hand() -> None:
    # Four models on seven tasks weighted as in FOMO26; a task not entered ranks fourth of four.
    weights = {"1": 0.1, "2": 0.25, "3": 0.1, "4": 0.25, "5": 0.1, "6": 0.1, "7": 0.1}
    places = {
        "a": (1, 2, 1, 4, 1, 1, 1),
        "b": (2, 1, 2, 1, 2, 2, 2),
        "c": (3, 3, None, 2, 3, 3, None),
        "d": (4, 4, None, None, 4, 4, None),
    }
    table = pd.DataFrame(
        [
            {"model": name}
            | {
                f"{k}_dice": np.nan if p is None else 1 - p / 10
                for k, p in zip(weights, row, strict=True)
            }
            for name, row in places.items()
        ]
    )
    # Task 4 was entered by b, c and a: their places there are 1, 2 and 3.
    expected = {
        "a": 0.1 * 1 + 0.25 * 2 + 0.1 * 1 + 0.25 * 3 + 0.1 * 3,
        "b": 0.1 * 2 + 0.25 * 1 + 0.1 * 2 + 0.25 * 1 + 0.1 * 6,
        "c": 0.1 * 3 + 0.25 * 3 + 0.1 * 4 + 0.25 * 2 + 0.1 * (3 + 3 + 4),
        "d": 0.1 * 4 + 0.25 * 4 + 0.1 * 4 + 0.25 * 4 + 0.1 * (4 + 4 + 4),
    }
    ranking = rank(table, "model", metrics_of(table), weights, "last").table.set_index("model")
    assert ranking["overall"].to_dict() == pytest.approx(expected)
    assert ranking.loc["c", "3"] == 4
    entrants = rank(table, "model", metrics_of(table), weights).table.set_index("model")
    assert entrants.loc["c", "3"] == 3
