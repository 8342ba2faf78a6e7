"""The histogram control of regression, against NumPy and scikit-learn."""

from dataclasses import replace

import numpy as np
import pandas as pd
from sklearn.linear_model import RidgeCV

from scaling.data.tasks import Cases, TaskArrays, few_shot_draws
from scaling.study.config import BACKGROUND, Classical, Source, Task
from scaling.transfer.classical import bin_edges, classical, histograms
from scaling.transfer.collect import described
from scaling.transfer.predictions import Predicted

SHAPE = (12, 12, 12)
TASK = Task("age", "regression", ("t1", "t2"), Source("a"), (Source("b"),), shots=(20,), draws=2)
RECIPE = Classical(smoothing_mm=8.0)


def heads(n: int, seed: int) -> Cases:
    """Heads whose share of bright voxels grows with age, at places that say nothing; the first
    case lacks its second sequence.
    """
    rng = np.random.default_rng(seed)
    ages = rng.uniform(20, 80, n)
    images = np.full((n, 2, *SHAPE), BACKGROUND, np.float16)
    for image, age in zip(images, ages, strict=True):
        inside = rng.normal(0, 0.1, (2, 10, 10, 10))
        inside[rng.random(inside.shape) < age / 100] += 1
        image[:, 1:-1, 1:-1, 1:-1] = inside
    present = np.ones((n, 2), bool)
    present[0, 1] = False
    images[0, 1] = 0
    ids = [f"{seed}/{case}" for case in range(n)]
    return Cases(ids, ["site"] * n, images, present, ages.astype(np.float32))


ARRAYS = TaskArrays(heads(40, 0), heads(30, 1), np.ones(30, bool), ())


def of_histogram(task: Task) -> list[Predicted]:
    found = classical(ARRAYS, task, RECIPE, 4.0)
    return [one for one in found if one.protocol == "histogram"]


def test_histogram_shares_equal_numpy_and_leave_air_out() -> None:
    edges = bin_edges(ARRAYS.train, 8)
    shares = histograms(ARRAYS.test, edges)
    inside = ARRAYS.test.images[3, 1, 1:-1, 1:-1, 1:-1].astype(np.float32)
    inside = inside[inside != BACKGROUND]
    ends = np.concatenate([[-np.inf], edges[1], [np.inf]])
    expected = np.histogram(inside, ends)[0] / inside.size
    np.testing.assert_allclose(shares[3, 0, 8:], expected)
    assert np.isnan(shares[0, 0, 8:]).all()
    np.testing.assert_allclose(shares[0, 0, :8].sum(), 1)


def test_histogram_control_equals_scikit_learn_on_the_same_bins() -> None:
    edges = bin_edges(ARRAYS.train, RECIPE.bins)
    train, test = (histograms(cases, edges)[:, 0] for cases in (ARRAYS.train, ARRAYS.test))
    draws = few_shot_draws(TASK, ARRAYS.train, 20)
    for one, chosen in zip(of_histogram(TASK), draws, strict=True):
        average = np.nanmean(train[chosen], axis=0)
        shots, tested = (np.where(np.isnan(x), average, x) for x in (train[chosen], test))
        scale = np.sqrt(shots.var(axis=0).sum())
        centred = (shots - shots.mean(0)) / scale
        model = RidgeCV(alphas=RECIPE.penalties).fit(centred, ARRAYS.train.labels[chosen])
        expected = model.predict((tested - shots.mean(0)) / scale)
        np.testing.assert_allclose(one.outputs, expected, rtol=1e-4)


def test_histogram_control_reads_an_age_that_no_place_shows() -> None:
    ages = ARRAYS.test.labels
    for one in of_histogram(TASK):
        assert np.abs(one.outputs - ages).mean() < 5 < np.abs(ages - ages.mean()).mean()


def test_histogram_is_left_out_of_a_classification() -> None:
    labels = [(cases.labels > 50).astype(np.float32) for cases in (ARRAYS.train, ARRAYS.test)]
    arrays = replace(
        ARRAYS,
        train=replace(ARRAYS.train, labels=labels[0]),
        test=replace(ARRAYS.test, labels=labels[1]),
    )
    found = classical(arrays, replace(TASK, kind="classification"), RECIPE, 4.0)
    assert {one.protocol for one in found} == {"ridge"}


def test_collected_histogram_is_an_arm_beside_the_other_control() -> None:
    rows = pd.DataFrame({"protocol": ["ridge", "histogram"], "value": [9.9, 8.5]})
    table = described([rows], [{"run": "classical", "arm": "classical"}])
    assert table["arm"].tolist() == ["classical", "histogram"]
