"""Pretraining: one run from where it stands to its end."""

import time
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PRNGKeyArray
from rich.console import Console

from scaling.costs.accelerators import peak_of
from scaling.data.cache import Cache
from scaling.data.pipeline import nested_subset, session_pairs
from scaling.files import replacing, write_json
from scaling.processes.distributed import agreed, is_main, meet, stop, stopping
from scaling.runs.rundir import Progress
from scaling.runs.steps import PretrainStep, Step
from scaling.study.config import Execution
from scaling.tracking.groups import group_of
from scaling.tracking.tracker import Tracker, track
from scaling.training.checkpoint import Checkpoints, load_state, newest, require_newest
from scaling.training.collapse import collapse_warning, describe_embeddings
from scaling.training.feed import Feed, training_batches
from scaling.training.heldout import (
    heldout_crops,
    heldout_embeddings,
    heldout_inputs,
    heldout_loss,
    heldout_mean,
    reconstruct_heldout,
    split_heldout,
)
from scaling.training.log import MetricsLog, RunFacts
from scaling.training.mesh import abstract_batch, make_mesh
from scaling.training.profile import StepProfiler
from scaling.training.program import NEVER, Program, State, data_key, pretraining_program


@dataclass(frozen=True)
class Schedule:
    """The steps of a run, and what its program is given at each of them."""

    start: int
    """Step that the run goes on from."""
    end: int
    """Step that it ends at."""
    decay_from: int
    """Step that the learning rate decays from."""
    rate: float
    """Learning rate after warm-up."""
    key: PRNGKeyArray
    """Key of all that the run draws."""


@dataclass(frozen=True)
class HeldOut:
    """Scans that pretraining never sees, as the program reads them."""

    crops: np.ndarray
    """Central crops float16 [n, D, H, W]."""
    inputs: np.ndarray
    """Batches that the loss is evaluated on: [K, B, D, H, W], or views [K, B, V, D, H, W]."""


