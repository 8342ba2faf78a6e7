"""Verdicts on synthetic studies whose truth is known."""

import json
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy.stats import ttest_rel

from scaling.laws import compare, verdict
from scaling.laws.verdicts.effects import decide
from scaling.laws.verdicts.simulate import Grid, Noise, simulate_study


def _cases(effect: float, seeds: int = 3, noise: float = 0.004, **grid) -> pd.DataFrame:
    """A long table of one simulated study; `effect`: gain from smallest to largest budget."""
    shape = Grid((1e6, 4e6, 16e6), (1e4, 2e4, 4e4), seeds, cases=40, **grid)
    study = simulate_study(
        shape, Noise(run=noise, case_effect=0.01, run_case=0.03), effect, np.random.default_rng(7)
    )
    R, K, J = study.values.shape
    run, draw, case = (v.ravel() for v in np.indices((R, K, J)))
    table = study.runs.iloc[run].reset_index(drop=True)
    return table.assign(draw=draw, case=case, value=0.6 + study.values.ravel())


@pytest.mark.parametrize(
    ("effect", "decision"),
    [
        (0.10, "improves"),
        (0.02, "improves, slightly"),
        (0.0, "no worthwhile improvement"),
        (-0.1, "harms"),
    ],
)
def test_verdict_known_effect_is_decided_rightly(effect: float, decision: str) -> None:
    result = verdict(_cases(effect), task="t", metric="dice", smallest_effect=0.025)
    assert result.decision == decision
    assert result.effects[0].low < effect < result.effects[0].high
    assert result.sentence.startswith("t: ")
    json.dumps(result.to_dict(), allow_nan=False)


def test_verdict_small_noisy_study_is_undetermined_and_says_what_would_settle_it() -> None:
    result = verdict(
        _cases(0.02, seeds=1, noise=0.05), task="t", metric="dice", smallest_effect=0.025
    )
    assert result.decision == "undetermined"
    assert result.effects[0].seeds_needed > 1
    assert "seeds per cell" in result.sentence


def test_verdict_objectives_as_blocks_shift_the_level_but_not_the_effect() -> None:
    cases = pd.concat(
        [
            _cases(0.1).assign(block="mae"),
            _cases(0.1).assign(block="hybrid", value=lambda t: t.value + 0.2),
        ],
        ignore_index=True,
    )
    cases["run"], cases["cluster"] = (
        cases["run"].astype(str) + cases["block"],
        cases["cluster"] + cases["block"],
    )
    cases = cases[
        ~((cases["block"] == "hybrid") & (cases["size"] == 4e6))
    ]  # an unbalanced design: the levels must be told apart
    result = verdict(cases, task="t", metric="dice", smallest_effect=0.025)
    means = cases.groupby(["run", "size", "duration", "block"], as_index=False)["value"].mean()
    ols = smf.ols("value ~ C(size) + C(duration) + C(block)", means).fit().params
    assert result.effect("size").estimate == pytest.approx(ols["C(size)[T.16000000.0]"])
    assert result.effect("duration").estimate == pytest.approx(ols["C(duration)[T.40000.0]"])
    assert "Averaged over hybrid, mae." in result.notes
    pooled = verdict(cases.drop(columns="block"), task="t", metric="dice", smallest_effect=0.025)
    assert result.effect("size").se < pooled.effect("size").se


def test_verdict_lower_is_better_and_relative_turn_sign_and_unit() -> None:
    cases = _cases(0.05).assign(value=lambda t: 1 - t.value)
    result = verdict(cases, task="age", metric="mae", smallest_effect=0.05)
    assert result.relative
    assert result.lower_is_better
    assert result.effects[0].estimate == pytest.approx(0.05 / 0.4, rel=0.2)


def test_verdict_one_trunk_per_size_leaves_size_open_but_judges_duration() -> None:
    result = verdict(_cases(0.05, seeds=1, shared_trunks=True), task="t", metric="dice")
    size, duration = result.effect("size"), result.effect("duration")
    assert size.df == pytest.approx(1, abs=0.5)
    assert duration.high - duration.low < size.high - size.low


def test_verdict_two_sizes_one_seed_gives_no_interval_for_size() -> None:
    cases = _cases(0.05, seeds=1)
    cases = cases[(cases["size"] != 4e6) & (cases["duration"] == 1e4)]
    result = verdict(cases, task="t", metric="dice")
    assert result.decision == "undetermined"
    assert result.effects[0].low is None
    assert "other seeds" in result.sentence
    json.dumps(result.to_dict(), allow_nan=False)


def test_verdict_constant_metric_says_so() -> None:
    result = verdict(_cases(0.0).assign(value=0.0), task="t", metric="dice")
    assert result.decision == "no worthwhile improvement"
    assert any("does not move" in note for note in result.notes)


def test_verdict_bare_table_is_judged_with_notes_on_what_is_lost() -> None:
    bare = (
        _cases(0.1)
        .groupby(["run", "size", "duration"], as_index=False)["value"]
        .mean()
        .drop(columns="run")
    )
    result = verdict(bare, task="t", metric="dice")
    assert result.decision == "improves"
    assert any("No case column" in note for note in result.notes)
    assert any("No run column" in note for note in result.notes)


def test_verdict_one_cell_only_is_refused() -> None:
    cases = _cases(0.0)
    with pytest.raises(ValueError, match="one size"):
        verdict(cases[(cases["size"] == 1e6) & (cases["duration"] == 1e4)], task="t", metric="dice")


