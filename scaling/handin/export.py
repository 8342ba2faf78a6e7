"""A pretrained checkpoint as something to hand in: a program with its weights.

The checkpoint is fine-tuned on all labelled cases of a task; `embedding_export` hands in the
encoder alone.

OUT/Apptainer.def            how to build the image
OUT/app/predict.py           what a challenge calls, once per case
OUT/app/requirements.txt     what it needs, every version pinned; no training package
OUT/app/scaling/             the study's own reading and preprocessing, copied
OUT/app/program.bin          the network of fixed shapes as a CPU computes it, which CUDA can run
                             too (StableHLO, `jax.export`)
OUT/app/program_cuda.bin     with `--cuda`, the same with CUDA's attention and convolutions
OUT/app/weights.safetensors  its parameters
OUT/app/model.json           the task, the grid, what it was trained on and how
OUT/app/compiled/            the program compiled for the kind of machine that exported or built it
"""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from safetensors.numpy import save

from scaling.data.grids import open_grid
from scaling.data.tasks import TaskArrays, load_task, task_volumes
from scaling.files import write_bytes, write_json
from scaling.handin.container import write_container
from scaling.handin.contract import Contract, challenge_contract, own_contract
from scaling.handin.inference import PROGRAM, PROGRAM_CUDA
from scaling.models.compute import Compute
from scaling.runs.finished import finished_run
from scaling.runs.rundir import provenance
from scaling.runs.steps import TransferStep
from scaling.study.challenge import Challenge
from scaling.study.classes import named
from scaling.study.config import Finetune, Shape3, Task
from scaling.study.shapes import Platform
from scaling.transfer.finetune import Fits
from scaling.transfer.finetune_program import FinetuneProgram, finetune_program
from scaling.transfer.finetune_row import finetuned_network
from scaling.transfer.kinds import learner_of
from scaling.transfer.rows import Row, in_classes
from scaling.transfer.run import load_encoder

# Forward passes of attention in cuDNN, as XLA calls them.
CUDNN_ATTENTION = ("__cudnn$fmhaSoftmax", "__cudnn$fmhaScaleBiasSoftmax")

Forward = Callable[[dict[str, Array], Array, Array], Array]


class Finetuned(NamedTuple):
    """A network that was fine-tuned once."""

    program: FinetuneProgram
    parameters: Any
    scaling: np.ndarray
    """Mean and deviation of what it predicts."""
    rate: float
    """Learning rate."""
    arrays: TaskArrays


def export(
    checkpoint: Path, task: str, out: Path, cuda: bool = False, challenge: Challenge | None = None
) -> dict[str, Any]:
    """Fine-tune a finished cooldown on all labelled cases of `task`; write a container's content.

    `checkpoint` is the cooldown's folder; data, grid and recipe are those of its study. With a
    `challenge` the container keeps its contract, and `task` may be the challenge's name or number
    of it. With `cuda` the requirements have jax for an NVIDIA GPU. Returns what model.json says.
    Raises FileExistsError when `out` has content and ValueError when the study has no such task or
    no fine-tuning.
    """
    checkpoint = checkpoint.resolve()
    if challenge is None:
        config = transfer_config(checkpoint, task)
        return hand_in(checkpoint, config, out, cuda)
    entered = challenge.task(task)
    config = transfer_config(checkpoint, entered.name)
    contract = challenge_contract(challenge, entered, config.task.sequences)
    return hand_in(checkpoint, config, out, cuda, contract)


def hand_in(
    checkpoint: Path,
    config: TransferStep,
    out: Path,
    cuda: bool,
    contract: Contract | None = None,
) -> dict[str, Any]:
    """`export` of a cooldown by one config; without a contract, by our own."""
    require_empty(out)
    contract = contract or own_contract(config.task.name, config.task.sequences)
    network = finetune_on_all(checkpoint, config)
    description = describe(checkpoint, config, network, contract)
    with container_folder(out, contract, description, cuda) as app:
        write_network(app, network, config, cuda)
    return description


def require_empty(out: Path) -> None:
    """Raise FileExistsError when a folder has content."""
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out} is not empty; name a new folder, or delete it")


