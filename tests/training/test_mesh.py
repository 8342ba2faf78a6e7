"""Eight devices against one: the same numbers, whatever the mesh."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from scaling.study.config import Mae, Pretrain, ViT
from scaling.study.ladder import resolve_decoder, resolve_encoder
from scaling.training.mesh import fsdp_spec, global_batch, make_mesh
from scaling.training.step import NEVER, State, pretraining_program

CROP = (16, 16, 16)
STEPS = 20


def run(replica: int, fsdp: int) -> tuple[list[float], State]:
    mesh = make_mesh(replica, fsdp)
    recipe = Pretrain(crop=CROP, batch=16, warmup=32, remat=True)
    program = pretraining_program(Mae(), resolve_encoder(ViT(), "xxs"), resolve_decoder(ViT()), recipe, mesh)
    state = program.init(jax.random.key(0))
    rng = np.random.default_rng(0)
    losses = []
    for _ in range(STEPS):
        batch = rng.normal(size=(16, *CROP)).astype(np.float16)
        batch[:, 4:12] += 2
        state, metrics = program.step(state, global_batch(mesh, batch), jax.random.key(1), 10, NEVER)
        losses.append(float(metrics["loss"]))
    return losses, state


@pytest.fixture(scope="module")
def one_device() -> tuple[list[float], State]:
    return run(1, 1)


@pytest.mark.parametrize("shape", [(8, 1), (1, 8), (2, 4)])
def test_losses_agree_with_one_device(one_device: tuple[list[float], State], shape: tuple[int, int]) -> None:
    losses, state = run(*shape)
    np.testing.assert_allclose(losses, one_device[0], rtol=1e-5)
    for a, b in zip(jax.tree.leaves(state.parameters), jax.tree.leaves(one_device[1].parameters), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)


def test_fsdp_spreads_parameters_and_both_moments(one_device: tuple[list[float], State]) -> None:
    _, state = run(1, 8)
    large = [leaf for leaf in jax.tree.leaves(state) if leaf.size >= 4096]
    assert large
    for leaf in large:
        assert leaf.addressable_shards[0].data.size == leaf.size // 8
    whole = sum(leaf.nbytes for leaf in jax.tree.leaves(one_device[1]))
    here = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state))
    assert here < 0.2 * whole


@pytest.mark.parametrize(
    ("shape", "fsdp", "expected"),
    [
        ((512, 96), 8, PartitionSpec("fsdp", None)),
        ((4, 96, 384), 8, PartitionSpec(None, None, "fsdp")),
        ((4, 96, 383), 8, PartitionSpec(None, "fsdp", None)),
        ((64,), 8, PartitionSpec()),
        ((513, 97), 8, PartitionSpec()),
        ((512, 96), 1, PartitionSpec()),
    ],
)
def test_fsdp_rule_splits_the_largest_divisible_dimension(shape: tuple[int, ...], fsdp: int, expected: PartitionSpec) -> None:
    assert fsdp_spec(shape, fsdp) == expected


def test_mesh_larger_than_the_machine_is_refused() -> None:
    with pytest.raises(ValueError, match="asks for 4 x 4 devices, but jax sees 8"):
        make_mesh(4, 4)