def test_verdict_auroc_matches_scores_made_by_hand() -> None:
    rng = np.random.default_rng(0)
    cases = _cases(0.0).drop(columns="value")
    label = np.arange(40) % 2
    shift = np.log(cases["size"] / 1e6) * 0.3
    noise = rng.normal(size=40)[cases["case"]] + 0.3 * rng.normal(size=len(cases))
    cases = cases.assign(
        label=label[cases["case"]], prediction=label[cases["case"]] * (0.5 + shift) + noise
    )
    result = verdict(cases, task="infarct", metric="auroc")
    assert result.effect("size").estimate > 0.05
    assert result.effect("size").low > 0


def test_compare_paired_arms_on_shared_cases_beats_their_scatter() -> None:
    rng = np.random.default_rng(1)
    level = rng.normal(10, 4, 50)
    rows = [
        (arm, arm, draw, case, level[case] - 0.5 * (arm == "pretrained") + 0.2 * rng.normal())
        for arm in ("pretrained", "scratch")
        for draw in range(3)
        for case in range(50)
    ]
    table = pd.DataFrame(rows, columns=["arm", "run", "draw", "case", "value"])
    result = compare(
        table, "pretrained", "scratch", metric="mae", relative=False, smallest_effect=0.2
    )
    assert result.effect.estimate == pytest.approx(0.5, abs=0.1)
    assert result.effect.decision == "improves"
    assert "One run per arm" in result.notes[-1]
    with pytest.raises(ValueError, match="No rows of arm supervised"):
        compare(table, "pretrained", "supervised", metric="mae")


def by_network(levels: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """Scores that differ by arm and network only: {arm: {network: score}}, on 4 cases."""
    return pd.DataFrame(
        [
            {
                "arm": arm,
                "network": network,
                "run": f"{arm} {network}",
                "case": case,
                "value": value,
            }
            for arm, scores in levels.items()
            for network, value in scores.items()
            for case in range(4)
        ]
    )


def test_arms_are_compared_network_by_network_as_a_paired_t_test_does() -> None:
    rng = np.random.default_rng(0)
    without = {f"net{i}": float(i) for i in range(5)}
    gained = {name: value + rng.normal(0.3, 0.1) for name, value in without.items()}
    table = by_network({"pretrained": gained, "random": without | {"another": 100.0}})
    effect = compare(table, "pretrained", "random", metric="dice").effect
    paired = ttest_rel(list(gained.values()), list(without.values()))
    interval = paired.confidence_interval(0.90)
    assert effect.estimate == pytest.approx(np.mean(list(gained.values())) - 2.0)
    assert (effect.low, effect.high) == pytest.approx((interval.low, interval.high))
    alone = compare(table[table["network"] != "net3"], "pretrained", "random", metric="dice").effect
    assert alone.df == pytest.approx(3)


def test_control_without_the_networks_of_an_arm_is_compared_with_all_of_it() -> None:
    table = by_network({"pretrained": {"a": 0.4, "b": 0.6, "c": 0.5}, "classical": {"": 0.3}})
    result = compare(table, "pretrained", "classical", metric="dice")
    assert result.effect.estimate == pytest.approx(0.2)
    assert (result.runs_a, result.runs_b) == (3, 1)
    part = by_network({"pretrained": {"a": 0.4, "b": 0.6}, "random": {"a": 0.3}})
    assert compare(part, "pretrained", "random", metric="dice").effect.estimate == pytest.approx(
        0.2
    )


def test_sizes_that_differ_between_blocks_only_are_no_budget() -> None:
    rng = np.random.default_rng(0)
    cases = pd.DataFrame(
        [
            {
                "block": block,
                "size": size,
                "duration": duration,
                "run": f"{block} {duration} {seed}",
                "case": case,
            }
            | {"value": level + 0.1 * (duration == 2) + 0.01 * rng.normal()}
            for block, size, level in (("small", 1, 0.1), ("large", 8, 0.6))
            for duration in (1, 2)
            for seed in range(3)
            for case in range(20)
        ]
    )
    assert verdict(cases, task="t", metric="dice").effect("budget").estimate == pytest.approx(
        0.1, abs=0.02
    )
    with pytest.raises(
        ValueError, match="Task t was run at one size and one duration of each block"
    ):
        verdict(cases[cases["duration"] == 1], task="t", metric="dice")


@pytest.mark.parametrize(
    ("low", "high", "probability", "decision"),
    [
        (0.03, 0.09, 0.99, "improves"),
        (0.001, 0.09, 0.90, "improves, slightly"),
        (-0.01, 0.01, 0.0, "no worthwhile improvement"),
        (-0.09, -0.01, 0.0, "harms"),
        (-0.01, 0.05, 0.3, "undetermined"),
        (None, None, None, "undetermined"),
    ],
)
def test_decide_follows_the_stated_rule(low, high, probability, decision: str) -> None:
    assert decide(0.0, low, high, probability, 0.02) == decision


def test_blocks_with_ladders_of_their_own_are_not_taken_for_sizes() -> None:
    """A large family that is better by 0.3 at every size, within which size does nothing, is no
    gain from size."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "block": block,
            "size": size,
            "duration": duration,
            "run": f"{block}-{size}-{duration}",
            "case": case,
        }
        | {"value": 0.3 * (block == "large") + 0.01 * case + rng.normal(0, 0.003)}
        for block, sizes in (("small", (1e3,)), ("large", (1e6, 2e6)))
        for size in sizes
        for duration in (100, 200)
        for case in range(30)
    ]
    found = verdict(pd.DataFrame(rows), task="t", metric="dice", smallest_effect=0.05)
    assert {effect.name for effect in found.effects} == {"budget", "size", "duration"}
    assert all(abs(effect.estimate) < 0.02 for effect in found.effects)
    assert not any("cannot be told apart" in note for note in found.notes)
    assert found.trend_p is None or found.trend_p > 0.05
