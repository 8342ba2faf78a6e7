"""What is said beyond the runs: of a law that goes on, of one that breaks, and of tables that
carry no curve."""

import json

import numpy as np
import pandas as pd

from scaling.laws import outlook


def _law(size, duration):
    return 1.5 + 400 * size**-0.35 + 500 * duration**-0.30


def _runs(levels: int = 6) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    size, duration = (
        v.ravel()
        for v in np.meshgrid(
            np.geomspace(1e6, 1e8, 6)[:levels], np.geomspace(1e8, 1e10, 6), indexing="ij"
        )
    )
    value = _law(size, duration) * np.exp(0.005 * rng.normal(size=len(size)))
    return pd.DataFrame(
        {"size": size, "duration": duration, "value": value, "trunk": np.arange(len(size))}
    )


def test_outlook_of_a_law_that_goes_on_covers_ten_times_the_budget() -> None:
    found = outlook(_runs(), "loss", None, lower_is_better=True)
    assert found is not None
    assert [gate.axis for gate in found.gates] == ["size", "duration"]
    mean, low, high = found.tenfold
    assert low <= _law(1e8 * 10**0.5, 1e10 * 10**0.5) <= high
    assert low < mean < high
    assert found.sentences[0].startswith(
        "At ten times the budget (size 3.16e+08 and duration 3.16e+10) loss is foretold"
    )
    assert found.frontier.exponent_low < 0.30 / 0.65 < found.frontier.exponent_high
    json.dumps(found.to_dict(), allow_nan=False)


def test_outlook_of_a_law_that_breaks_says_nothing_of_more() -> None:
    runs = _runs()
    runs.loc[runs["size"] == runs["size"].max(), "value"] = 6.0
    found = outlook(runs, "loss", None, lower_is_better=True)
    assert found.tenfold is None
    assert found.sentences[0].startswith(
        "Nothing is said of ten times the budget: the largest size could not"
    )


def test_outlook_three_sizes_are_too_few_to_look_further() -> None:
    found = outlook(_runs(levels=3), "loss", None, lower_is_better=True)
    assert found.tenfold is None
    assert (
        found.sentences[0]
        == "Nothing is said of ten times the budget: size has too few levels to test it on (four "
        "at least)."
    )


def test_outlook_along_one_axis_has_no_frontier() -> None:
    runs = _runs()
    found = outlook(
        runs[runs["duration"] == runs["duration"].max()], "loss", None, lower_is_better=True
    )
    assert found.curve.x_names == ("size",)
    assert found.frontier is None
    assert found.tenfold is not None


def test_outlook_without_three_levels_or_a_fitting_metric_is_none() -> None:
    runs = _runs()
    assert (
        outlook(
            runs[runs["size"].isin(np.unique(runs["size"])[:2]) & (runs["duration"] == 1e8)],
            "loss",
            None,
            True,
        )
        is None
    )
    assert outlook(runs, "gain", None, lower_is_better=False) is None
