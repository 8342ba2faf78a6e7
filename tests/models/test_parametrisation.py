"""Width-transferable hyperparameters: what moves, moves as much at every width (coordinate check of
Yang et al. 2022, appendix D.1).
"""

from collections.abc import Callable
from functools import cache, lru_cache, partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from scaling.models.backbone import build_backbone, build_encoder
from scaling.models.compute import Compute
from scaling.models.parametrisation import multipliers
from scaling.models.patches import patchify, sincos_positions
from scaling.models.vit import VitEncoder
from scaling.objectives.build import build_objective
from scaling.study.config import Mae, Pretrain, Shape3, UNet, ViT
from scaling.study.ladder import (
    CnnDecoderShape,
    CnnShape,
    Decoder,
    Encoder,
    VitDecoderShape,
    VitShape,
    resolve_decoder,
    resolve_encoder,
)

BASE, RATE, STEPS = 64, 2e-3, 10
CROPS = {"vit": (16, 16, 16), "unet": (8, 8, 8), "resenc": (8, 8, 8)}
CROP = CROPS["vit"]
WIDENING = {"vit": (1, 8), "unet": (1, 4), "resenc": (1, 4)}
EVERY_KIND = pytest.mark.parametrize("kind", CROPS)


def shapes(widening: int, parametrisation: str) -> tuple[VitShape, VitDecoderShape]:
    """An encoder of two blocks at a multiple of the base width, and a decoder that stays as it
    is.
    """
    width = BASE * widening
    base = width if parametrisation == "standard" else BASE
    return VitShape("vit", 8, width, 2, width // 64, 4 * width, base, 2), VitDecoderShape(
        "vit", 64, 1, 1, 256
    )


def cnn_shapes(
    kind: Literal["unet", "resenc"], widening: int, parametrisation: str
) -> tuple[CnnShape, CnnDecoderShape]:
    """Two levels, the first of 8 channels times the widening, and a decoder without skips, which
    gets as wide.
    """
    width = 8 * widening
    blocks = {"unet": (1, 1), "resenc": (1, 2)}[kind]
    return CnnShape(
        kind, 4, (width, 2 * width), blocks, width if parametrisation == "standard" else 8
    ), CnnDecoderShape("cnn", False)


def activations(encoder: Encoder, parameters: dict, volumes: jax.Array) -> list[jax.Array]:
    """What each block of a ViT's encoder gives, each level of a CNN's."""
    if isinstance(encoder, CnnShape):
        return list(build_encoder(encoder).features(parameters, volumes))
    made = nnx.merge(
        nnx.split(nnx.eval_shape(lambda: VitEncoder(encoder, nnx.Rngs(0), Compute())))[0],
        parameters,
    )
    graph, stacked = nnx.split(made.stack.blocks)
    x, found = made.embedding(patchify(volumes, 8)) + sincos_positions(CROP, 8, encoder.width), []
    for layer in range(encoder.depth):
        x = nnx.merge(graph, jax.tree.map(lambda leaf, i=layer: leaf[i], stacked))(x)
        found.append(x)
    return found


