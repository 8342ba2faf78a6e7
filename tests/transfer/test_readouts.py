"""Finetuning, probes and the classical control: against closed forms, one by one, and on tasks that
can be learnt.
"""

from dataclasses import replace

import jax
import numpy as np
import pytest

from scaling.data.tasks import Cases, TaskArrays, few_shot_draws
from scaling.models.backbone import build_encoder
from scaling.study.config import Classical, Finetune, Probe, Source, Task, UNet, ViT
from scaling.study.ladder import resolve_encoder
from scaling.transfer.classical import classical
from scaling.transfer.features import absent_as_average, cell_means, extremes, whiten
from scaling.transfer.finetune import finetune, supervised
from scaling.transfer.finetune_program import row_mesh
from scaling.transfer.metrics import auroc, dice, mae
from scaling.transfer.predictions import Predicted
from scaling.transfer.probe import probe
from scaling.transfer.readouts import (
    neighbour_masks,
    neighbour_scores,
    ridge_masks,
    ridge_scores,
)
from scaling.transfer.rows import Row, best_rates, label_scaling, row_weights

SHAPE = (16, 16, 16)
ENCODER = resolve_encoder(ViT(), "xxs", "standard")
PARAMETERS = jax.jit(build_encoder(ENCODER).init)(jax.random.key(0))
RECIPE = Finetune(steps=60, batch=8, learning_rates=(3e-3,), augment="none")
TASK = Task(
    "learnable", "classification", ("t1", "t2"), Source("a"), (Source("b"),), shots=(12,), draws=2
)


def learnable(kind: str, n: int, seed: int) -> Cases:
    """Noise, in which a corner of one sequence is bright: whether (classification), how much
    (regression), where (segmentation).
    """
    rng = np.random.default_rng(seed)
    images = rng.normal(0, 0.2, size=(n, 2, *SHAPE))
    strength = rng.uniform(0, 1, n) if kind == "regression" else 3.0 * (np.arange(n) % 2)
    if kind == "segmentation":
        masks = np.zeros((n, *SHAPE), np.uint8)
        for mask, image in zip(masks, images, strict=True):
            corner = tuple(slice(8 * int(k), 8 * int(k) + 8) for k in rng.integers(0, 2, 3))
            mask[corner] = 1
            image[0][corner] += 3
        labels = masks
    else:
        images[:, 1, :8, :8, :8] += strength[:, None, None, None]
        labels = (20 + 45 * strength if kind == "regression" else strength > 0).astype(np.float32)
    return Cases(
        [f"{seed}/{i}" for i in range(n)],
        ["site"] * n,
        images.astype(np.float16),
        np.ones((n, 2), bool),
        labels,
    )


def arrays(kind: str) -> TaskArrays:
    return TaskArrays(learnable(kind, 24, 0), learnable(kind, 20, 1), np.ones(20, bool), ())


def quality(kind: str, one: Predicted) -> float:
    labels = arrays(kind).test.labels
    if kind == "segmentation":
        return float(np.mean([dice(a > 0, b) for a, b in zip(labels, one.outputs, strict=True)]))
    return auroc(labels, one.outputs) if kind == "classification" else -mae(labels, one.outputs)


# A regression that predicts the mean of its shots errs by about 12. Frozen random features make
# little of 12 shots.
ENOUGH = {"classification": 0.9, "segmentation": 0.6, "regression": -9.0}
ENOUGH_FROZEN = {"classification": 0.9, "segmentation": 0.3, "regression": -11.0}


@pytest.mark.parametrize("kind", ENOUGH)
def test_finetuning_learns_what_can_be_learnt(kind: str) -> None:
    for one in finetune(ENCODER, PARAMETERS, arrays(kind), replace(TASK, kind=kind), RECIPE):
        assert quality(kind, one) > ENOUGH[kind], one.draw


def test_segmentation_by_windows_learns_what_can_be_learnt() -> None:
    recipe = replace(RECIPE, window=(16, 16, 8))
    for one in finetune(
        ENCODER,
        PARAMETERS,
        arrays("segmentation"),
        replace(TASK, kind="segmentation", draws=1),
        recipe,
    ):
        assert quality("segmentation", one) > ENOUGH["segmentation"]


