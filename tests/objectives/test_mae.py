"""Masked autoencoding and the losses of the tasks against plain NumPy and scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import log_loss

from scaling.models.patches import patchify, unpatchify
from scaling.objectives.build import build_objective
from scaling.objectives.mae import build_masking, random_masking, reconstruction_loss
from scaling.study.config import Mae, Pretrain, ViT
from scaling.study.ladder import resolve_decoder, resolve_encoder
from scaling.transfer.losses import classification_loss, regression_loss, segmentation_loss

CROP = (16, 24, 16)


def volumes(batch: int = 3) -> jnp.ndarray:
    return jnp.asarray(np.random.default_rng(0).normal(size=(batch, *CROP)), jnp.float32)


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("loss_on", ["hidden", "all"])
def test_reconstruction_loss_is_the_mean_over_hidden_or_all_patches(
    normalise: bool, loss_on: str
) -> None:
    rng = np.random.default_rng(0)
    predicted, patches = rng.normal(size=(2, 2, 6, 20)).astype(np.float32)
    mask = np.array([[1, 1, 0, 1, 0, 1], [0, 1, 1, 1, 1, 0]], np.float32)
    errors = []
    for b, n in zip(*np.nonzero(mask if loss_on == "hidden" else np.ones_like(mask)), strict=True):
        target = patches[b, n]
        if normalise:
            target = (target - target.mean()) / np.sqrt(target.var() + 1e-6)
        errors.append(np.mean((predicted[b, n] - target) ** 2))
    config = Mae(normalise_targets=normalise, loss_on=loss_on)  # type: ignore[arg-type]
    found = reconstruction_loss(
        jnp.asarray(predicted), jnp.asarray(patches), jnp.asarray(mask), config
    )
    assert float(found) == pytest.approx(np.mean(errors), rel=1e-5)


def test_masking_hides_the_same_number_everywhere_and_all_patches_equally_often() -> None:
    kept, mask = random_masking(jax.random.key(0), 4000, np.arange(12), 3)
    assert (np.asarray(mask).sum(1) == 9).all()
    assert all(
        set(np.flatnonzero(row == 0)) == set(places)
        for row, places in zip(np.asarray(mask), np.asarray(kept), strict=True)
    )
    seen = 1 - np.asarray(mask).mean(0)
    assert np.abs(seen - 0.25).max() < 4 * np.sqrt(0.25 * 0.75 / 4000)


def test_block_masking_keeps_whole_cubes_but_for_one() -> None:
    grid, config = (4, 5, 6), Mae(mask_ratio=0.6, block=2)
    kept, mask = build_masking(config, (32, 40, 48), 8)(jax.random.key(0), 50)
    assert kept.shape == (50, 48)
    for hidden in np.asarray(mask, bool).reshape(50, *grid):
        shares = [
            hidden[d : d + 2, h : h + 2, w : w + 2].mean()
            for d in (0, 2)
            for h in (0, 2, 4)
            for w in (0, 2, 4)
        ]
        assert sum(0 < share < 1 for share in shares) <= 1


def test_hidden_voxels_never_reach_the_encoder() -> None:
    objective = build_objective(
        Mae(), resolve_encoder(ViT(), "xxs"), resolve_decoder(ViT()), Pretrain(crop=CROP)
    )
    parameters, x, key = jax.jit(objective.init)(jax.random.key(0)), volumes(1), jax.random.key(1)
    reconstruct = jax.jit(objective.reconstruct)
    _, _, filled = reconstruct(parameters, x, key)
    _, mask = random_masking(key, 1, np.arange(12), 3)
    hidden = np.asarray(mask, bool)[..., None]
    replaced = jnp.where(hidden, 1000 + 7 * patchify(x, 8), patchify(x, 8))
    # Hidden patches, replaced by a scaled copy, differ in the reconstruction by that scale and
    # nothing else.
    _, _, other = reconstruct(parameters, unpatchify(replaced, CROP, 8), key)
    expected = np.where(
        hidden, 1000 + 7 * np.asarray(patchify(filled, 8)), np.asarray(patchify(x, 8))
    )
    np.testing.assert_allclose(patchify(other, 8), expected, rtol=1e-3)


def test_loss_of_an_untrained_model_is_about_one_and_falls() -> None:
    objective = build_objective(
        Mae(), resolve_encoder(ViT(), "xxs"), resolve_decoder(ViT()), Pretrain(crop=CROP)
    )
    parameters, key = jax.jit(objective.init)(jax.random.key(0)), jax.random.key(1)
    loss = jax.jit(
        jax.value_and_grad(lambda p: objective.loss(p, volumes(), key, jnp.zeros((), int))[0])
    )
    start, gradients = loss(parameters)
    stepped = jax.tree.map(lambda p, g: p - 0.05 * g, parameters, gradients)
    assert 0.8 < start < 3.0
    assert loss(stepped)[0] < start


def test_bfloat16_compute_keeps_float32_parameters_and_nearly_the_same_loss() -> None:
    shapes = resolve_encoder(ViT(), "xxs"), resolve_decoder(ViT())
    half = build_objective(Mae(), *shapes, Pretrain(crop=CROP, dtype="bfloat16"))
    full = build_objective(Mae(), *shapes, Pretrain(crop=CROP))
    parameters = jax.jit(half.init)(jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(parameters)} == {jnp.dtype("float32")}
    losses = [
        float(jax.jit(o.loss)(parameters, volumes(), jax.random.key(1), 0)[0]) for o in (half, full)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert losses[0] != losses[1]


def test_task_losses_match_their_references() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=6), np.array([0, 1, 1, 0, 1, 0.0])
    found = classification_loss(jnp.asarray(logits), jnp.asarray(labels))
    assert float(found.mean()) == pytest.approx(
        log_loss(labels, 1 / (1 + np.exp(-logits))), rel=1e-5
    )
    np.testing.assert_allclose(
        regression_loss(jnp.asarray(logits), jnp.asarray(labels)), (logits - labels) ** 2, rtol=1e-5
    )
    voxels, masks = rng.normal(size=(2, 4, 4, 4)), (rng.random((2, 4, 4, 4)) > 0.7).astype(float)
    probability = 1 / (1 + np.exp(-voxels))
    for b in range(2):
        dice = (2 * (probability[b] * masks[b]).sum() + 1) / (
            probability[b].sum() + masks[b].sum() + 1
        )
        expected = 1 - dice + log_loss(masks[b].ravel(), probability[b].ravel())
        assert float(
            segmentation_loss(jnp.asarray(voxels), jnp.asarray(masks))[b]
        ) == pytest.approx(expected, rel=1e-5)
