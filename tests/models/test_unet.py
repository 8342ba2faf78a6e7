"""Convolutional backbones against NumPy, against published sizes, and against what they may and may
not see.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.ndimage import correlate

from scaling.models.backbone import build_backbone, build_encoder
from scaling.models.compute import Compute
from scaling.models.heads import UNetHead
from scaling.models.patches import patchify
from scaling.models.unet import CnnDecoder, InstanceNorm, ResidualBlock
from scaling.study.config import Remat, ResEnc, UNet
from scaling.study.ladder import resolve_decoder, resolve_encoder

SHAPE = (16, 24, 16)
SMALL = {"unet": UNet(levels=3), "resenc": ResEnc(levels=3)}


@pytest.mark.parametrize(
    ("family", "size", "encoder", "total"),
    # FOMO25's baselines, nnU-Net's ResEnc-L and the 345 M encoder, in millions, with skips.
    [
        (UNet(), "b", 14.13, 20.23),
        (UNet(), "xl", 56.53, 80.90),
        (UNet(skips=False), "xl", 56.53, 71.5),
        (ResEnc(), "l", 90.30, 102.35),
        (ResEnc(), "xl", 345.2, 391.73),
    ],
)
def test_rungs_have_the_sizes_of_the_field(
    family: UNet | ResEnc, size: str, encoder: float, total: float
) -> None:
    init = build_backbone(resolve_encoder(family, size), resolve_decoder(family), (96, 96, 96)).init
    made = jax.eval_shape(init, jax.random.key(0))
    count = {
        name: sum(leaf.size for leaf in jax.tree.leaves(part)) / 1e6 for name, part in made.items()
    }
    assert count["encoder"] == pytest.approx(encoder, rel=0.01)
    assert sum(count.values()) == pytest.approx(total, rel=0.01)


def test_instance_norm_gives_each_channel_zero_mean_and_unit_variance() -> None:
    x = np.random.default_rng(0).normal(3, 2, size=(2, 4, 4, 4, 5)).astype(np.float32)
    expected = (x - x.mean((1, 2, 3), keepdims=True)) / np.sqrt(
        x.var((1, 2, 3), keepdims=True) + 1e-5
    )
    np.testing.assert_allclose(InstanceNorm(5)(jnp.asarray(x)), expected, atol=1e-5)


def test_residual_block_adds_the_projected_mean_to_two_convolutions() -> None:
    block = ResidualBlock(2, 3, 2, Compute(), nnx.Rngs(0))
    x = np.random.default_rng(0).normal(size=(1, 4, 6, 4, 2)).astype(np.float32)

    def norm(y: np.ndarray) -> np.ndarray:
        return (y - y.mean((0, 1, 2))) / np.sqrt(y.var((0, 1, 2)) + 1e-5)

    def conv(y: np.ndarray, kernel: nnx.Param, stride: int) -> np.ndarray:
        k = np.asarray(kernel[...])
        channels, features = map(range, k.shape[3:])
        full = np.stack(
            [
                sum(correlate(y[..., c], k[..., c, f], mode="constant") for c in channels)
                for f in features
            ],
            -1,
        )
        return norm(full[::stride, ::stride, ::stride])

    def leaky(y: np.ndarray) -> np.ndarray:
        return np.where(y > 0, y, 0.01 * y)

    assert block.project is not None
    branch = conv(leaky(conv(x[0], block.conv_in.kernel, 2)), block.conv_out.kernel, 1)
    cubes = np.mean(
        [x[0, i::2, j::2, k::2] for i in range(2) for j in range(2) for k in range(2)], axis=0
    )
    expected = leaky(branch + norm(cubes @ np.asarray(block.project.kernel[...])))
    np.testing.assert_allclose(block(jnp.asarray(x))[0], expected, atol=1e-4)


@pytest.mark.parametrize("kind", SMALL)
def test_pyramid_halves_with_each_level_and_its_last_are_the_tokens(kind: str) -> None:
    encoder = resolve_encoder(SMALL[kind], "xxs")
    functions = build_encoder(encoder)
    parameters = jax.jit(functions.init)(jax.random.key(0))
    volume = jnp.asarray(np.random.default_rng(0).normal(size=(2, *SHAPE)), jnp.float32)
    pyramid = jax.jit(functions.features)(parameters, volume)
    assert [level.shape for level in pyramid] == [
        (2, 16, 24, 16, 4),
        (2, 8, 12, 8, 8),
        (2, 4, 6, 4, 16),
    ]
    np.testing.assert_array_equal(
        jax.jit(functions.encode)(parameters, volume), pyramid[-1].reshape(2, -1, 16)
    )


@pytest.mark.parametrize(("kind", "skips"), [("unet", True), ("resenc", False)])
def test_reconstruction_sees_nothing_of_hidden_patches(kind: str, skips: bool) -> None:
    encoder, decoder = (
        resolve_encoder(SMALL[kind], "xxs"),
        resolve_decoder(type(SMALL[kind])(levels=3, skips=skips)),
    )
    backbone = build_backbone(encoder, decoder, SHAPE)
    parameters = jax.jit(backbone.init)(jax.random.key(0))
    patches = patchify(
        jnp.asarray(np.random.default_rng(0).normal(size=(1, *SHAPE)), jnp.float32), encoder.patch
    )
    kept = jnp.asarray([[0, 5, 7]])
    hidden = np.setdiff1d(np.arange(patches.shape[1]), kept)

    @jax.jit
    def predict(patches: jax.Array) -> jax.Array:
        return backbone.decode(
            parameters["decoder"],
            backbone.encode_visible(parameters["encoder"], patches, kept),
            kept,
        )

    predicted = predict(patches)
    assert predicted.shape == patches.shape
    np.testing.assert_array_equal(predict(patches.at[:, hidden].set(9.0)), predicted)
    assert np.abs(predict(patches.at[:, 5].set(9.0)) - predicted).max() > 1e-3


def test_decoder_without_skips_sees_the_bottleneck_alone() -> None:
    features = (4, 8, 16)
    rng = np.random.default_rng(0)
    pyramid = tuple(
        jnp.asarray(rng.normal(size=(1, 8 >> i, 8 >> i, 8 >> i, c)), jnp.float32)
        for i, c in enumerate(features)
    )
    other = (*(level + 1 for level in pyramid[:-1]), pyramid[-1])
    bare, skipping = (
        CnnDecoder(features, False, nnx.Rngs(0), Compute()),
        CnnDecoder(features, True, nnx.Rngs(0), Compute()),
    )
    np.testing.assert_array_equal(bare(pyramid), bare(other))
    assert np.abs(skipping(pyramid) - skipping(other)).max() > 1e-3


@pytest.mark.parametrize("remat", ["blocks", "dots"])
def test_rematerialisation_changes_memory_not_gradients(remat: Remat) -> None:
    encoder = resolve_encoder(ResEnc(levels=2), "s")
    volume = jnp.asarray(np.random.default_rng(0).normal(size=(1, 8, 8, 8)), jnp.float32)
    parameters = jax.jit(build_encoder(encoder).init)(jax.random.key(0))

    def gradients(remat: Remat) -> dict:
        encode = build_encoder(encoder, Compute(remat=remat)).encode
        return jax.jit(jax.grad(lambda p: jnp.square(encode(p, volume)[..., 0]).sum()))(parameters)

    for a, b in zip(
        jax.tree.leaves(gradients("none")), jax.tree.leaves(gradients(remat)), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-3 * max(1e-3, float(np.abs(b).max())))


def test_segmentation_head_reads_all_levels_of_the_present_sequences() -> None:
    encoder = resolve_encoder(SMALL["unet"], "xxs")
    head = UNetHead(encoder, 2, nnx.Rngs(0), Compute())  # type: ignore[arg-type]
    functions = build_encoder(encoder)
    volumes = jnp.asarray(np.random.default_rng(0).normal(size=(4, *SHAPE)), jnp.float32)
    pyramid = functions.features(jax.jit(functions.init)(jax.random.key(0)), volumes)
    features = tuple(level.reshape(2, 2, *level.shape[1:]) for level in pyramid)
    logits = head(features, jnp.ones((2, 2), bool))
    assert logits.shape == (2, *SHAPE)
    np.testing.assert_allclose(jax.nn.sigmoid(logits), 0.047, atol=0.01)
    alone = head(features, jnp.asarray([[True, False]] * 2))
    spoilt = tuple(level.at[:, 1].set(9.0) for level in features)
    np.testing.assert_array_equal(head(spoilt, jnp.asarray([[True, False]] * 2)), alone)
