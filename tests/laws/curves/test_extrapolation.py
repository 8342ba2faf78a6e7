"""Extrapolation of curves of known law, of published curves, and of tables that carry none."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scaling.laws.curves.extrapolation import extrapolate, scatter

REFS = os.environ.get("SCALING_LAWS_REFS", "")


def _curves(noise: float = 0.005) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    x = np.geomspace(1e6, 2e8, 60)
    parts = [
        pd.DataFrame(
            {
                "name": name,
                "x": x,
                "error": (0.2 + (x / 1e6) ** -a) * np.exp(noise * rng.normal(size=60)),
            }
        )
        for name, a in (("steep", 0.5), ("slow", 0.2))
    ]
    return pd.concat(parts, ignore_index=True).assign(train=lambda t: (t["x"] <= 1e8).astype(int))


def test_extrapolate_known_law_is_foretold_within_its_interval() -> None:
    result = extrapolate(_curves(), "x", "error", "train", ["name"])
    assert result.rmsle < 0.01
    assert result.coverage > 0.85
    assert result.curves["converged"].all()
    assert set(result.curves["name"]) == {"steep", "slow"}


def test_extrapolate_three_points_still_gives_an_interval() -> None:
    table = pd.DataFrame(
        {"x": [1.0, 2, 4, 8], "error": [0.8, 0.7, 0.6, 0.5], "train": [1, 1, 1, 0]}
    )
    result = extrapolate(table, "x", "error", "train")
    assert (result.points["low"] < result.points["high"]).all()
    assert result.rmsle < 0.1


def test_scatter_of_a_line_with_noise_is_the_noise() -> None:
    z = np.linspace(0, 5, 4000) + 0.1 * np.random.default_rng(0).normal(size=4000)
    assert scatter(z) == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="error"), "no column error"),
        (lambda t: t.assign(error=0.0), "not positive"),
        (lambda t: t.assign(train=2), "must hold 1"),
        (lambda t: t.assign(train=1), "0 rows to predict"),
    ],
)
def test_extrapolate_wrong_table_says_what_is_wrong(change, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        extrapolate(change(_curves()), "x", "error", "train", ["name"])


@pytest.mark.skipif(not REFS, reason="SCALING_LAWS_REFS names no folder of published tables")
def test_extrapolate_published_curves_beats_their_authors() -> None:
    table = pd.read_csv(Path(REFS) / "learning_curves" / "curves.csv")
    result = extrapolate(table, "Seen Examples", "Loss", "Training", ["Domain", "Task", "Model"])
    mean = result.curves.groupby("Domain")["rmsle"].mean()
    assert mean["IC"] <= 0.026  # the authors' M4: 0.0353
    assert mean["LM"] <= 0.0010  # 0.00094
    assert 0.8 <= result.curves.loc[result.curves["Domain"] == "IC", "coverage"].mean() <= 0.97