def volumes(seed: int, crop: Shape3) -> jax.Array:
    """Noise on blobs of 4 voxels: [8, D, H, W]."""
    rng = np.random.default_rng(seed)
    blobs = (
        rng.normal(size=(8, *(side // 4 for side in crop))).repeat(4, 1).repeat(4, 2).repeat(4, 3)
    )
    return jnp.asarray(blobs + 0.3 * rng.normal(size=(8, *crop)), jnp.float32)


@cache
def coordinates(
    kind: Literal["vit", "unet", "resenc"], parametrisation: str
) -> tuple[np.ndarray, np.ndarray]:
    """Root mean squares of every block's activations after ten steps, and of their change by them:
    [widths, blocks] each.
    """
    crop, rows = CROPS[kind], []
    for widening in WIDENING[kind]:
        encoder, decoder = (
            shapes(widening, parametrisation)
            if kind == "vit"
            else cnn_shapes(kind, widening, parametrisation)
        )
        _, rates = multipliers(
            lambda shape, decoder=decoder: build_backbone(shape, decoder, crop).init, encoder
        )
        start = jax.jit(build_backbone(encoder, decoder, crop).init)(jax.random.key(0))
        before, after = train(encoder, decoder, crop)(start, rates)
        rows.append(
            [[rms(x) for x in after], [rms(x - y) for x, y in zip(after, before, strict=True)]]
        )
    sizes, changes = np.moveaxis(np.array(rows), 1, 0)
    return sizes, changes


@lru_cache
def train(
    encoder: Encoder, decoder: Decoder, crop: Shape3
) -> Callable[[dict, dict], tuple[list[jax.Array], list[jax.Array]]]:
    """From initial parameters and their rates to activations before and after ten steps of Adam."""
    objective = build_objective(Mae(), encoder, decoder, Pretrain(crop=crop))
    adam = optax.scale_by_adam(b2=0.95)
    batches = jnp.stack([volumes(seed, crop) for seed in range(STEPS)])

    @jax.jit
    def run(start: dict, rates: dict) -> tuple[list[jax.Array], list[jax.Array]]:
        def step(carry: tuple, batch: jax.Array) -> tuple[tuple, None]:
            parameters, moments, key = carry
            key, mask_key = jax.random.split(key)
            gradients = jax.grad(
                lambda p: objective.loss(p, batch, mask_key, jnp.zeros((), int))[0]
            )(parameters)
            direction, moments = adam.update(gradients, moments)
            return (
                jax.tree.map(lambda p, d, r: p - RATE * r * d, parameters, direction, rates),
                moments,
                key,
            ), None

        (end, _, _), _ = jax.lax.scan(step, (start, adam.init(start), jax.random.key(1)), batches)
        return activations(encoder, start["encoder"], batches[0]), activations(
            encoder, end["encoder"], batches[0]
        )

    return run


def rms(x: jax.Array) -> float:
    return float(jnp.sqrt(jnp.mean(jnp.square(x))))


def spread(values: np.ndarray) -> np.ndarray:
    """Largest over smallest of the widths, for every block."""
    return values.max(0) / values.min(0)


@EVERY_KIND
def test_activations_and_updates_are_as_large_at_every_width(
    kind: Literal["vit", "unet", "resenc"],
) -> None:
    sizes, changes = coordinates(kind, "mup")
    assert (spread(sizes) < 1.5).all(), sizes
    assert (spread(changes) < 1.5).all(), changes


@EVERY_KIND
def test_updates_grow_with_width_under_the_standard_parametrisation(
    kind: Literal["vit", "unet", "resenc"],
) -> None:
    assert (
        spread(coordinates(kind, "standard")[1]).max()
        > 1.4 * spread(coordinates(kind, "mup")[1]).max()
    )


def test_multipliers_follow_the_table_of_tensor_programs_v() -> None:
    encoder, decoder = shapes(4, "mup")
    starts, rates = multipliers(lambda shape: partial(raw_init, shape, decoder), encoder)
    hidden, out = rates["encoder"]["stack"]["blocks"]["qkv"], rates["decoder"]["projection"]
    assert (hidden["kernel"], hidden["bias"], out["kernel"], out["bias"]) == (1 / 4, 1, 1 / 4, 1)
    assert rates["encoder"]["embedding"] == {"kernel": 1, "bias": 1}
    assert set(jax.tree.leaves(rates["decoder"]["stack"])) == {1}
    # Xavier at width w has variance 2 / (rows + columns): hidden weights need nothing beyond it.
    assert starts["encoder"]["stack"]["blocks"]["mlp_in"]["kernel"] == pytest.approx(1)
    assert starts["encoder"]["embedding"]["kernel"] == pytest.approx(
        np.sqrt((512 + 256) / (512 + 64))
    )
    assert starts["decoder"]["projection"]["kernel"] == pytest.approx(
        np.sqrt((256 + 64) / (64 + 64)) / 4
    )


def test_deeper_stacks_move_less_per_block() -> None:
    encoder = VitShape("vit", 8, 64, 8, 1, 256, 64, 2)
    starts, rates = multipliers(
        lambda shape: partial(raw_init, shape, shapes(1, "mup")[1]), encoder
    )
    blocks = rates["encoder"]["stack"]["blocks"]
    assert blocks["qkv"]["kernel"] == blocks["mlp_norm"]["scale"] == pytest.approx(1 / 2)
    assert blocks["mlp_out"]["kernel"] == blocks["attention_out"]["kernel"] == pytest.approx(1 / 4)
    assert starts["encoder"]["stack"]["blocks"]["mlp_out"]["kernel"] == pytest.approx(1 / 2)


def raw_init(encoder: Encoder, decoder: Decoder, key: jax.Array) -> dict:
    return build_backbone(encoder, decoder, CROP).init(key)


@pytest.mark.parametrize(("family", "size"), [(ViT(), "l"), (UNet(levels=2), "s")])
def test_standard_parametrisation_changes_nothing(family: ViT | UNet, size: str) -> None:
    encoder, decoder = resolve_encoder(family, size, "standard"), resolve_decoder(family)
    assert set(
        jax.tree.leaves(multipliers(lambda shape: partial(raw_init, shape, decoder), encoder))
    ) == {1.0}