@pytest.mark.parametrize("kind", ENOUGH)
def test_probe_and_classical_control_learn_what_can_be_learnt(kind: str) -> None:
    task = replace(TASK, kind=kind)
    found = [
        *probe(ENCODER, PARAMETERS, arrays(kind), task, Probe()),
        *classical(arrays(kind), task, Classical(), 4.0),
    ]
    histogram = ["histogram"] * 2 if kind == "regression" else []
    protocols = ["probe", "neighbours"] * 2 + ["ridge"] * 2 + histogram
    assert [one.protocol for one in found] == protocols
    for one in found:
        assert quality(kind, one) > ENOUGH_FROZEN[kind], one.protocol


def test_draws_finetuned_together_equal_draws_finetuned_alone() -> None:
    both = list(
        finetune(
            ENCODER, PARAMETERS, arrays("regression"), replace(TASK, kind="regression"), RECIPE
        )
    )
    alone = list(
        finetune(
            ENCODER,
            PARAMETERS,
            arrays("regression"),
            replace(TASK, kind="regression", draws=1),
            RECIPE,
        )
    )
    np.testing.assert_allclose(both[0].outputs, alone[0].outputs, rtol=2e-3)
    assert np.abs(both[0].outputs - both[1].outputs).max() > 0.1


def test_finetuning_never_sees_cases_outside_its_draw() -> None:
    task = replace(TASK, kind="regression", draws=1)
    data = arrays("regression")
    hidden = np.setdiff1d(np.arange(24), few_shot_draws(task, data.train, 12)[0])
    spoilt = replace(data.train, images=data.train.images.copy(), labels=data.train.labels.copy())
    spoilt.images[hidden], spoilt.labels[hidden] = 50.0, 1e4
    clean = next(finetune(ENCODER, PARAMETERS, data, task, RECIPE))
    other = next(finetune(ENCODER, PARAMETERS, replace(data, train=spoilt), task, RECIPE))
    np.testing.assert_array_equal(clean.outputs, other.outputs)


def test_rate_is_chosen_on_held_out_shots() -> None:
    data, task = arrays("regression"), replace(TASK, kind="regression")
    recipe = replace(RECIPE, learning_rates=(1e-7, 3e-3), tuning=(0,))
    chosen = {(one.protocol, one.rate) for one in finetune(ENCODER, PARAMETERS, data, task, recipe)}
    assert chosen == {("finetune", 3e-3), ("finetune, 0 trials", 1e-7)}


def test_a_budget_takes_the_best_of_its_own_trials_for_each_number_of_shots() -> None:
    rows = [Row(4, 0, np.arange(4)), Row(4, 1, np.arange(4)), Row(8, 0, np.arange(8))]
    losses = np.array([[1.0, 3.0, 9.0], [2.0, np.nan, 8.0], [1.0, 1.0, 10.0]])
    for budget, expected in ((0, [0.1, 0.1, 0.1]), (2, [0.1, 0.1, 0.2]), (3, [0.3, 0.3, 0.2])):
        np.testing.assert_array_equal(best_rates(losses, rows, (0.1, 0.2, 0.3), budget), expected)


