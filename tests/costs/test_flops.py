"""Closed-form costs of every family against the models and against XLA's own count."""

import jax
import jax.numpy as jnp
import pytest

from scaling.costs import flops
from scaling.costs.accelerators import peak_of
from scaling.models.backbone import build_backbone
from scaling.models.convolution import native
from scaling.objectives.build import build_objective
from scaling.study.config import Family, Mae, Pretrain, ResEnc, UNet, ViT
from scaling.study.ladder import resolve_decoder, resolve_encoder, rungs

LADDERS = [
    (family, size) for family in (UNet(), UNet(skips=False), ResEnc()) for size in rungs(family)
]


@pytest.mark.parametrize(("family", "size"), LADDERS[::6] + LADDERS[-1:])
def test_parameters_of_convolutional_rungs_match_the_model(
    family: UNet | ResEnc, size: str
) -> None:
    encoder, decoder = resolve_encoder(family, size), resolve_decoder(family)
    made = jax.eval_shape(build_backbone(encoder, decoder, (96, 96, 96)).init, jax.random.key(0))
    count = {name: sum(leaf.size for leaf in jax.tree.leaves(part)) for name, part in made.items()}
    assert count == {
        "encoder": encoder.parameters,
        "decoder": decoder.parameters(encoder),
    }


@pytest.mark.parametrize(
    ("family", "size"),
    [
        (ViT(decoder_depth=1), "m"),
        (UNet(levels=4), "b"),
        (UNet(levels=4, skips=False), "b"),
        (ResEnc(levels=4), "b"),
    ],
)
def test_training_flops_are_those_xla_counts(
    family: Family, size: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "scaling.models.unet.convolve",
        lambda x, kernel, platform, stride: native(x, kernel, stride),
    )
    # XLA counts a scanned stack as one of its blocks: so does this ViT, of one block each.
    encoder, decoder = resolve_encoder(family, size), resolve_decoder(family)
    if family.kind == "vit":
        encoder = type(encoder)(**{**vars(encoder), "depth": 1})  # type: ignore[arg-type]
    recipe = Pretrain(crop=(48, 48, 48))
    objective = build_objective(Mae(), encoder, decoder, recipe)
    key = jax.eval_shape(lambda: jax.random.key(0))
    volumes = jax.ShapeDtypeStruct((1, *recipe.crop), jnp.float32)
    gradient = jax.jit(jax.grad(lambda p, v, k: objective.loss(p, v, k, jnp.zeros((), int))[0]))
    counted = gradient.lower(jax.eval_shape(objective.init, key), volumes, key).cost_analysis()[
        "flops"
    ]
    assert flops.pretraining_flops(Mae(), encoder, decoder, recipe) == pytest.approx(
        counted, rel=0.05
    )


def test_peaks_are_those_of_the_devices_that_jax_names() -> None:
    assert peak_of("NVIDIA H100 80GB HBM3", 8) == 8 * 9.89e14
    assert peak_of("TPU v5 lite", 4) == 4 * 1.97e14
    assert peak_of("cpu", 8) == peak_of("cpu", 1) == 2e11
    assert peak_of("Tesla V100-SXM2-16GB", 1) is None
