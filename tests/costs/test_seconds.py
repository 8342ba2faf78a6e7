"""Closed-form seconds of training steps against programs that XLA compiled for an H100."""

import pytest

from scaling.costs.seconds import pretraining_step_seconds
from scaling.study.config import Mae, Pretrain, Remat, UNet, ViT
from scaling.study.families import Family
from scaling.study.ladder import resolve_decoder, resolve_encoder

# Milliseconds by the roofline of every kernel: crops of 96³, bfloat16, flips; jax 0.10.2.
COMPILED = [
    (ViT(), "l", 16, "none", 1.49),
    (ViT(), "l", 16, "dots", 2.07),
    (ViT(), "4xl", 16, "dots", 36.1),
    (UNet(), "b", 4, "none", 9.8),
]


@pytest.mark.parametrize(("family", "size", "batch", "remat", "milliseconds"), COMPILED)
def test_step_seconds_are_near_the_roofline_of_the_compiled_program(
    family: Family, size: str, batch: int, remat: Remat, milliseconds: float
) -> None:
    recipe = Pretrain(crop=(96, 96, 96), batch=batch, dtype="bfloat16", remat=remat)
    encoder, decoder = resolve_encoder(family, size), resolve_decoder(family)
    seconds = pretraining_step_seconds(Mae(), encoder, decoder, recipe, "h100")
    assert 1000 * seconds == pytest.approx(milliseconds, rel=0.3)


def test_step_of_a_small_network_takes_its_launches() -> None:
    recipe = Pretrain(crop=(24, 24, 24), batch=2, dtype="bfloat16")
    encoder, decoder = resolve_encoder(ViT(), "xxs"), resolve_decoder(ViT())
    seconds = pretraining_step_seconds(Mae(), encoder, decoder, recipe, "h100")
    assert seconds == pytest.approx(500 * 3e-6)
