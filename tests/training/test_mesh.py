"""Eight devices against one: the same numbers, whatever the mesh."""

import math
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from scaling.study.config import Family, Mae, Pretrain, ResEnc, UNet, ViT
from scaling.study.ladder import resolve_decoder, resolve_encoder
from scaling.study.objectives import Contrastive, Momentum
from scaling.training.checkpoint import Checkpoints, restore
from scaling.training.mesh import abstract_batch, global_batch, make_mesh, parameter_spec
from scaling.training.program import NEVER, State, pretraining_program

CROP = (16, 16, 16)
STEPS = 20
SLIM = ViT()


def run(
    replica: int,
    fsdp: int,
    tensor: int = 1,
    accumulate: int = 1,
    family: Family = SLIM,
    size: str = "xxs",
) -> tuple[list[float], State]:
    mesh = make_mesh(replica, fsdp, tensor)
    recipe = Pretrain(crop=CROP, batch=16, warmup=32, remat="blocks")
    program = pretraining_program(
        Mae(), resolve_encoder(family, size), resolve_decoder(family), recipe, mesh, accumulate
    )
    state = program.init(jax.random.key(0))
    rng = np.random.default_rng(0)
    losses = []
    for _ in range(STEPS):
        batch = rng.normal(size=(16, *CROP)).astype(np.float16)
        batch[:, 4:12] += 2
        state, metrics = program.step(
            state, global_batch(mesh, batch), jax.random.key(1), 1.5e-3, 10, NEVER
        )
        losses.append(float(metrics["loss"]))
    return losses, state


@pytest.fixture(scope="module")
def one_device() -> tuple[list[float], State]:
    return run(1, 1)


@pytest.mark.parametrize("shape", [(8, 1), (1, 8), (2, 4), (1, 1, 1, 4), (2, 4, 1, 2)])
def test_losses_agree_with_one_device_and_the_whole_batch_at_once(
    one_device: tuple[list[float], State], shape: tuple[int, ...]
) -> None:
    agree(run(*shape), one_device)


@pytest.mark.parametrize(
    ("shape", "size", "heads"),
    [((2, 2, 2), "s", 2), pytest.param((2, 1, 4), "l", 4, marks=pytest.mark.slow)],
)
def test_losses_agree_where_devices_share_out_heads(
    shape: tuple[int, int, int], size: str, heads: int
) -> None:
    family = ViT(decoder_width=64 * heads)
    assert resolve_encoder(family, size).heads == heads
    agree(run(*shape, family=family, size=size), run(1, 1, family=family, size=size))


@pytest.mark.parametrize(
    "family",
    [UNet(levels=3), pytest.param(ResEnc(levels=3), marks=pytest.mark.slow)],
    ids=lambda f: f.kind,
)
def test_losses_of_convolutional_networks_agree_with_one_device(family: UNet | ResEnc) -> None:
    # Sums of convolutions in another order differ more, and more from step to step.
    agree(run(2, 4, family=family), run(1, 1, family=family), slack=10)


def agree(
    ours: tuple[list[float], State], theirs: tuple[list[float], State], slack: float = 1.0
) -> None:
    np.testing.assert_allclose(ours[0], theirs[0], rtol=slack * 1e-5)
    for (path, a), (_, b) in zip(
        *(jax.tree.leaves_with_path(state.parameters) for _, state in (ours, theirs)), strict=True
    ):
        bound: float | np.ndarray = 2e-4
        if [part.key for part in path[-2:]] == ["qkv", "bias"]:
            # Those of the keys have no gradient, for no softmax sees them: Adam makes steps of what
            # rounding leaves there.
            bound = np.array([[2e-4], [1e-3], [2e-4]])
        assert (np.abs(np.asarray(a) - b) <= slack * bound + 1e-7 * np.abs(b)).all(), path


def test_heldout_loss_in_parts_is_that_of_the_whole_batch_and_takes_less() -> None:
    mesh, recipe = make_mesh(1, 1), Pretrain(crop=(32, 32, 32), batch=16, warmup=32)
    volumes = np.random.default_rng(0).normal(size=(16, *recipe.crop)).astype(np.float16)
    shapes = resolve_encoder(ViT(), "xxs"), resolve_decoder(ViT())
    whole, parts = (
        pretraining_program(Mae(), *shapes, recipe, mesh, accumulate) for accumulate in (1, 4)
    )
    given = (whole.init(jax.random.key(0)), volumes, jax.random.key(1))
    compiled = [program.evaluate.lower(*given).compile() for program in (whole, parts)]
    losses = [float(evaluate(*given)) for evaluate in compiled]
    taken = [evaluate.memory_analysis().temp_size_in_bytes for evaluate in compiled]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert taken[1] < 0.8 * taken[0]


@pytest.mark.parametrize(
    "config",
    [Contrastive(learned_temperature=True), pytest.param(Momentum(), marks=pytest.mark.slow)],
    ids=lambda c: c.kind,
)
def test_negatives_of_all_devices_count(config: Contrastive | Momentum) -> None:
    recipe = Pretrain(crop=CROP, batch=16, warmup=16)
    rng = np.random.default_rng(0)
    batches = rng.normal(size=(3, 8, 2, *CROP)).astype(np.float16)
    found = []
    for mesh in (make_mesh(1, 1), make_mesh(2, 4)):
        program = pretraining_program(
            config, resolve_encoder(ViT(), "xxs"), resolve_decoder(ViT()), recipe, mesh
        )
        state, rows = program.init(jax.random.key(0)), []
        for batch in batches:
            state, metrics = program.step(
                state, global_batch(mesh, batch), jax.random.key(1), 1.5e-3, NEVER, NEVER
            )
            rows.append((float(metrics["loss"]), float(metrics["gradient_norm"])))
        found.append((rows, state, np.asarray(metrics["embeddings"])))
    (one, one_state, one_embeddings), (eight, eight_state, eight_embeddings) = found
    np.testing.assert_allclose(eight, one, rtol=1e-4)
    np.testing.assert_allclose(eight_embeddings, one_embeddings, atol=1e-4)
    assert jax.tree.structure(one_state) == jax.tree.structure(eight_state)
    for a, b in zip(
        jax.tree.leaves(eight_state.moments), jax.tree.leaves(one_state.moments), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-4 * (1e-12 + float(np.abs(b).max())))


