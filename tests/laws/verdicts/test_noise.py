"""Noise by level against Welch's test and split-plot tables; trunks of seeds."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scaling.laws import verdict
from scaling.laws.verdicts.design_of_runs import fit_design
from scaling.laws.verdicts.effects import estimate_effect, half_width
from scaling.laws.verdicts.noise import LevelNoise, SplitPlotNoise, residual_maker
from scaling.laws.verdicts.scores import scores_on_axes
from scaling.laws.verdicts.trunks import with_runs_of_seeds


def test_noise_by_level_of_two_levels_is_welchs_t_test() -> None:
    rng = np.random.default_rng(0)
    small, large = rng.normal(0, 1, 4), rng.normal(0, 4, 6)
    level = np.repeat([0, 1], [4, 6])
    a = np.where(level == 1, 1 / 6, -1 / 4)
    noise = LevelNoise(residual_maker(np.eye(2)[level]), level)
    variance, df = noise.variance(np.concatenate([small, large])[:, None], a)
    welch = stats.ttest_ind(large, small, equal_var=False)
    assert (large.mean() - small.mean()) / np.sqrt(variance) == pytest.approx(welch.statistic)
    # Satterthwaite's figure, which is what Welch uses, is the smaller of the two.
    assert df == pytest.approx(welch.df)


def test_noise_of_trunks_of_one_corner_run_is_the_split_plot_variance() -> None:
    rng = np.random.default_rng(1)
    trunks, durations = 5, 3
    y = 2 * rng.normal(size=(trunks, 1)) + rng.normal(size=(trunks, durations))
    cell = np.tile(np.arange(durations), trunks)
    trunk = np.repeat(np.arange(trunks), durations)
    noise = SplitPlotNoise(cell, trunk, np.zeros(trunks * durations, np.int64))
    last = np.tile([0.0, 0.0, 1.0], trunks) / trunks
    variance, _ = noise.variance(y.ravel()[:, None], last)
    centred = y - y.mean(0)
    between = durations * (centred.mean(1) ** 2).sum() / (trunks - 1)
    within = ((centred - centred.mean(1, keepdims=True)) ** 2).sum() / (4 * 2)
    assert variance == pytest.approx((between + 2 * within) / durations / trunks)


def _seeds(seeds: int = 2, **columns: object) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        (size, duration, seed, 0.7 + 0.02 * level + 0.002 * rng.normal())
        for size in (1e6, 4e6, 16e6)
        for seed in range(seeds)
        for level in [rng.normal()]
        for duration in (1e4, 2e4, 4e4)
    ]
    table = pd.DataFrame(rows, columns=["size", "duration", "seed", "value"])
    return table.assign(**columns)


def test_durations_of_one_seed_are_read_as_one_trunk_unless_the_table_says_otherwise() -> None:
    table, notes = with_runs_of_seeds(_seeds())
    assert table.groupby("cluster").size().unique().tolist() == [3]
    assert table["run"].nunique() == len(table)
    assert "one trunk" in notes[0]
    independent, notes = with_runs_of_seeds(_seeds(), independent=True)
    assert "cluster" not in independent
    assert notes == []
    named = with_runs_of_seeds(_seeds(cluster=range(18)))
    assert named[0]["cluster"].nunique() == 18


def test_verdict_of_seeds_alone_is_that_with_trunks_named() -> None:
    table = _seeds()
    named = table.assign(cluster=table["size"].astype(str) + "/" + table["seed"].astype(str))
    alone = verdict(table, task="t", metric="dice")
    assert alone.effects == verdict(named, task="t", metric="dice").effects
    assert any("one trunk" in note for note in alone.notes)


def test_gain_between_corners_is_the_observed_one_and_the_plane_stands_beside_it() -> None:
    rng = np.random.default_rng(0)
    rows = [
        (size, duration, float(i + j >= 2) + 0.001 * rng.normal())
        for i, size in enumerate((1e6, 4e6, 16e6))
        for j, duration in enumerate((1e4, 2e4, 4e4))
        for _ in range(2)
    ]
    result = verdict(
        pd.DataFrame(rows, columns=["size", "duration", "value"]), task="t", metric="dice"
    )
    assert result.effects[0].estimate == pytest.approx(1.0, abs=0.01)
    assert result.additive is not None
    assert result.additive.estimate == pytest.approx(4 / 3, abs=0.01)


def test_hump_is_called_best_in_the_middle() -> None:
    rows = [
        (size, duration, seed, level + 0.001 * seed)
        for size, level in ((1e6, 0.70), (4e6, 0.78), (16e6, 0.79), (64e6, 0.70))
        for duration in (1e4, 2e4)
        for seed in range(3)
    ]
    table = pd.DataFrame(rows, columns=["size", "duration", "seed", "value"])
    result = verdict(table, task="t", metric="dice")
    assert [peak.level for peak in result.peaks] == [16e6]
    assert "Best at size 16M (+0.090 against the smallest); larger is worse" in result.sentence


def test_missing_corner_is_named_and_its_interval_allows_for_a_bias() -> None:
    table = _seeds(3)
    part = table[~((table["size"] == 16e6) & (table["duration"] == 4e4))]
    result = verdict(part, task="t", metric="dice")
    assert any("Never run: size 16M and duration 40k" in note for note in result.notes)
    data = scores_on_axes(part, "dice")
    design = fit_design(data)
    plain = estimate_effect(
        "budget", data, design.contrasts["budget"], design, 1.0, None, 0.01, 0.90
    )
    assert result.effects[0].high > plain.high


def test_half_width_with_a_bias_covers_like_a_folded_normal() -> None:
    assert half_width(1.0, np.inf, 0.95) == pytest.approx(1.96, abs=0.001)
    # Armstrong and Kolesar 2018, table of critical values: bias of one standard error.
    assert half_width(1.0, np.inf, 0.95, bias=1.0) == pytest.approx(2.65, abs=0.01)


def test_single_run_of_the_largest_budget_is_named() -> None:
    rng = np.random.default_rng(0)
    rows = [(1e6, s, 0.7 + 0.01 * rng.normal()) for s in range(5)]
    rows += [(size, 0, 0.7 + 0.01 * rng.normal()) for size in (4e6, 16e6, 64e6)]
    table = pd.DataFrame(rows, columns=["size", "seed", "value"])
    result = verdict(table, task="t", metric="dice")
    assert any("largest budget (size 64M) was run once" in note for note in result.notes)


def test_verdict_largest_of_two_sizes_run_once_is_undetermined_and_names_it() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for size, seeds, level in ((1e6, 5, 0.5), (4e6, 1, 0.6)):
        for seed in range(seeds):
            run = level + 0.01 * rng.normal()
            for case in range(20):
                value = run + 0.02 * rng.normal()
                rows.append((size, 1e4, f"{size}/{seed}", case, value))
    table = pd.DataFrame(rows, columns=["size", "duration", "run", "case", "value"])
    judged = verdict(table, task="lesion", metric="dice", smallest_effect=0.02)
    assert judged.decision == "undetermined"
    assert any("size 4M) was run once" in note for note in judged.notes)
