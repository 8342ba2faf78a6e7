"""The distinct programs of a plan, ready to be lowered for devices that need not be at hand."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding

from scaling.costs.transfer_memory import finetune_layout, probe_bytes
from scaling.models.backbone import build_encoder
from scaling.models.compute import Compute, platform_of
from scaling.runs.plan import Plan
from scaling.runs.steps import PretrainStep, Step, TransferStep
from scaling.study.config import Finetune, Shape3
from scaling.study.ladder import Encoder
from scaling.study.task_kinds import kind_of
from scaling.training.mesh import abstract_batch
from scaling.training.program import NEVER, pretraining_program
from scaling.training.topology import mesh_on
from scaling.transfer.chunks import CHUNK
from scaling.transfer.features import embedder
from scaling.transfer.finetune_program import finetune_program
from scaling.transfer.kinds import Learner, learner_of

Devices = Sequence[jax.Device]
Lower = Callable[[Devices], jax.stages.Lowered]
Kind = Literal["pretraining", "held-out loss", "embedding", "fine-tuning", "prediction", "features"]


@dataclass(frozen=True)
class PlanProgram:
    """One program of a plan."""

    kind: Kind
    network: str
    """Backbone and size."""
    step: str
    """The first step that runs it."""
    devices: int
    """Devices of its mesh."""
    estimate: int
    """Bytes on a device by the plan's closed form; 0 where it has none."""
    key: Hashable
    """Equal for equal programs."""
    lower: Lower
    """Traces it for the first of these devices."""


def plan_programs(plan: Plan) -> list[PlanProgram]:
    """Every distinct program of a plan, the one that is estimated to take most memory first."""
    shapes: dict[Hashable, Step] = {}
    for step in plan.steps:
        if shape := shape_of(step):
            shapes.setdefault(shape, step)
    programs: dict[Hashable, PlanProgram] = {}
    for step in shapes.values():
        for program in step_programs(step, plan):
            programs.setdefault(program.key, program)
    return sorted(programs.values(), key=lambda program: -program.estimate)


def shape_of(step: Step) -> Hashable:
    """What the programs of a step depend on; None for a step without a network."""
    match step.config:
        case PretrainStep() as run:
            recipe = replace(run.pretrain, learning_rate=0.0)
            return run.objective, run.encoder, run.decoder, recipe, step.mesh
        case TransferStep(encoder=encoder) as run if encoder is not None:
            task = run.task
            labels = task.name, task.kind, task.classes, len(task.sequences), task.draws
            supervised = run.arm == "scratch" and run.transfer.supervised is not None
            return encoder, supervised, labels, run.transfer, volume_of(run)
        case _:
            return None


def volume_of(run: TransferStep) -> Shape3:
    """Voxels of a case of a task."""
    return (run.task.volumes or run.data.volumes).shape


def step_programs(step: Step, plan: Plan) -> Iterator[PlanProgram]:
    """The programs of one step."""
    match step.config:
        case PretrainStep() as run:
            yield from pretraining_programs(step, run, plan)
        case TransferStep() as run:
            yield from transfer_programs(step, run, plan)
        case _:
            return


def pretraining_programs(step: Step, run: PretrainStep, plan: Plan) -> Iterator[PlanProgram]:
    """A training step, the loss of a held-out batch, and a batch's embeddings."""
    network, devices = f"{run.backbone} {run.size}", int(np.prod(step.mesh))
    accumulate, recipe = plan.study.execution.accumulate, run.pretrain
    single, several = recipe.crop, run.objective.batch_shape(recipe.batch, recipe.crop)

    def lower(kind: Kind, available: Devices) -> jax.stages.Lowered:
        mesh = mesh_on(available, step.mesh)
        program = pretraining_program(
            run.objective, run.encoder, run.decoder, recipe, mesh, accumulate
        )
        key, state = abstract_keys(), program.abstract
        if kind == "pretraining":
            batch = abstract_batch(mesh, several)
            return program.step.lower(state, batch, key, recipe.learning_rate, 1, NEVER)
        if kind == "held-out loss":
            return program.evaluate.lower(state, abstract_batch(mesh, several), key)
        batch = abstract_batch(mesh, (recipe.batch, *single))
        return jax.jit(program.embed).lower(state, batch)

    estimates: dict[Kind, int] = {"pretraining": step.memory, "held-out loss": 0, "embedding": 0}
    for kind, estimate in estimates.items():
        key = (kind, shape_of(step))
        yield PlanProgram(kind, network, step.name, devices, estimate, key, lower_as(lower, kind))


def lower_as(lower: Callable[[Any, Devices], jax.stages.Lowered], kind: Kind) -> Lower:
    """`lower` of one kind of program."""
    return lambda devices: lower(kind, devices)