def test_means_follow_the_parameters_by_their_momentum_and_are_restored(tmp_path: Path) -> None:
    mesh, config = make_mesh(1, 1), Momentum()
    recipe = Pretrain(crop=CROP, batch=16, warmup=16)
    program = pretraining_program(
        config, resolve_encoder(ViT(), "xxs"), resolve_decoder(ViT()), recipe, mesh
    )
    state = program.init(jax.random.key(0))
    expected = jax.tree.map(np.array, state.means["target"])
    for batch in np.random.default_rng(0).normal(size=(3, 8, 2, *CROP)).astype(np.float16):
        state, _ = program.step(
            state, global_batch(mesh, batch), jax.random.key(1), 1.5e-3, NEVER, NEVER
        )
        now = {name: state.parameters[name] for name in expected}
        expected = jax.tree.map(
            lambda mean, new: 0.99 * mean + 0.01 * np.asarray(new), expected, now
        )
    for a, b in zip(jax.tree.leaves(state.means["target"]), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, state)
        checkpoints.wait()
    restored = restore(tmp_path, program.abstract)
    for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(a, b)


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
    ("shape", "family", "size", "crop"),  # two heads and four, on eight devices
    [
        ((1, 8, 1), SLIM, "s", (48, 48, 48)),
        ((1, 8, 1), SLIM, "l", (24, 24, 24)),
        ((1, 4, 2), ViT(decoder_width=128), "l", (24, 24, 24)),
    ],
)
def test_sharded_step_gathers_weights_layer_by_layer_and_never_reshuffles(
    shape: tuple[int, int, int], family: ViT, size: str, crop: tuple[int, int, int]
) -> None:
    mesh = make_mesh(*shape)
    recipe = Pretrain(crop=crop, batch=16, warmup=32, remat="blocks")
    program = pretraining_program(
        Mae(), resolve_encoder(family, size), resolve_decoder(family), recipe, mesh
    )
    lowered = program.step.lower(
        program.abstract, abstract_batch(mesh, (16, *crop)), jax.random.key(1), 1.5e-3, 10, NEVER
    )
    found = collectives(lowered.compile().as_text())
    moved = [size for kind, size in found if kind == "collective-permute"]
    assert {kind for kind, _ in found} - {"collective-permute"} <= {
        "all-gather",
        "all-reduce",
        "reduce-scatter",
    }
    # Devices that share a sample put the 7 visible of its 27 tokens among the masked ones in turns.
    assert max(moved, default=0) <= (16 // 4 * 7 * 128 if shape[2] > 1 else 0)
    gathered = [size for kind, size in found if kind == "all-gather"]
    assert gathered
    assert (
        max(gathered) < sum(leaf.size for leaf in jax.tree.leaves(program.abstract.parameters)) / 8
    )


def collectives(text: str) -> list[tuple[str, int]]:
    """The collectives of a compiled program and how many elements each gives, those joined into one
    counted together.
    """
    calls = re.findall(
        r" = (\([^()]*\)|\S+) "
        r"(all-[\w-]+?|reduce-scatter|collective-[\w-]+?|ragged-[\w-]+?)(?:-start)?\(",
        text,
    )
    return [
        (
            kind,
            sum(
                math.prod(map(int, dims.split(","))) for dims in re.findall(r"\[([\d,]+)\]", shape)
            ),
        )
        for shape, kind in calls
    ]


@pytest.mark.parametrize(
    ("layer", "shape", "devices", "expected"),
    [
        ("embedding", (512, 96), (8, 1), ("fsdp", None)),
        ("mlp_in", (4, 96, 384), (8, 1), (None, None, "fsdp")),
        ("mlp_in", (4, 96, 383), (8, 1), (None, "fsdp", None)),
        ("norm", (64,), (8, 1), ()),
        ("embedding", (513, 97), (8, 1), (None, None)),
        ("embedding", (512, 96), (1, 1), (None, None)),
        ("embedding", (512, 96), (4, 2), ("fsdp", None)),
        ("qkv", (4, 3, 128, 128), (4, 2), (None, None, "fsdp", "tensor")),
        ("attention_out", (4, 128, 128), (4, 2), (None, "tensor", "fsdp")),
        ("mlp_in", (4, 128, 512), (4, 2), (None, "fsdp", "tensor")),
        ("mlp_out", (4, 512, 128), (1, 8), (None, "tensor", None)),
    ],
)
def test_parameters_are_split_by_columns_then_rows_and_along_the_largest_dimension_left(
    layer: str, shape: tuple[int, ...], devices: tuple[int, int], expected: tuple[str | None, ...]
) -> None:
    assert parameter_spec(layer, shape, *devices) == PartitionSpec(*expected)


def test_mesh_larger_than_the_machine_is_refused() -> None:
    with pytest.raises(ValueError, match="asks for 4 x 4 x 1 devices, but jax sees 8"):
        make_mesh(4, 4)


def test_devices_that_share_a_sample_are_on_one_host() -> None:
    with pytest.raises(
        ValueError, match=r"tensor axis of 3, but a process has 8 devices; expected a divisor"
    ):
        make_mesh(1, 1, 3)
