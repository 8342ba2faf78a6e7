"""Metrics of the tasks against SciPy and brute force, and what they mean where they do not
exist.
"""

import math

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from scaling.data.tasks import Cases, TaskArrays
from scaling.study.config import Source, Task
from scaling.transfer import metrics
from scaling.transfer.predictions import Predicted, score, tabulate


def test_auroc_is_the_mann_whitney_statistic() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 40).astype(float), rng.normal(size=40).round(1)
    u = mannwhitneyu(scores[labels == 1], scores[labels == 0]).statistic
    assert metrics.auroc(labels, scores) == pytest.approx(
        u / ((labels == 1).sum() * (labels == 0).sum())
    )
    assert math.isnan(metrics.auroc(np.ones(5), scores[:5]))


def test_pearson_and_mae_match_numpy() -> None:
    rng = np.random.default_rng(0)
    ages = rng.uniform(20, 80, 30)
    predicted = ages + rng.normal(0, 8, 30)
    assert metrics.pearson(ages, predicted) == pytest.approx(np.corrcoef(ages, predicted)[0, 1])
    assert metrics.mae(ages, predicted) == pytest.approx(np.abs(ages - predicted).mean())
    assert math.isnan(metrics.pearson(ages, np.full(30, 50.0)))


def test_dice_counts_voxels_and_empty_masks_agree() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 6, 6, 6)) > 0.6
    assert metrics.dice(a, b) == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
    empty = np.zeros_like(a)
    assert (
        metrics.dice(empty, empty),
        metrics.dice(empty, a),
        metrics.nsd(empty, empty, 1.0, 1.0),
        metrics.nsd(a, empty, 1.0, 1.0),
    ) == (
        1,
        0,
        1,
        0,
    )


def test_surface_within_tolerance_is_that_of_two_spheres() -> None:
    index, radius, shift, spacing = np.indices((44, 44, 44)), 14, 6, 0.5
    a, b = (
        ((index - np.array([x, 22, 22])[:, None, None, None]) ** 2).sum(0) < radius**2
        for x in (18, 18 + shift)
    )
    points = np.random.default_rng(0).normal(size=(20000, 3))
    points *= radius / np.linalg.norm(points, axis=1, keepdims=True)
    distance = spacing * np.abs(np.linalg.norm(points - [shift, 0, 0], axis=1) - radius)
    # Distances between voxelised surfaces are known to a voxel.
    for tolerance in (0.5, 1.0, 1.5, 2.0):
        found = metrics.nsd(a, b, spacing, tolerance)
        assert (distance <= tolerance).mean() <= found <= (distance <= tolerance + spacing).mean()
    assert metrics.nsd(a, b, spacing, 3.3) == 1.0
    assert metrics.nsd(a, a, spacing, 0.1) == 1.0


def test_tables_have_a_row_per_case_and_scores_per_site() -> None:
    rng = np.random.default_rng(0)
    masks = (rng.random((4, 8, 8, 8)) > 0.7).astype(np.uint8)
    cases = Cases(
        [f"s/{i}" for i in range(4)],
        ["a", "a", "b", "b"],
        np.zeros((4, 1, 8, 8, 8), np.float16),
        np.ones((4, 1), bool),
        masks,
    )
    arrays = TaskArrays(cases, cases, np.array([True, True, False, False]), ())
    task = Task("lesions", "segmentation", ("t1",), Source("a"), (Source("b"),), shots=(2,))
    outputs = rng.random((4, 8, 8, 8)) > 0.5
    table = tabulate(
        [Predicted("finetune", 2, draw, 1e-3, outputs) for draw in (0, 1)],
        arrays,
        task,
        2.0,
        2.0,
    )
    assert len(table) == 8
    np.testing.assert_allclose(table["label"][:4], masks.sum((1, 2, 3)) * 0.008)
    expected = [
        2 * (m.astype(bool) & o).sum() / (m.sum() + o.sum())
        for m, o in zip(masks, outputs, strict=True)
    ]
    np.testing.assert_allclose(table["dice"][:4], expected)
    scores = score(table, task).set_index(["draw", "site", "metric"])
    assert scores.loc[(0, "b", "dice"), "value"] == pytest.approx(np.mean(expected[2:]))
    assert set(scores.loc[(1, "a")]["domain"]) == {"in"}
    assert set(scores["cases"]) == {2}