@contextmanager
def container_folder(
    out: Path, contract: Contract, description: dict[str, Any], cuda: bool
) -> Iterator[Path]:
    """Give the app/ folder to write program and weights into; complete it and move it to `out`.

    The folder appears under its name when everything is in it and the program has run once.
    """
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    app = partial / "app"
    app.mkdir(parents=True)
    yield app
    write_json(app / "model.json", description)
    write_container(partial, contract.name, description["what"], cuda)
    subprocess.run([sys.executable, "predict.py", "--warm"], cwd=app, check=True)
    os.replace(partial, out)


def transfer_config(checkpoint: Path, task: str) -> TransferStep:
    """How the study of a cooldown tries it on `task`. Raises ValueError, listing the tasks."""
    plan, run = finished_run(checkpoint)
    transfers = {step.name: step.config for step in plan.steps}
    config = transfers.get(f"transfer/{checkpoint.name}-{task}")
    if run.decay_from is None or not isinstance(config, TransferStep):
        tasks = ", ".join(other.name for other in plan.study.tasks)
        raise ValueError(
            f"{plan.study.name} does not try {checkpoint.name} on {task!r}; name a cooldown, not a "
            f"trunk, and one of {tasks}"
        )
    if config.transfer.finetune is None:
        raise ValueError(
            f"{plan.study.name} does not finetune (transfer.finetune is left out): no recipe "
            "to export by"
        )
    return config


def finetune_on_all(checkpoint: Path, config: TransferStep) -> Finetuned:
    """Fine-tune on all labelled training cases as one draw, by the study's recipe.

    Raises FloatingPointError when it diverged.
    """
    assert config.encoder is not None
    assert config.transfer.finetune is not None
    recipe: Finetune = config.transfer.finetune
    volumes = task_volumes(config.task, config.data)
    cache = open_grid(checkpoint.parents[1] / "prepare", volumes)
    arrays = load_task(cache, config.task, config.data)
    n = len(arrays.train.ids)
    shape: Shape3 = arrays.train.images.shape[2:]
    learner = learner_of(config.task)
    sequences = len(config.task.sequences)
    program = finetune_program(config.encoder, learner, sequences, shape, recipe, rows=1)
    encoder = load_encoder(config.encoder, config.seed, checkpoint / "checkpoints")
    rows = [Row(n, 0, in_classes(arrays.train, config.task))]
    fits = Fits(program, encoder, arrays.train, rows, config.task, recipe)
    fit = fits.of_budget(len(recipe.learning_rates))
    parameters, rate = (
        jax.tree.map(lambda leaf: np.asarray(leaf[0]), fit.parameters),
        float(fit.rates[0]),
    )
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(parameters)):
        raise FloatingPointError(
            f"finetuning on all {n} cases of {config.task.name!r} diverged at learning rate "
            f"{rate:g}"
        )
    return Finetuned(program, parameters, fit.scaling[0], rate, arrays)


def write_network(app: Path, network: Finetuned, config: TransferStep, cuda: bool) -> None:
    """Write weights and program of a fine-tuned network: images [S, D, H, W], present [S]."""
    names, weights, structure = named_leaves(network.parameters)
    encoder, recipe = config.encoder, config.transfer.finetune
    assert encoder is not None
    assert recipe is not None
    learner, shape = learner_of(config.task), network.arrays.train.images.shape[1:]

    def forward_of(platform: Platform) -> Forward:
        compute = Compute(recipe.dtype, "none", platform)
        apply = finetuned_network(encoder, learner, shape[0], shape[1:], recipe, compute).apply

        def forward(weights: dict[str, Array], images: Array, present: Array) -> Array:
            fitted = jax.tree.unflatten(structure, [weights[name] for name in names])
            return apply(fitted, images[None], present[None])[0]

        return forward

    write_program(app, forward_of, weights, shape, cuda)


def named_leaves(parameters: Any) -> tuple[list[str], dict[str, np.ndarray], Any]:
    """Names of the leaves in order, the leaves by name, and the tree's structure."""
    leaves, structure = jax.tree.flatten_with_path(parameters)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    weights = {
        name: np.ascontiguousarray(leaf) for name, (_, leaf) in zip(names, leaves, strict=True)
    }
    return names, weights, structure