@pytest.mark.parametrize("family", [ViT(), pytest.param(UNet(levels=3), marks=pytest.mark.slow)])
def test_rows_of_several_shots_on_many_devices_equal_each_alone_on_one(
    family: ViT | UNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = resolve_encoder(family, "xxs", "standard")
    parameters = jax.jit(build_encoder(encoder).init)(jax.random.key(1))
    task, recipe = replace(TASK, kind="regression", shots=(8, 12)), replace(RECIPE, steps=5)
    together = list(finetune(encoder, parameters, arrays("regression"), task, recipe))
    assert row_mesh(4).size == 4
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
    jax.clear_caches()
    alone = [
        one
        for shots in (8, 12)
        for one in finetune(
            encoder, parameters, arrays("regression"), replace(task, shots=(shots,)), recipe
        )
    ]
    assert [(one.shots, one.draw) for one in together] == [(one.shots, one.draw) for one in alone]
    for ours, theirs in zip(together, alone, strict=True):
        np.testing.assert_allclose(ours.outputs, theirs.outputs, rtol=1e-3)


def test_supervised_controls_learn_from_all_cases_of_their_own_sites_only() -> None:
    data = replace(arrays("regression"), inside=learnable("regression", 16, 2))
    task, short = replace(TASK, kind="regression"), replace(RECIPE, steps=20)
    found = list(supervised(ENCODER, PARAMETERS, data, task, short))
    assert [(one.protocol, one.shots) for one in found] == [
        ("supervised out of domain", 24)
    ] * 2 + [("supervised in domain", 16)] * 2
    spoilt = replace(data.inside, labels=data.inside.labels + 1000)
    other = list(supervised(ENCODER, PARAMETERS, replace(data, inside=spoilt), task, short))
    np.testing.assert_array_equal(found[0].outputs, other[0].outputs)
    np.testing.assert_allclose(found[2].outputs + 1000, other[2].outputs, atol=1)


def test_divergence_is_told_with_its_rate() -> None:
    recipe = replace(RECIPE, learning_rates=(1e30,), clip_norm=1e9)
    with pytest.raises(
        FloatingPointError, match=r"task 'learnable' with 12 shots diverged at learning rate 1e\+30"
    ):
        list(
            finetune(
                ENCODER, PARAMETERS, arrays("regression"), replace(TASK, kind="regression"), recipe
            )
        )


def test_weights_and_scaling_belong_to_their_draw() -> None:
    rows = [Row(4, 0, np.array([0, 3, 5, 7])), Row(4, 1, np.array([2, 3, 4, 9]))]
    weights = row_weights(rows, 10, [np.array([3])] * 2)
    assert [set(np.flatnonzero(row)) for row in row_weights(rows, 10)] == [
        {0, 3, 5, 7},
        {2, 3, 4, 9},
    ]
    assert [set(np.flatnonzero(row)) for row in weights] == [{0, 5, 7}, {2, 4, 9}]
    labels = np.arange(10.0)
    np.testing.assert_allclose(
        label_scaling(labels, weights, True),
        [[4, np.std([0, 5, 7])], [5, np.std([2, 4, 9])]],
        rtol=1e-6,
    )
    np.testing.assert_array_equal(label_scaling(labels, weights, False), [[0, 1], [0, 1]])


def test_ridge_readout_takes_the_penalty_with_the_lowest_leave_one_out_error() -> None:
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(15, 6)), rng.normal(size=(4, 6))
    labels = train @ rng.normal(size=6) + rng.normal(0, 2, 15)
    penalties = (0.01, 0.3, 10.0)
    scale = np.sqrt(np.mean(np.sum((train - train.mean(0)) ** 2, axis=1)))
    scaled, there = ((x - train.mean(0)) / scale for x in (train, test))

    def ridge(x: np.ndarray, y: np.ndarray, penalty: float, at: np.ndarray) -> np.ndarray:
        centred = x - x.mean(0)
        weights = np.linalg.solve(
            centred.T @ centred + penalty * np.eye(6), centred.T @ (y - y.mean())
        )
        return (at - x.mean(0)) @ weights + y.mean()

    errors = []
    for penalty in penalties:
        left_out = [
            ridge(np.delete(scaled, i, 0), np.delete(labels, i), penalty, scaled[i : i + 1])[0]
            for i in range(15)
        ]
        errors.append(np.mean((labels - left_out) ** 2))
    expected = ridge(scaled, labels, penalties[int(np.argmin(errors))], there)
    np.testing.assert_allclose(
        ridge_scores([(train, test)], labels, penalties), expected, rtol=1e-6
    )


def test_whitened_features_are_as_far_apart_as_mahalanobis_has_it() -> None:
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(4, 4)) * [10, 1, 0.1, 0.01]
    train, test = (rng.normal(size=(n, 50, 4)) @ mixing.T + [5, 0, 0, 0] for n in (8, 3))
    known, asked = whiten(train, test, 0.0)
    np.testing.assert_allclose(np.cov(known.reshape(-1, 4).T), np.eye(4), atol=1e-6)
    covariance = np.cov(train.reshape(-1, 4).T)
    for shrinkage in (0.0, 0.1):
        known, asked = whiten(train, test, shrinkage)
        away = test[0] - train[0]
        inverse = np.linalg.inv(covariance + shrinkage * np.trace(covariance) / 4 * np.eye(4))
        expected = np.einsum("ni,ij,nj->n", away, inverse, away)
        np.testing.assert_allclose(np.square(asked[0] - known[0]).sum(-1), expected, rtol=1e-5)


