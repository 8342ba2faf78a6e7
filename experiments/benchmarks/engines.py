"""What does the machinery around training cost?

Shows, on the study of the tests and on a ViT of size s (48^3 crops, batch 16): seconds per step of
a plan that the local engine takes beyond training, and SLURM beyond the queue and the step itself;
how often a step's program is compiled; seconds from the command to the first training step; samples
per second of 1, 2, 4 and 8 virtual devices at one global batch; how long a save holds training up.
What is compared runs in turns; figures are medians. Costs: four to ten CPU minutes; with SLURM
about as long again. Commands:

    python experiments/benchmarks/engines.py
    python experiments/benchmarks/engines.py FACTS.toml    # SLURM alone, where it is at hand
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

os.environ |= {
    "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
    "JAX_PLATFORMS": "cpu",
    "WANDB_MODE": "disabled",
}

import jax
import numpy as np
from rich.console import Console

from scaling.engines import slurm
from scaling.engines.jobs import load_cluster, make_jobs
from scaling.engines.local import run_plan
from scaling.files import read_json
from scaling.processes.malloc import keep_freed_memory
from scaling.runs.experiment import freeze, load_study
from scaling.runs.plan import make_plan
from scaling.runs.rundir import attempts, plan_status
from scaling.runs.steps import PretrainStep
from scaling.study.config import Execution, Mae, Pretrain, ViT
from scaling.study.ladder import resolve_decoder, resolve_encoder
from scaling.training.checkpoint import Checkpoints
from scaling.training.mesh import global_batch, make_mesh
from scaling.training.program import NEVER, pretraining_program

STUDY = Path(__file__).parents[2] / "tests" / "micro_study.py"
RECIPE = Pretrain(crop=(48, 48, 48), batch=16, warmup=16)
MESHES = ((1, 1), (2, 1), (4, 1), (8, 1), (1, 8))
ROUNDS, SAVES = 15, 7


def main(facts: str = "") -> None:
    """Print a line for each figure."""
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chdir(folder)
        if facts:
            through_slurm(folder, Path(facts))
            return
        checkpoints(folder / "saved")
        meshes()
        local(folder)
        starts(folder)


def local(folder: Path) -> None:
    """The pretraining of a second seed, whose programs are there: seconds beyond training loops;
    and what both compile.
    """
    plan = make_plan(load_study(STUDY, ["seeds=[0,1]"]))
    study_dir = folder / "runs/micro"
    freeze(plan.study, study_dir)
    data = [step for step in plan.steps if step.kind in ("phantom", "prepare")]
    runs = [step for step in plan.steps if isinstance(step.config, PretrainStep)]
    first, second = runs[: len(runs) // 2], runs[len(runs) // 2 :]
    compiled: list[str] = []

    def count(event: str, duration_secs: float, **about: str | int) -> None:
        if event.endswith("backend_compile_duration"):
            compiled.append(str(about.get("fun_name")))

    jax.monitoring.register_event_duration_secs_listener(count)
    counts = []
    for steps in (data, first, second):
        began, before = time.perf_counter(), len(compiled)
        failures = run_plan(study_dir, plan, Console(quiet=True), [step.name for step in steps])
        assert not failures, failures
        taken = time.perf_counter() - began
        counts.append(len(compiled) - before)
    training = sum(read_json(study_dir / step.name / "summary.json")["seconds"] for step in second)
    print(
        f"local engine: {(taken - training) / len(second):.2f} s a step beyond training, held-out "
        "evaluation included"
    )
    own = compiled.count("jit(step)")
    print(
        f"compilations: {own} of the training step in {len(runs)} runs; {counts[1]} of all "
        f"programs for the first seed, then {counts[2]}"
    )


def starts(folder: Path) -> None:
    """From the command to the first training step, once without and five times with what was
    compiled before.
    """
    step = next(step for step in make_plan(load_study(STUDY)).steps if step.kind == "trunk")
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XLA_FLAGS": "",
    }
    rows = folder / "runs/micro" / step.name / "metrics.jsonl"
    seconds = []
    for _ in range(6):
        subprocess.run(["rm", "-rf", rows.parent], check=True)
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "scaling", "step", str(STUDY), step.name],
            env=os.environ | cache,
            stdout=subprocess.DEVNULL,
        )
        while not rows.exists() or not rows.read_text():
            assert process.poll() is None, "it ended without a step"
            time.sleep(0.02)
        seconds.append(time.perf_counter() - began)
        process.wait()
    print(
        f"start to first step: {seconds[0]:.1f} s, {np.median(seconds[1:]):.1f} s with its "
        "programs in the compilation cache"
    )


def training(mesh_shape: tuple[int, int]) -> Callable[[], Any]:
    """A function that does one training step on a mesh and gives its state, already compiled."""
    mesh = make_mesh(*mesh_shape)
    program = pretraining_program(
        Mae(), resolve_encoder(ViT(), "s"), resolve_decoder(ViT()), RECIPE, mesh
    )
    state, key = program.init(jax.random.key(0)), jax.random.key(1)
    batch = np.random.default_rng(0).normal(size=(RECIPE.batch, *RECIPE.crop)).astype(np.float16)

    def step() -> Any:
        nonlocal state
        state, metrics = program.step(state, global_batch(mesh, batch), key, 1.5e-3, NEVER, NEVER)
        jax.block_until_ready(metrics)
        return state

    step()
    return step


def clock(call: Callable[[], object]) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def meshes() -> None:
    """Steps of one global batch on virtual devices of the same cores, in turns."""
    steps = [training(shape) for shape in MESHES]
    seconds = np.array([[clock(step) for step in steps] for _ in range(ROUNDS)])
    ratios = np.median(seconds[:, :1] / seconds, axis=0)
    each = ", ".join(
        f"{replica} x {fsdp}: {ratio:.2f}"
        for (replica, fsdp), ratio in zip(MESHES, ratios, strict=True)
    )
    print(
        "samples per second of (replica x fsdp) devices, one device "
        f"({RECIPE.batch / np.median(seconds[:, 0]):.0f}) = 1: {each}"
    )


def checkpoints(folder: Path) -> None:
    """How long a save holds training up: the call itself, and by how much the steps that run beside
    the writing are slower.
    """
    step = training((1, 1))
    alone, beside, calls = [], [], []
    with Checkpoints(folder) as saved:
        for number in range(SAVES):
            alone.append(sum(clock(step) for _ in range(5)))
            calls.append(clock(partial(saved.save, number, step())))
            beside.append(sum(clock(step) for _ in range(5)))
            saved.wait()
    stall = float(np.median(calls[1:]) + max(0.0, np.median(np.array(beside) - np.array(alone))))
    every = Execution().checkpoint_every
    between = every * float(np.median(alone)) / 5
    print(
        f"checkpoint: {np.median(calls[1:]):.3f} s a save, {stall:.3f} s with slower steps: "
        f"{stall / between:.2%} of {every} steps"
    )


def through_slurm(folder: Path, facts: Path) -> None:
    """The study as jobs: from a job's first line to its last step's end, beyond the seconds of the
    steps themselves.
    """
    cluster = load_cluster(facts)
    cluster = replace(cluster, setup=(*cluster.setup, 'date "+began %s.%N"'))
    plan = make_plan(load_study(STUDY))
    study_dir = folder / "runs/micro"
    freeze(plan.study, study_dir)
    slurm.submit(study_dir, plan, plan_status(study_dir, plan), cluster)
    while slurm.queued(study_dir):
        time.sleep(1)
    beyond = {}
    for job in make_jobs(plan):
        log = (study_dir / "jobs" / f"{job.name.replace('/', '_')}.log").read_text()
        assert all((study_dir / step.name / "DONE").exists() for step in job.steps), log
        (began,) = [
            float(line.split()[1]) for line in log.splitlines() if line.startswith("began ")
        ]
        ended = max((study_dir / step.name / "DONE").stat().st_mtime for step in job.steps)
        beyond[job.name] = (
            ended
            - began
            - sum(
                attempt["seconds"]
                for step in job.steps
                for attempt in attempts(study_dir / step.name)
            )
        )
    steps = len(plan.steps)
    print(json.dumps({name: round(seconds, 2) for name, seconds in beyond.items()}))
    print(
        f"SLURM: {np.median(list(beyond.values())):.1f} s a job beyond its steps (most "
        f"{max(beyond.values()):.1f}), "
        f"{sum(beyond.values()) / steps:.1f} s a step of {steps} in {len(beyond)} jobs"
    )


if __name__ == "__main__":
    main(*(str(Path(argument).resolve()) for argument in sys.argv[1:2]))