def write_program(
    app: Path,
    forward_of: Callable[[Platform], Forward],
    weights: dict[str, np.ndarray],
    shape: tuple[int, ...],
    cuda: bool,
) -> None:
    """Write weights by name and the program forward(weights, images [S, D, H, W], present [S]) of a
    platform: that of a CPU, and with `cuda` that of a GPU.
    """
    portable = exported(forward_of("cpu"), weights, shape, ("cpu", "cuda"))
    write_bytes(app / PROGRAM, bytes(portable.serialize()))
    if cuda:
        native = exported(forward_of("gpu"), weights, shape, ("cuda",))
        write_bytes(app / PROGRAM_CUDA, bytes(native.serialize()))
    write_bytes(app / "weights.safetensors", save(weights))


def exported(
    forward: Forward,
    weights: dict[str, np.ndarray],
    shape: tuple[int, ...],
    platforms: tuple[str, ...],
) -> jax.export.Exported:
    """A program of fixed shapes for these platforms.

    Raises ValueError where it calls cuDNN, and no JAX for CUDA is installed that could tell how.
    """
    images = jax.ShapeDtypeStruct(shape, jnp.float16)
    present = jax.ShapeDtypeStruct(shape[:1], jnp.bool)
    # jax does not promise that calls into cuDNN stay readable; requirements.txt pins its version.
    checks = [jax.export.DisabledSafetyCheck.custom_call(target) for target in CUDNN_ATTENTION]
    trace = jax.export.export(jax.jit(forward), platforms=platforms, disabled_checks=checks)
    try:
        return trace(weights, images, present)
    except RuntimeError as error:
        if "cuDNN" not in str(error):
            raise
        raise ValueError(
            "export --cuda of a ViT in bfloat16 calls cuDNN's attention, which the JAX that is "
            "installed here does not know; pip install 'brain-mri-scaling[cuda]' brings it, and no "
            "GPU is needed"
        ) from error


def describe(
    checkpoint: Path, config: TransferStep, network: Finetuned, contract: Contract
) -> dict[str, Any]:
    """What model.json says."""
    task = config.task
    n = len(network.arrays.train.ids)
    what = (
        f"{task.name} ({task.kind}) from {', '.join(task.sequences)}: {checkpoint.name}, "
        f"finetuned on {n} cases"
    )
    return promised(contract) | {
        "what": what,
        "task": task.name,
        "kind": task.kind,
        "sequences": list(task.sequences),
        "spacing_mm": task_volumes(task, config.data).spacing_mm,
        "shape": list(network.arrays.train.images.shape[2:]),
        "scaling": [float(value) for value in network.scaling],
        "labels": mask_labels(task),
        "prior": prior_of(network.arrays, task),
        "checkpoint": checkpoint.name,
        "pretraining_seed": config.seed,
        "finetuning_seed": f"{task.name}/{n}/0",
        "training_cases": n,
        "learning_rate": network.rate,
        "finetune": json.loads(json.dumps(dataclasses.asdict(config.transfer)["finetune"])),
        "provenance": provenance(f"{len(jax.devices())} x {jax.devices()[0].device_kind}"),
    }


def promised(contract: Contract) -> dict[str, Any]:
    """What model.json says of the contract."""
    return {
        "container": contract.name,
        "flags": contract.flags,
        "always_answers": contract.always_answers,
        "empty_masks": contract.empty_masks,
        "seconds_per_case": contract.seconds_per_case,
    }


def mask_labels(task: Task) -> list[int]:
    """Values of the labels of a mask."""
    if task.kind != "segmentation":
        return []
    return [value for _, value in named(task.classes)]


def prior_of(arrays: TaskArrays, task: Task) -> list[float]:
    """The best answer without a scan: shares of classes (of two, the second's), or the median."""
    labels = arrays.train.labels
    if task.kind == "regression":
        return [float(np.median(labels))]
    if task.kind != "classification":
        return []
    if len(task.classes) <= 2:
        return [float(labels.mean())]
    return [float((labels == index).mean()) for index in range(len(task.classes))]
