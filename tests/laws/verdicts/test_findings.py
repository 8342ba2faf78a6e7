"""The findings of FOMO25 on studies whose truth is known, and on the published leaderboards that
the page shows beside them."""

import numpy as np
import pandas as pd
import pytest

from scaling.laws import find
from scaling.laws.verdicts.findings import against_controls
from scaling.report.findings import published_rows
from scaling.study.challenge import load_challenge


def table(gain: dict[str, float], metric: str = "dice", seed: int = 0) -> pd.DataFrame:
    """Per-case scores of four runs of each objective and of a control, on the same 3 draws of 40
    cases; `gain` is the truth."""
    rng = np.random.default_rng(seed)
    cases, draws = rng.normal(0, 0.1, 40), rng.normal(0, 0.02, 3)
    rows = []
    for arm, objective, above in [
        ("scratch", "none", 0.0),
        *(("pretrained", name, value) for name, value in gain.items()),
    ]:
        for run in range(4):
            value = (
                0.5
                + above
                + rng.normal(0, 0.005)
                + cases
                + draws[:, None]
                + rng.normal(0, 0.02, (3, 40))
            )
            rows += [
                {
                    "arm": arm,
                    "objective": objective,
                    "run": f"{objective}-{run}",
                    "draw": k,
                    "case": j,
                    "value": value[k, j],
                }
                for k in range(3)
                for j in range(40)
            ]
    return pd.DataFrame(rows)


def test_pretraining_against_its_control_is_the_difference_of_means_and_finds_the_truth() -> None:
    cases = table({"mae": 0.1, "contrastive": 0.0})
    found = {one.objective: one for one in against_controls(cases, "lesions", "dice", 0.01)}
    assert set(found) == {"all", "mae", "contrastive"}
    means = cases.groupby(["arm", "objective", "run"])["value"].mean()
    for name in ("mae", "contrastive"):
        expected = means["pretrained", name].mean() - means["scratch"].mean()
        assert found[name].comparison.effect.estimate == pytest.approx(expected)
        assert found[name].better == int(
            (means["pretrained", name] > means["scratch"].mean()).sum()
        )
    assert found["mae"].comparison.effect.decision == "improves"
    assert found["contrastive"].comparison.effect.decision not in (
        "improves",
        "improves, slightly",
        "harms",
    )
    assert found["all"].runs == 8


def test_objectives_that_win_different_tasks_differ_in_their_ranks() -> None:
    segmentation, other = (
        table({"mae": 0.1, "contrastive": 0.0}),
        table({"mae": 0.0, "contrastive": 0.1}, seed=1),
    )
    found = find(
        {("lesions", "dice"): segmentation, ("more lesions", "dice"): other}, {"dice": 0.01}
    )
    assert found.problems == ()
    assert found.ranking is not None
    assert len(found.ranking.table) == 12
    by = found.differences.set_index("objective")
    assert by.loc["mae", "high"] < 0 < by.loc["contrastive", "low"]
    for (_, _), scores in found.scores.items():
        assert set(scores.index) == set(found.runs.index)


def test_a_task_without_controls_is_ranked_all_the_same_and_what_cannot_be_said_is_told() -> None:
    alone = table({"mae": 0.1}).query("arm == 'pretrained'")
    found = find({("lesions", "dice"): alone}, {"dice": 0.01})
    assert found.against == ()
    assert found.ranking is not None
    broken = table({"mae": 0.1}).assign(value=np.nan)
    with pytest.raises(ValueError, match="missing"):
        find({("lesions", "dice"): broken}, {"dice": 0.01})


def test_published_leaderboards_are_shown_beside_the_challenges_own_tasks_only() -> None:
    board = pd.read_csv(load_challenge("fomo25").leaderboard, comment="#")
    headings, rows = published_rows(board)
    assert len(rows) == len(board) == 24
    assert rows[0][:3] == ["FOMO2JOMO", "method", "2.7"]
    assert len(headings) == len(rows[0])
    assert published_rows(board[:0]) == ([], [])