@pytest.mark.parametrize("where", ["everywhere", "somewhere"])
def test_readout_finds_what_is_everywhere_a_little_and_what_is_somewhere_strange(
    where: str,
) -> None:
    rng = np.random.default_rng(0)
    tokens, labels = rng.normal(size=(120, 27, 6)), rng.integers(0, 2, 120)
    places = rng.integers(0, 27, 120)
    if where == "everywhere":
        tokens[..., 2] += 0.5 * labels[:, None]
    else:  # with a counterweight: the mean over places says nothing
        tokens[np.arange(120), places, 2] += 6 * labels
        tokens[..., 2] -= 6 / 27 * labels[:, None]
    train, test = tokens[:60], tokens[60:]
    pools = tuple(
        (pool(train), pool(test)) for pool in (lambda x: cell_means(x, (3, 3, 3), 1, 1), extremes)
    )
    means, strange = (
        auroc(labels[60:], ridge_scores([pair], labels[:60], (0.1, 1.0))) for pair in pools
    )
    found = auroc(labels[60:], ridge_scores(pools, labels[:60], (0.1, 1.0)))
    assert found == (means if where == "everywhere" else strange) > 0.85
    assert (strange if where == "everywhere" else means) < found - 0.1


def test_absent_sequences_read_as_the_average_case() -> None:
    train, test = np.array([[[1.0, 2.0]], [[3.0, np.nan]]]), np.array([[[np.nan, 7.0]]])
    known, asked = absent_as_average(train, test)
    np.testing.assert_array_equal(known, [[[1, 2]], [[3, 2]]])
    np.testing.assert_array_equal(asked, [[[2, 7]]])
    known, asked = absent_as_average(np.full((2, 1, 1), np.nan), np.ones((1, 1, 1)))
    np.testing.assert_array_equal(known, np.zeros((2, 1, 1)))
    np.testing.assert_array_equal(asked, [[[1]]])


def test_neighbours_are_weighted_by_their_cosine() -> None:
    rng = np.random.default_rng(0)
    train, test, labels = rng.normal(size=(9, 4)), rng.normal(size=(3, 4)), rng.normal(size=9)
    known, asked = train - train.mean(0), test - train.mean(0)
    cosine = (
        (asked @ known.T) / np.linalg.norm(asked, axis=1)[:, None] / np.linalg.norm(known, axis=1)
    )
    expected = []
    for row in cosine:
        near = np.argsort(-row)[:4]
        expected.append(np.average(labels[near], weights=np.exp(row[near] / 0.07)))
    np.testing.assert_allclose(neighbour_scores(train, labels, test, 4), expected, rtol=1e-6)


def test_neighbours_find_masks_and_a_threshold_without_their_own_case() -> None:
    rng = np.random.default_rng(0)
    train = rng.normal(size=(6, 10, 4))
    masks = np.repeat((train[..., :1] > 0.5).astype(np.float32), 2, axis=-1)
    scores, threshold = neighbour_masks(train, masks, train, 1)
    np.testing.assert_array_equal(scores > 0.5, masks > 0)
    noise = rng.permutation(masks.reshape(-1, 2)).reshape(masks.shape)
    assert neighbour_masks(train, noise, train, 5)[1] < threshold or threshold == 0.05


def test_mask_readout_takes_the_threshold_with_the_best_dice() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(5, 8, 3)).astype(np.float32)
    masks = (features[..., :1] + 0.3 * rng.normal(size=(5, 8, 2)) > 0.8).astype(np.float32)
    scores, threshold = ridge_masks(features, masks, features, 1.0)
    candidates = np.linspace(0.05, 0.95, 19)
    values = [dice(masks > 0, scores > t) for t in candidates]
    assert threshold == pytest.approx(candidates[int(np.argmax(values))])
