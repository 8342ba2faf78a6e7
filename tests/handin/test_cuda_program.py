"""The programs of an export: what a CPU computes, and what CUDA does."""

from collections.abc import Callable

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from scaling.handin.export import exported, named_leaves
from scaling.models.backbone import build_encoder
from scaling.models.compute import Compute
from scaling.study.config import UNet, ViT
from scaling.study.families import Family
from scaling.study.ladder import resolve_encoder
from scaling.study.shapes import Platform
from scaling.training.topology import installed

SHAPE = (1, 16, 16, 16)
CUDNN = "__cudnn$fmhaSoftmax"
needs_cuda = pytest.mark.skipif(
    not installed("jax_plugins.xla_cuda12"), reason="JAX for CUDA is not installed"
)


def program(
    family: Family, platform: Platform, platforms: tuple[str, ...]
) -> tuple[jax.export.Exported, dict[str, np.ndarray], Callable[..., Array]]:
    """The program of an untrained encoder in bfloat16, its weights, and the function itself."""
    shape = resolve_encoder(family, "xxs")
    encoder = build_encoder(shape, Compute("bfloat16", "none", platform))
    parameters = jax.jit(encoder.init)(jax.random.key(0))
    names, weights, structure = named_leaves(parameters)

    def forward(weights: dict[str, Array], images: Array, present: Array) -> Array:
        fitted = jax.tree.unflatten(structure, [weights[name] for name in names])
        return encoder.encode(fitted, images.astype(jnp.float32)).mean((0, 1))

    return exported(forward, weights, SHAPE, platforms), weights, forward


def convolved_axes(module: str) -> set[int]:
    """Numbers of spatial axes of a program's convolutions."""
    axes = set()
    for line in module.splitlines():
        if "stablehlo.convolution" in line:
            axes.add(3 if "[b, 0, 1, 2, f]x" in line else 2)
    return axes


def test_convolutions_are_cudas_own_in_the_program_for_cuda_alone() -> None:
    family = UNet(levels=2)
    assert 3 not in convolved_axes(program(family, "cpu", ("cpu", "cuda"))[0].mlir_module())
    for_cuda, *_ = program(family, "gpu", ("cuda",))
    assert convolved_axes(for_cuda.mlir_module()) == {3}
    assert for_cuda.platforms == ("cuda",)


def test_the_program_for_a_cpu_is_the_network() -> None:
    portable, weights, forward = program(ViT(), "cpu", ("cpu", "cuda"))
    assert CUDNN not in portable.mlir_module()
    images = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float16)
    present = np.ones(1, bool)
    again = jax.export.deserialize(portable.serialize())
    np.testing.assert_allclose(
        np.asarray(again.call(weights, images, present), np.float32),
        np.asarray(jax.jit(forward)(weights, images, present), np.float32),
        atol=1e-2,
    )


@needs_cuda
def test_attention_is_cudnns_in_the_program_for_cuda() -> None:
    for_cuda, *_ = program(ViT(), "gpu", ("cuda",))
    assert CUDNN in for_cuda.mlir_module()
    assert CUDNN in jax.export.deserialize(for_cuda.serialize()).mlir_module()


def test_without_jax_for_cuda_a_program_that_wants_cudnn_is_refused_in_one_sentence() -> None:
    if installed("jax_plugins.xla_cuda12"):
        pytest.skip("JAX for CUDA is installed")
    with pytest.raises(ValueError, match=r"brain-mri-scaling\[cuda\]"):
        program(ViT(), "gpu", ("cuda",))
