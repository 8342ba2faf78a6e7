"""What `acceptance.py` measures around a training step: waiting, saving, kill and resume, and a
study beside its plan.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from acceptance_input import random_cache
from acceptance_steps import Figures, accelerator_here, built, random_batch, recipe_of

from scaling.costs.accelerators import ACCELERATORS
from scaling.data.pipeline import batches, draw_crops
from scaling.files import read_json
from scaling.runs.durations import estimated_seconds, seconds_measured
from scaling.runs.experiment import load_study
from scaling.runs.plan import Plan, make_plan
from scaling.runs.rundir import plan_status
from scaling.runs.steps import PretrainStep
from scaling.training.checkpoint import Checkpoints
from scaling.training.feed import Feed
from scaling.training.mesh import global_batch
from scaling.training.program import NEVER

# The cohort is written by the host, and says nothing of the device.
FEW_SUBJECTS = (
    "data.phantom.pretraining_subjects=48",
    'data.phantom.infarct={"train":24,"test":12}',
    'data.phantom.meningioma={"train":24,"test":12}',
    'data.phantom.brain_age={"train":24,"test":12}',
    "data.split.test_subjects=12",
    "tasks.2.shots=[24]",
)
ROOT = Path(__file__).parents[2]
MICRO = ROOT / "tests" / "micro_study.py"


def input_wait(
    size: str = "l", crop: int = 96, batch: int = 16, dtype: str = "bfloat16", steps: int = 200
) -> Figures:
    """Share of the time that a device waits for crops which the host reads, and how many it
    takes.
    """
    recipe = recipe_of(crop, batch, dtype)
    program, mesh, *_ = built("vit", size, recipe)
    cache = random_cache(16, crop)
    draw = draw_crops(cache, np.arange(16), recipe.crop, batch, seed=0)
    read = batches(cache, recipe.crop, draw, batch, start_step=0)
    feed = Feed(global_batch(mesh, local) for local in read)
    state = program.init(jax.random.key(0))
    for step in range(steps + 3):
        if step == 3:  # compiled, and the reading runs
            jax.block_until_ready(state)
            began, before = time.perf_counter(), feed.waited
        state, metrics = program.step(state, next(feed), jax.random.key(1), 1e-3, NEVER, NEVER)
        feed.running = metrics["loss"]
    jax.block_until_ready(state)
    seconds = time.perf_counter() - began
    return {
        "crops a second": steps * batch / seconds,
        "input wait": (feed.waited - before) / seconds,
        "cores": os.cpu_count(),
    }


def save_stall(
    size: str = "2xl", crop: int = 96, batch: int = 16, dtype: str = "bfloat16", steps: int = 10
) -> Figures:
    """How long a save holds training up: the call, and by how much the steps beside the writing
    are slower.
    """
    recipe = recipe_of(crop, batch, dtype)
    program, mesh, *_ = built("vit", size, recipe)
    volumes, key = random_batch(recipe, mesh), jax.random.key(1)
    state = program.init(jax.random.key(0))

    def several() -> None:
        nonlocal state
        for _ in range(steps):
            state, _ = program.step(state, volumes, key, 1e-3, NEVER, NEVER)
        jax.block_until_ready(state)

    def clock(call: Callable[[], None]) -> float:
        began = time.perf_counter()
        call()
        return time.perf_counter() - began

    several()  # compile
    alone, calls, beside, whole = [], [], [], []
    with tempfile.TemporaryDirectory() as name, Checkpoints(Path(name) / "saved") as checkpoints:
        for number in range(4):
            alone.append(clock(several))
            began = time.perf_counter()
            checkpoints.save(number, state)
            calls.append(time.perf_counter() - began)
            beside.append(clock(several))
            checkpoints.wait()
            whole.append(time.perf_counter() - began)
    size_of_state = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    return {
        "GB saved": size_of_state / 1e9,
        "seconds of the call": float(np.median(calls[1:])),
        "seconds of slower steps": float(np.median(np.subtract(beside, alone)[1:])),
        "seconds until it is on the disk": float(np.median(whole[1:])),
    }


def scaling_process(arguments: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """The command line of this package, started in a folder."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-m", "scaling", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
    )


def kill_and_resume(samples: int = 3200) -> Figures:
    """Whether a run that was told to stop and one that was killed end with the bits of one that
    was not, on this device with `execution.deterministic`.
    """
    overrides = [f"durations=[{samples}]", "execution.deterministic=true"]
    plan = make_plan(load_study(MICRO, overrides))
    trunk = next(step for step in plan.steps if step.kind == "trunk")
    losses = []
    with tempfile.TemporaryDirectory() as name:
        for number, sent in enumerate((None, signal.SIGTERM, signal.SIGKILL)):
            folder = Path(name) / str(number)
            folder.mkdir()
            command = ["step", str(MICRO), "phantom", "prepare", trunk.name]
            for override in overrides:
                command += ["--set", override]
            process = scaling_process(command, folder)
            rows = folder / "runs" / "micro" / trunk.name / "metrics.jsonl"
            if sent is not None:
                while process.poll() is None and lines_of(rows) < trunk.steps // 2:
                    time.sleep(0.01)
                process.send_signal(sent)
                process.wait()
                process = scaling_process(command, folder)
            assert process.wait() == 0, f"the run ended with exit code {process.returncode}"
            losses.append([json.loads(line)["loss"] for line in rows.read_text().splitlines()])
    return {
        "steps": trunk.steps,
        "equal after SIGTERM": str(losses[1] == losses[0]),
        "equal after SIGKILL": str(losses[2] == losses[0]),
    }


def lines_of(file: Path) -> int:
    """Lines of a file; 0 where there is none."""
    return len(file.read_text().splitlines()) if file.exists() else 0


def study_against_plan(scale: str = "small", minutes: float = 6.0) -> Figures:
    """A study for some minutes: what its finished steps took, over what the plan said of them."""
    experiment, overrides = MICRO, []
    if scale:
        experiment, overrides = ROOT / "experiments" / "fomo25.py", list(FEW_SUBJECTS)
    accelerator = accelerator_here()
    overrides.append(f"execution.accelerator={accelerator}")
    plan = make_plan(load_study(experiment, overrides, scale or None))
    command = ["run", str(experiment), *(["--scale", scale] if scale else [])]
    for override in overrides:
        command += ["--set", override]
    with tempfile.TemporaryDirectory() as name:
        process = scaling_process(command, Path(name))
        try:
            process.wait(60 * minutes)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            process.wait()
        return ratios(Path(name) / "runs" / plan.study.name, plan, accelerator)


def ratios(study_dir: Path, plan: Plan, accelerator: str) -> Figures:
    """Seconds that the finished steps took over those of the plan, by kind, and how fast the
    pretraining was.
    """
    measured = seconds_measured(study_dir, plan, plan_status(study_dir, plan))
    estimated = estimated_seconds(plan)
    figures: Figures = {"steps done": len(measured), "steps": len(plan.steps)}
    for kind in dict.fromkeys(step.kind for step in plan.steps):
        names = [step.name for step in plan.steps if step.kind == kind and step.name in measured]
        if names:
            taken = sum(measured[name] for name in names)
            figures[f"{kind}, of the plan"] = taken / sum(estimated[name] for name in names)
    peak = ACCELERATORS[accelerator].peak
    for step in plan.steps:
        if isinstance(step.config, PretrainStep) and step.name in measured:
            summary = read_json(study_dir / step.name / "summary.json")
            flops = summary["samples_per_second"] * step.flops / step.samples
            figures[f"utilisation, {step.config.size}"] = flops / peak
    return figures