def pretrain(
    study_dir: Path,
    study: str,
    step: Step,
    config: PretrainStep,
    cache: Cache,
    execution: Execution,
    progress: Progress,
) -> None:
    """Train one trunk segment or cooldown in its folder up to `config.end` samples.

    Raises FloatingPointError naming the step when the loss is not finite, OSError when a checkpoint
    does not fit on disk, and ValueError when the objective needs pairs of sequences and no session
    has two.
    """
    folder = study_dir / step.name
    recipe = config.pretrain
    mesh = make_mesh(*step.mesh)
    program = pretraining_program(
        config.objective, config.encoder, config.decoder, recipe, mesh, execution.accumulate
    )
    parent = study_dir / step.needs[0] / "checkpoints"
    state = starting_state(folder / "checkpoints", parent, program, config.seed)
    meet()
    start = int(state.step)

    rows, heldout_rows = split_heldout(cache, config.data)
    rows = nested_subset(cache, rows, config.fraction, config.seed)
    feed = training_batches(cache, rows, config, mesh, start, execution)
    heldout = read_heldout(cache, heldout_rows, config)
    schedule = schedule_from(start, config)
    if jax.process_count() > 1:
        compile_together(program, state, config, mesh, schedule)
    meet()
    flops = step.flops / max(1, step.samples)
    facts = RunFacts(
        start,
        schedule.end,
        recipe.batch,
        flops,
        peak_of(jax.devices()[0].device_kind, mesh.size),
        execution.log_every,
    )
    began = time.perf_counter()
    with (
        track(folder, study, step, group_of(step), execution, start) as tracker,
        Checkpoints(folder / "checkpoints") as checkpoints,
    ):
        log = MetricsLog(tracker, feed, facts)
        profiler = StepProfiler(folder / "profile", execution.profile)
        try:
            state = train(
                step.name,
                program,
                state,
                feed,
                schedule,
                heldout,
                log,
                checkpoints,
                profiler,
                execution,
                progress,
            )
        finally:
            profiler.close()
        seconds = time.perf_counter() - began
        summary = {
            "samples": float(config.end),
            "flops": flops * config.end,
            **heldout_results(program, state, heldout, recipe.batch // execution.accumulate),
            "seconds": seconds,
            "samples_per_second": (schedule.end - start) * recipe.batch / seconds,
            "input_wait": feed.waited / seconds,
        }
        tracker.summarise(summary)
        tracker.checkpoint(folder / "checkpoints", summary)
        if config.decay_from is not None:
            keep_reconstruction(folder, tracker, program, state, heldout)
    write_summary(folder, step.name, config, len(heldout.crops), summary)


def read_heldout(cache: Cache, rows: np.ndarray, config: PretrainStep) -> HeldOut:
    """The held-out scans of a run. Raises ValueError when the objective needs pairs of sequences
    and no session of theirs has two.
    """
    if config.objective.pairs == "sequences":
        session_pairs(cache, rows)  # fails now rather than after training
    return HeldOut(
        heldout_crops(cache, rows, config.pretrain),
        heldout_inputs(cache, rows, config.pretrain, config.objective),
    )


def schedule_from(start: int, config: PretrainStep) -> Schedule:
    """The steps of a run that goes on from `start`; samples are counted in batches."""
    recipe = config.pretrain
    return Schedule(
        start=start,
        end=config.end // recipe.batch,
        decay_from=NEVER if config.decay_from is None else config.decay_from // recipe.batch,
        rate=recipe.learning_rate,
        key=data_key(config.seed),
    )


def heldout_results(
    program: Program, state: State, heldout: HeldOut, batch: int
) -> dict[str, float]:
    """The loss on held-out scans, and whether their embeddings differ."""
    embeddings = heldout_embeddings(program, state, heldout.crops, batch)
    loss = heldout_loss(program, state, heldout.inputs)
    return {"heldout_loss": loss, **describe_embeddings(embeddings)}


def write_summary(
    folder: Path, name: str, config: PretrainStep, scans: int, summary: dict[str, float]
) -> None:
    """Write `summary.json`; where the embeddings have collapsed, warn in it and on the terminal."""
    has_temperature = getattr(config.objective, "temperature", None) is not None
    spread = {key: summary[key] for key in ("embedding_rank", "embedding_std")}
    warnings = collapse_warning(name, scans, has_temperature, **spread)
    if is_main():
        for sentence in warnings:
            Console(stderr=True).print(sentence, style="yellow", markup=False)
        write_json(folder / "summary.json", {**summary, "warnings": warnings})


def starting_state(checkpoints: Path, parent: Path, program: Program, seed: int) -> State:
    """Where a run starts: its own checkpoint, else the trunk it branches off, else scratch."""
    checkpoint = agreed(lambda: str(newest(checkpoints) or newest(parent) or ""))
    if checkpoint:
        return load_state(Path(checkpoint), program.abstract)
    if parent.exists():
        require_newest(parent)  # a damaged trunk: starting from scratch would be another run
    return program.init(jax.random.fold_in(jax.random.key(seed), 0))


def compile_together(
    program: Program, state: State, config: PretrainStep, mesh: Mesh, schedule: Schedule
) -> None:
    """Compile the step in all processes before any runs it.

    Some find the program in the compilation cache; others take a minute longer than collectives
    wait for them.
    """
    recipe = config.pretrain
    shape = config.objective.batch_shape(recipe.batch, recipe.crop)
    batch = abstract_batch(mesh, shape)
    program.step.lower(
        state, batch, schedule.key, schedule.rate, schedule.decay_from, schedule.end
    ).compile()


def train(
    name: str,
    program: Program,
    state: State,
    feed: Feed,
    schedule: Schedule,
    heldout: HeldOut,
    log: MetricsLog,
    checkpoints: Checkpoints,
    profiler: StepProfiler,
    execution: Execution,
    progress: Progress,
) -> State:
    """The training loop: one compiled step after the other, saved now and then. Returns the state
    at the end, which is saved. Raises `Stopped` once a run that was told to stop is saved.
    """
    start, end = schedule.start, schedule.end
    batch = log.facts.batch
    evaluated = evaluation_steps(end, execution.heldout_evaluations)
    for index in range(start, end):
        profiler.before(index)
        state, metrics = program.step(
            state, next(feed), schedule.key, schedule.rate, schedule.decay_from, end
        )
        if index + 1 in evaluated:
            # On the device, behind the step: the log reads it one step late, as all metrics.
            metrics = metrics | {"heldout_loss": heldout_mean(program, state, heldout.inputs)}
        newest_result = metrics.get("heldout_loss", metrics["loss"])
        feed.running = newest_result
        log.push(index, metrics)
        profiler.after(index, newest_result)
        told_to_stop = stopping()
        if told_to_stop or ((index + 1) % execution.checkpoint_every == 0 and index + 1 < end):
            log.flush()
            checkpoints.save(index + 1, state)
        progress(float((index + 1 - start) * batch), float((end - start) * batch))
        if told_to_stop:
            checkpoints.wait()
            stop(f"{name} is saved after {index + 1} of {end} steps")
    if start < end:
        log.flush()
        checkpoints.save(end, state)
        checkpoints.wait()
    return state


def evaluation_steps(end: int, evaluations: int) -> frozenset[int]:
    """Numbers of steps done after which the held-out loss is evaluated: evenly spaced, without the
    end, which is evaluated anyway. A trunk's segments take those of the run that they are part of.
    """
    steps = set()
    for number in range(1, evaluations + 1):
        steps.add(round(end * number / (evaluations + 1)))
    return frozenset(steps - {0, end})


def keep_reconstruction(
    folder: Path, tracker: Tracker, program: Program, state: State, heldout: HeldOut
) -> None:
    """Keep a held-out volume, what the encoder saw of it and its reconstruction, each [D, H, W],
    where the objective reconstructs.
    """
    picture = reconstruct_heldout(program, state, heldout.inputs[0])
    if picture is None:
        return
    original, seen, filled = picture
    if is_main():
        with (
            replacing(folder / "reconstruction.npz") as temporary,
            temporary.open("wb") as file,
        ):
            np.savez(file, original=original, seen=seen, filled=filled)
    # The middle sagittal-to-coronal planes side by side: [W, 3 * D] pixels, the head upright.
    planes = [volume[:, volume.shape[1] // 2, ::-1].T for volume in picture]
    caption = "original, what the encoder sees, reconstruction"
    tracker.image("reconstruction", caption, np.concatenate(planes, axis=1))