def transfer_programs(step: Step, run: TransferStep, plan: Plan) -> Iterator[PlanProgram]:
    """Fine-tuning, prediction and frozen features of one checkpoint on one task."""
    encoder, recipes, suits = run.encoder, run.transfer, kind_of(run.task).protocols
    if encoder is None:
        return
    if recipes.finetune and "finetune" in suits:
        rows = len(run.task.shots) * run.task.draws
        yield from finetune_programs(step, run, encoder, recipes.finetune, rows, plan)
    if recipes.supervised and run.arm == "scratch" and "supervised" in suits:
        rows = run.task.draws
        yield from finetune_programs(step, run, encoder, recipes.supervised, rows, plan)
    probed = (recipes.probe and "probe" in suits) or (recipes.sgd_probe and "sgd_probe" in suits)
    if probed:
        yield features_program(step, run, encoder, plan)


def finetune_programs(
    step: Step, run: TransferStep, encoder: Encoder, recipe: Finetune, rows: int, plan: Plan
) -> Iterator[PlanProgram]:
    """Fine-tuning `rows` networks, and predicting a chunk of cases; the labelled cases are taken
    to be as many as the task's most shots, their number being unknown before the data is read.
    """
    task, shape, accelerator = run.task, volume_of(run), plan.study.execution.accelerator
    learner, sequences = learner_of(task), len(task.sequences)
    n = max(max(other.shots) for other in plan.study.tasks if other.name == task.name)
    layout = finetune_layout(encoder, recipe, learner.masks, sequences, shape, rows, accelerator)
    network = f"{run.backbone} {run.size}"

    def lower(kind: Kind, available: Devices) -> jax.stages.Lowered:
        return lowered_finetuning(
            kind, encoder, learner, sequences, shape, recipe, rows, n, available[0]
        )

    estimates: dict[Kind, int] = {
        "fine-tuning": layout.fitting,
        "prediction": layout.predicting,
    }
    for kind, estimate in estimates.items():
        key = (kind, encoder, task.kind, task.classes, sequences, shape, recipe, rows, n)
        yield PlanProgram(kind, network, step.name, 1, estimate, key, lower_as(lower, kind))


def lowered_finetuning(
    kind: Kind,
    encoder: Encoder,
    learner: Learner,
    sequences: int,
    shape: Shape3,
    recipe: Finetune,
    rows: int,
    n: int,
    device: jax.Device,
) -> jax.stages.Lowered:
    """Fine-tuning `rows` networks on `n` labelled cases, or with the kind "prediction" what they
    say of a chunk of cases, traced for one device.
    """
    program = finetune_program(encoder, learner, sequences, shape, recipe, rows, (device,))
    init = build_encoder(encoder, Compute(platform=platform_of(device))).init
    keys = abstract_keys(rows)
    images = array((n, sequences, *shape), np.float16)
    cases = images, array((n, sequences), np.bool_), abstract_labels(learner, n, shape)
    fitting = (
        jax.eval_shape(init, abstract_keys()),
        jax.eval_shape(program.init_heads, keys),
        cases,
        array((rows, n)),
        array((rows, 2)),
        array((rows,)),
        keys,
    )
    if kind == "fine-tuning":
        return jax.jit(program.fit).lower(*on(device, fitting))
    fitted = jax.eval_shape(program.fit, *fitting)
    chunk = array((CHUNK, sequences, *shape), np.float16), array((CHUNK, sequences), np.bool_)
    return jax.jit(program.predict).lower(*on(device, (fitted, *chunk)))


def features_program(step: Step, run: TransferStep, encoder: Encoder, plan: Plan) -> PlanProgram:
    """The frozen features of a chunk of cases."""
    shape, sequences = volume_of(run), len(run.task.sequences)
    estimate = probe_bytes(encoder, sequences, shape, plan.study.execution.accelerator)

    def lower(available: Devices) -> jax.stages.Lowered:
        first = available[0]
        init = build_encoder(encoder, Compute(platform=platform_of(first))).init
        parameters = jax.eval_shape(init, abstract_keys())
        images = array((CHUNK, sequences, *shape), np.float16)
        return embedder(encoder, shape, first).lower(*on(first, (parameters, images)))

    key = ("features", encoder, sequences, shape)
    network = f"{run.backbone} {run.size}"
    return PlanProgram("features", network, step.name, 1, estimate, key, lower)


def abstract_labels(learner: Learner, n: int, shape: Shape3) -> jax.ShapeDtypeStruct:
    """The labels of n cases (`scaling.data.tasks.Cases`)."""
    if learner.masks:
        return array((n, *shape), np.uint8)
    several = learner.standardised and learner.outputs > 1
    return array((n, learner.outputs) if several else (n,))


def abstract_keys(rows: int = 0) -> Any:
    """The shape of one random key, or of `rows` of them."""
    if rows:
        return jax.eval_shape(lambda: jax.random.split(jax.random.key(0), rows))
    return jax.eval_shape(lambda: jax.random.key(0))


def array(shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    """An array that only has a shape."""
    return jax.ShapeDtypeStruct(shape, dtype)


def on(device: jax.Device, arguments: Any) -> Any:
    """Shapes of arrays that lie on one device."""
    where = SingleDeviceSharding(device)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where), arguments
    )
