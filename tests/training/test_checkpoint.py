"""Checkpoints: every save is there, holds what the state was when it was asked for, and partial
loads see the encoder only.
"""

import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

from scaling.models.backbone import build_encoder
from scaling.runs.digests import DamagedError
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


def saved(folder: Path, *steps: int) -> tuple[Program, State]:
    """A run's checkpoints of `steps`, all of them there, and the last state."""
    one = program(1, 1)
    state = one.init(jax.random.key(0))
    for step in steps:
        with checkpoint.Checkpoints(folder / "run" / "checkpoints") as checkpoints:
            checkpoints.save(step, state)
        shutil.move(folder / "run/checkpoints" / str(step), folder / str(step))
    for step in steps:
        shutil.move(folder / str(step), folder / "run/checkpoints" / str(step))
    return one, state


def test_every_flipped_bit_in_a_checkpoint_is_found_and_the_one_before_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(tmp_path, 1, 2)
    run = tmp_path / "run/checkpoints"
    random = np.random.default_rng(0)
    files = [file for file in sorted((run / "2").rglob("*")) if file.is_file()]
    for file in files:
        content = bytearray(file.read_bytes())
        if not content:
            continue
        flipped = bytearray(content)
        flipped[random.integers(len(content))] ^= 1 << int(random.integers(8))
        file.write_bytes(flipped)
        checkpoint._read.clear()
        assert checkpoint.latest_step(run) == 1, file
        assert f"{file} is damaged" in capsys.readouterr().err
        file.write_bytes(content)
    assert checkpoint.latest_step(run) == 2


@pytest.mark.parametrize("harm", ["empty", "missing", "short"])
def test_checkpoint_of_which_a_file_is_lost_is_passed_over(tmp_path: Path, harm: str) -> None:
    saved(tmp_path, 1, 2)
    run = tmp_path / "run/checkpoints"
    for file in sorted((run / "2").rglob("*")):
        if not file.is_file() or not file.stat().st_size or file.name == checkpoint.DIGESTS:
            continue
        content = file.read_bytes()
        match harm:
            case "empty":
                file.write_bytes(b"")
            case "missing":
                file.unlink()
            case _:
                file.write_bytes(content[:-1])
        assert checkpoint.latest_step(run) == 1, file
        file.write_bytes(content)


def test_only_damaged_checkpoints_are_an_error_that_names_one(tmp_path: Path) -> None:
    one, _ = saved(tmp_path, 2)
    run = tmp_path / "run/checkpoints"
    (run / "2/state/manifest.ocdbt").write_bytes(b"")
    with pytest.raises(DamagedError, match=r"manifest.ocdbt is damaged: it has 0 bytes"):
        checkpoint.restore(run, one.abstract)


def test_save_that_was_cut_short_leaves_the_checkpoint_before_it(tmp_path: Path) -> None:
    one, state = saved(tmp_path, 1)
    run = tmp_path / "run/checkpoints"
    shutil.copytree(run / "1", tmp_path / "run/.saving-2")
    assert checkpoint.latest_step(run) == 1
    with checkpoint.Checkpoints(run) as checkpoints:
        assert not (tmp_path / "run/.saving-2").exists()
        checkpoints.save(3, state)
    assert [path.name for path in run.iterdir()] == ["3"]
    assert same(checkpoint.restore(run, one.abstract), state)


def test_checkpoint_of_format_one_is_read(tmp_path: Path) -> None:
    one = program(1, 1)
    state = one.init(jax.random.key(0))
    with ocp.training.Checkpointer(tmp_path / "run") as checkpoints:
        checkpoints.save(4, state._asdict())
    assert checkpoint.latest_step(tmp_path / "run") == 4
    assert same(checkpoint.restore(tmp_path / "run", one.abstract), state)
