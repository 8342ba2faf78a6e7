"""Checkpoints: every save is there, holds what the state was when it was asked for, and partial loads see the encoder only."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.models.backbone import build_encoder
from scaling.study.config import Mae, Pretrain, ViT
from scaling.study.ladder import resolve_decoder, resolve_encoder
from scaling.training import checkpoint
from scaling.training.mesh import global_batch, make_mesh
from scaling.training.program import NEVER, Program, State, pretraining_program

CROP = (16, 16, 16)
ENCODER = resolve_encoder(ViT(), "xxs")


def program(replica: int, fsdp: int) -> Program:
    recipe = Pretrain(crop=CROP, batch=8, warmup=8)
    return pretraining_program(
        Mae(), ENCODER, resolve_decoder(ViT()), recipe, make_mesh(replica, fsdp)
    )


def advance(state: State, steps: int, of: Program, mesh: tuple[int, int]) -> State:
    batch = np.random.default_rng(0).normal(size=(8, *CROP)).astype(np.float16)
    for _ in range(steps):
        state, _ = of.step(
            state, global_batch(make_mesh(*mesh), batch), jax.random.key(1), 1.5e-3, NEVER, 100
        )
    return state


def same(a: object, b: object) -> bool:
    return all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def test_saves_in_quick_succession_all_count_though_training_goes_on(tmp_path: Path) -> None:
    one = program(1, 1)
    state, expected = one.init(jax.random.key(0)), []
    with checkpoint.Checkpoints(tmp_path / "run") as checkpoints:
        for step in (1, 2, 3):
            state = advance(state, 1, one, (1, 1))
            checkpoints.save(step, state)
            expected.append(jax.tree.map(np.array, state))
            state = advance(state, 1, one, (1, 1))  # donates what is being written
        checkpoints.wait()
    assert checkpoint.latest_step(tmp_path / "run") == 3
    assert same(checkpoint.restore(tmp_path / "run", one.abstract), expected[-1])


def test_state_is_restored_onto_another_mesh(tmp_path: Path) -> None:
    one, spread = program(1, 1), program(2, 4)
    state = advance(one.init(jax.random.key(0)), 2, one, (1, 1))
    with checkpoint.Checkpoints(tmp_path / "run") as checkpoints:
        checkpoints.save(2, state)
        checkpoints.wait()
    restored = checkpoint.restore(tmp_path / "run", spread.abstract)
    assert same(restored, state)
    kernel = restored.parameters["encoder"]["embedding"]["kernel"]
    assert kernel.addressable_shards[0].data.size == kernel.size // 4


@pytest.mark.slow
def test_run_continues_on_fewer_devices_and_back_with_the_same_losses(tmp_path: Path) -> None:
    batch = np.random.default_rng(0).normal(size=(8, *CROP)).astype(np.float16)

    def losses(
        of: Program, mesh: tuple[int, int], state: State, steps: int
    ) -> tuple[State, list[float]]:
        found = []
        for _ in range(steps):
            state, metrics = of.step(
                state, global_batch(make_mesh(*mesh), batch), jax.random.key(1), 1.5e-3, NEVER, 100
            )
            found.append(float(metrics["loss"]))
        return state, found

    one = program(1, 1)
    _, expected = losses(one, (1, 1), one.init(jax.random.key(0)), 10)
    state, found = program(2, 4).init(jax.random.key(0)), []
    for number, mesh in enumerate([(2, 4), (1, 4), (2, 1), (1, 1), (2, 4)]):
        if number:
            state = checkpoint.restore(tmp_path / "run", program(*mesh).abstract)
        state, part = losses(program(*mesh), mesh, state, 2)
        found += part
        with checkpoint.Checkpoints(tmp_path / "run") as checkpoints:
            checkpoints.save(2 * number + 2, state)
            checkpoints.wait()
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_encoder_alone_is_restored_for_transfer(tmp_path: Path) -> None:
    one = program(1, 1)
    state = one.init(jax.random.key(0))
    with checkpoint.Checkpoints(tmp_path / "run") as checkpoints:
        checkpoints.save(0, state)
        checkpoints.wait()
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = jax.eval_shape(build_encoder(ENCODER).init, jax.random.key(0))
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), shapes
    )
    assert same(checkpoint.restore_encoder(tmp_path / "run", abstract), state.parameters["encoder"])


def test_full_disk_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    state = State(jnp.zeros(()), {"x": jnp.zeros(1000)}, None, {})
    with checkpoint.Checkpoints(tmp_path / "run") as checkpoints:
        with pytest.raises(
            OSError,
            match=r"no room for the checkpoint of step 7 in .*run.*free some space and run again",
        ):
            checkpoints.save(7, state)
        assert checkpoint.latest_step(tmp_path / "run") is None


def test_folder_without_a_checkpoint_is_named(tmp_path: Path) -> None:
    assert checkpoint.latest_step(tmp_path / "nothing") is None
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty has no complete checkpoint"):
        checkpoint.restore(tmp_path / "empty", program(1, 1).abstract)
