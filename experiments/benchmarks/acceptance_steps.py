"""What `acceptance.py` measures of compiled programs: pretraining steps, fine-tunings, and the same
networks in PyTorch.
"""

import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

import scaling.models.transformer
from scaling.costs.accelerators import ACCELERATORS, accelerator_of
from scaling.costs.memory import step_memory
from scaling.costs.seconds import pretraining_step_seconds
from scaling.engines.compiling import account
from scaling.models.backbone import build_encoder
from scaling.models.compute import platform_of
from scaling.study.config import Finetune, Mae, Pretrain, ViT
from scaling.study.families import validate_family
from scaling.study.ladder import resolve_decoder, resolve_encoder
from scaling.training.mesh import global_batch, make_mesh
from scaling.training.program import NEVER, Program, State, pretraining_program
from scaling.transfer.finetune_program import finetune_program
from scaling.transfer.kinds import LEARNERS

ROUNDS = 5
CASES, SEQUENCES, RATE = 21, 2, 3e-4
PATCH = {"resenc": 32}

Figures = dict[str, Any]


def accelerator_here() -> str:
    """The name of the device at hand, or of the nearest of its kind."""
    device = jax.devices()[0]
    return accelerator_of(device.device_kind, platform_of(device))


def recipe_of(crop: int, batch: int, dtype: str, remat: str = "none", augment: str = "flips"):
    """A recipe of pretraining."""
    return Pretrain(
        crop=(crop,) * 3,
        batch=batch,
        warmup=batch,
        dtype=dtype,  # type: ignore[arg-type]
        remat=remat,  # type: ignore[arg-type]
        augment=augment,  # type: ignore[arg-type]
    )


def built(family: str, size: str, recipe: Pretrain) -> tuple[Program, Mesh, Any, Any]:
    """The pretraining program of a network on one device; its mesh, encoder and decoder."""
    kind = validate_family({"kind": family, "patch": PATCH.get(family, 8)})
    encoder, decoder = resolve_encoder(kind, size), resolve_decoder(kind)
    mesh = make_mesh(1, 1)
    return pretraining_program(Mae(), encoder, decoder, recipe, mesh), mesh, encoder, decoder


def random_batch(recipe: Pretrain, mesh: Mesh) -> jax.Array:
    """A batch of noise on the device."""
    volumes = np.random.default_rng(0).standard_normal((recipe.batch, *recipe.crop), np.float32)
    return global_batch(mesh, volumes.astype(np.float16))


def training_step(
    family: str,
    size: str,
    batch: int,
    crop: int = 96,
    dtype: str = "bfloat16",
    remat: str = "none",
    augment: str = "flips",
    scanned: bool = False,
    compiler_options: dict[str, Any] | None = None,
    steps: int = 20,
) -> Figures:
    """A pretraining step on one device: time and memory as measured, by XLA, and by the plan."""
    if scanned:
        scaling.models.transformer.UNROLLED = ()
    recipe, accelerator = recipe_of(crop, batch, dtype, remat, augment), accelerator_here()
    program, mesh, encoder, decoder = built(family, size, recipe)
    state, volumes = program.init(jax.random.key(0)), random_batch(recipe, mesh)
    key, rate = jax.random.key(1), recipe.learning_rate
    began = time.perf_counter()
    lowered = program.step.lower(state, volumes, key, rate, NEVER, NEVER)
    compiled = lowered.compile(compiler_options=compiler_options)
    compile_seconds = time.perf_counter() - began
    by_xla = account(compiled, accelerator)

    def several(state: State) -> State:
        for _ in range(steps):
            state, _ = compiled(state, volumes, key, rate, NEVER, NEVER)
        return jax.block_until_ready(state)

    state = several(state)
    taken = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        state = several(state)
        taken.append((time.perf_counter() - began) / steps)
    seconds, peak = float(np.median(taken)), ACCELERATORS[accelerator].peak
    planned = pretraining_step_seconds(Mae(), encoder, decoder, recipe, accelerator)
    estimate = step_memory(Mae(), encoder, decoder, recipe, (1, 1, 1), accelerator)
    statistics = jax.devices()[0].memory_stats() or {}
    return {
        "ms a step": 1e3 * seconds,
        "ms by the plan": 1e3 * planned,
        "ms at least": 1e3 * by_xla.seconds,
        "ms with launches": 1e3 * by_xla.launched_seconds,
        "utilisation": by_xla.flops / peak / seconds,
        "samples a second": batch / seconds,
        "kernels": by_xla.kernels,
        "GB at the peak": statistics.get("peak_bytes_in_use", float("nan")) / 1e9,
        "GB by XLA": by_xla.memory / 1e9,
        "GB by the plan": estimate / 1e9,
        "seconds to compile": compile_seconds,
    }


def one_program_or_many(
    size: str = "s", side: int = 96, rows: int = 16, steps: int = 20, dtype: str = "bfloat16"
) -> Figures:
    """Training samples a second of `rows` fine-tunings as one program, and one after the other."""
    shape = resolve_encoder(ViT(), size)
    recipe = Finetune(steps=steps, batch=4, augment="flips", dtype=dtype)  # type: ignore[arg-type]
    learner, volume = LEARNERS["classification"](()), (side,) * 3
    rng = np.random.default_rng(0)
    images = rng.standard_normal((CASES, SEQUENCES, *volume), np.float32).astype(np.float16)
    labels = (np.arange(CASES) % 2).astype(np.float32)
    cases = jax.device_put((images, np.ones((CASES, SEQUENCES), bool), labels))
    keys = jax.random.split(jax.random.key(0), rows)
    encoder = jax.jit(build_encoder(shape).init)(keys[0])

    def fitting(rows: int) -> Callable[[int], Any]:
        program = finetune_program(shape, learner, SEQUENCES, volume, recipe, rows)
        weights = np.ones((rows, CASES), np.float32)
        scaling_of_targets = np.tile(np.float32([0, 1]), (rows, 1))
        rates = np.full(rows, RATE, np.float32)

        def fit(first: int) -> Any:
            own = keys[first : first + rows]
            heads = program.init_heads(own)
            return program.fit(encoder, heads, cases, weights, scaling_of_targets, rates, own)

        return fit

    together, alone = fitting(rows), fitting(1)

    def speed(call: Callable[[], Any]) -> float:
        jax.block_until_ready(call())  # compile
        began = time.perf_counter()
        jax.block_until_ready(call())
        return rows * steps * recipe.batch / (time.perf_counter() - began)

    as_one = speed(lambda: together(0))
    in_turn = speed(lambda: [alone(row) for row in range(rows)])
    return {
        "samples a second, one program": as_one,
        "samples a second, in turn": in_turn,
        "times as fast": as_one / in_turn,
    }


def beside_pytorch(network: str, batch: int = 8, rounds: int = 5) -> Figures:
    """Milliseconds of a training step, ours and PyTorch's (`train_step.py`), in turns."""
    if find_spec("torch") is None:
        return {"left out": "PyTorch is not installed"}
    import train_step

    steps = dict(train_step.compared(network, batch))
    for step in steps.values():
        for _ in range(2):
            train_step.seconds(step)
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            taken[name].append(1e3 * train_step.rested(step))
    return {f"ms, {name}": float(np.median(values)) for name, values in taken.items()}
