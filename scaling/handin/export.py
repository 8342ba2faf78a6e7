"""A pretrained checkpoint as something to hand in: finetuned on all labelled cases of a task, as a program with its weights.

OUT/Apptainer.def            how to build the image
OUT/app/predict.py           what the challenge calls, once per case
OUT/app/requirements.txt     what it needs, every version pinned; no training package
OUT/app/scaling/             the study's own reading and preprocessing, copied
OUT/app/program.bin          the network, encoder and head, of fixed shapes, for CPU and CUDA (StableHLO by `jax.export`)
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
from scaling.files import write_json
from scaling.handin.container import write_container
from scaling.runs.finished import finished_run
from scaling.runs.plan import TransferStep
from scaling.runs.rundir import provenance
from scaling.study.config import Finetune, Shape3
from scaling.transfer.finetune import fit_rows
from scaling.transfer.finetune_program import FinetuneProgram, finetune_program
from scaling.transfer.kinds import learner_of
from scaling.transfer.rows import Row, in_classes, row_keys
from scaling.transfer.run import load_encoder


class Finetuned(NamedTuple):
    """A network finetuned once: its parameters, the `scaling` (mean, deviation) of what it predicts, the learning rate."""

    program: FinetuneProgram
    parameters: Any
    scaling: np.ndarray
    rate: float
    arrays: TaskArrays


def export(checkpoint: Path, task: str, out: Path, cuda: bool = False) -> dict[str, Any]:
    """Finetune a finished cooldown of a study on all labelled training cases of `task` and write the container's content to `out`.

    `checkpoint` is the cooldown's folder; data, grid and recipe are those of its study. With `cuda` the requirements have jax for an
    NVIDIA GPU. Returns what model.json says. Raises FileExistsError when `out` has content and ValueError when the study has no such
    task or no finetuning.
    """
    checkpoint = checkpoint.resolve()
    return hand_in(checkpoint, transfer_config(checkpoint, task), out, cuda)


def hand_in(checkpoint: Path, config: TransferStep, out: Path, cuda: bool) -> dict[str, Any]:
    """`export` of a cooldown by one config."""
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out} is not empty; name a new folder, or delete it")
    network = finetune_on_all(checkpoint, config)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    app = partial / "app"
    app.mkdir(parents=True)
    write_network(app, network, config)
    description = describe(checkpoint, config, network)
    write_json(app / "model.json", description)
    write_container(partial, config.task.name, description["what"], cuda)
    subprocess.run([sys.executable, "predict.py", "--warm"], cwd=app, check=True)
    os.replace(partial, out)
    return description


def transfer_config(checkpoint: Path, task: str) -> TransferStep:
    """How the study of a finished cooldown tries it on `task`. Raises ValueError, saying what there is."""
    plan, run = finished_run(checkpoint)
    transfers = {step.name: step.config for step in plan.steps}
    config = transfers.get(f"transfer/{checkpoint.name}-{task}")
    if run.decay_from is None or not isinstance(config, TransferStep):
        tasks = ", ".join(other.name for other in plan.study.tasks)
        raise ValueError(
            f"{plan.study.name} does not try {checkpoint.name} on {task!r}; name a cooldown, not a trunk, and one of {tasks}"
        )
    if config.transfer.finetune is None:
        raise ValueError(
            f"{plan.study.name} does not finetune (transfer.finetune is left out): there is no recipe to export by"
        )
    return config


def finetune_on_all(checkpoint: Path, config: TransferStep) -> Finetuned:
    """Finetune on all labelled training cases as one draw of that many shots, by the study's recipe.

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
    program = finetune_program(config.encoder, learner, len(config.task.sequences), shape, recipe)
    encoder = load_encoder(config.encoder, config.seed, checkpoint / "checkpoints")
    rows = [Row(n, 0, in_classes(arrays.train, config.task))]
    fit = next(
        fit_rows(
            program,
            encoder,
            arrays.train,
            rows,
            row_keys(config.task, rows),
            learner,
            recipe,
        )
    )
    parameters, rate = (
        jax.tree.map(lambda leaf: np.asarray(leaf[0]), fit.parameters),
        float(fit.rates[0]),
    )
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(parameters)):
        raise FloatingPointError(
            f"finetuning on all {n} cases of {config.task.name!r} diverged at learning rate {rate:g}"
        )
    return Finetuned(program, parameters, fit.scaling[0], rate, arrays)


def write_network(app: Path, network: Finetuned, config: TransferStep) -> None:
    """Write the weights by name, and the program that takes them and one session: images [S, D, H, W], present [S]."""
    leaves, structure = jax.tree.flatten_with_path(network.parameters)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    weights = {
        name: np.ascontiguousarray(leaf) for name, (_, leaf) in zip(names, leaves, strict=True)
    }

    def forward(weights: dict[str, Array], images: Array, present: Array) -> Array:
        fitted = jax.tree.unflatten(structure, [weights[name] for name in names])
        return network.program.apply(fitted, images[None], present[None])[0]

    images = jax.ShapeDtypeStruct(network.arrays.train.images.shape[1:], jnp.float16)
    present = jax.ShapeDtypeStruct((len(config.task.sequences),), jnp.bool)
    exported = jax.export.export(jax.jit(forward), platforms=("cpu", "cuda"))(
        weights, images, present
    )
    (app / "program.bin").write_bytes(exported.serialize())
    (app / "weights.safetensors").write_bytes(save(weights))


def describe(checkpoint: Path, config: TransferStep, network: Finetuned) -> dict[str, Any]:
    """What model.json says."""
    task, volumes = config.task, config.data.volumes
    n = len(network.arrays.train.ids)
    return {
        "what": f"{task.name} ({task.kind}) from {', '.join(task.sequences)}: {checkpoint.name}, finetuned on {n} cases",
        "task": task.name,
        "kind": task.kind,
        "sequences": list(task.sequences),
        "spacing_mm": volumes.spacing_mm,
        "shape": list(volumes.shape),
        "scaling": [float(value) for value in network.scaling],
        "checkpoint": checkpoint.name,
        "pretraining_seed": config.seed,
        "finetuning_seed": f"{task.name}/{n}/0",
        "training_cases": n,
        "learning_rate": network.rate,
        "finetune": json.loads(json.dumps(dataclasses.asdict(config.transfer)["finetune"])),
        "provenance": provenance(f"{len(jax.devices())} x {jax.devices()[0].device_kind}"),
    }
