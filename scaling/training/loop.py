"""Pretraining: one run from where it stands to its end."""

import math
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array
from rich.console import Console

from scaling.costs.accelerators import peak_of
from scaling.data.cache import Cache
from scaling.data.pipeline import nested_subset, session_pairs
from scaling.files import replacing, write_json
from scaling.processes.distributed import agreed, is_main, meet, stop, stopping
from scaling.runs.plan import PretrainStep, Step
from scaling.runs.rundir import Progress
from scaling.study.config import Execution
from scaling.tracking.groups import group_of
from scaling.tracking.tracker import Tracker, track
from scaling.training.checkpoint import Checkpoints, load_state, newest, require_newest
from scaling.training.collapse import collapse_warning, describe_embeddings
from scaling.training.feed import Feed, training_batches
from scaling.training.heldout import (
    heldout_batches,
    heldout_crops,
    heldout_embeddings,
    heldout_loss,
    heldout_pairs,
    reconstruct_heldout,
    split_heldout,
)
from scaling.training.mesh import abstract_batch, make_mesh
from scaling.training.program import NEVER, data_key, pretraining_program


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

    Raises FloatingPointError naming the step when the loss is not finite, OSError when a checkpoint does not fit on disk, and ValueError
    when the objective needs pairs of sequences and no session has two.
    """
    folder = study_dir / step.name
    recipe = config.pretrain
    mesh = make_mesh(*step.mesh)
    program = pretraining_program(
        config.objective, config.encoder, config.decoder, recipe, mesh, execution.accumulate
    )
    end = config.end // recipe.batch
    decay_from = NEVER if config.decay_from is None else config.decay_from // recipe.batch
    root = jax.random.key(config.seed)

    # Where to start: this run's own checkpoint, else the trunk it branches off, else scratch.
    own = folder / "checkpoints"
    parent = study_dir / step.needs[0] / "checkpoints"
    checkpoint = agreed(lambda: str(newest(own) or newest(parent) or ""))
    if checkpoint:
        state = load_state(Path(checkpoint), program.abstract)
    else:
        state = program.init(jax.random.fold_in(root, 0))
        if parent.exists():
            require_newest(parent)  # a damaged trunk: starting from scratch would be another run
    meet()
    start = int(state.step)

    rows, heldout = split_heldout(cache, config.data)
    rows = nested_subset(cache, rows, config.fraction, config.seed)
    pairs = config.objective.pairs
    feed = training_batches(cache, rows, config, mesh, start, execution)
    if pairs == "sequences":
        session_pairs(cache, heldout)  # fails now rather than after training
    flops = step.flops / max(1, step.samples)
    key = data_key(config.seed)
    if jax.process_count() > 1:
        # Some find the program in the compilation cache, others take a minute longer than collectives wait for them.
        shape = config.objective.batch_shape(recipe.batch, recipe.crop)
        program.step.lower(
            state, abstract_batch(mesh, shape), key, recipe.learning_rate, decay_from, end
        ).compile()
    meet()
    began = time.perf_counter()
    with (
        track(folder, study, step, group_of(step), execution, start) as tracker,
        Checkpoints(own) as checkpoints,
    ):
        peak = peak_of(jax.devices()[0].device_kind, mesh.size)
        log = Log(tracker, recipe.batch, flops, peak, execution.log_every, end, start, feed)
        pending: tuple[int, dict[str, Array]] | None = None
        for index in range(start, end):
            state, metrics = program.step(
                state, next(feed), key, recipe.learning_rate, decay_from, end
            )
            feed.running = metrics["loss"]
            # One step late: reading a value of this step would wait for the device.
            if pending is not None:
                log.row(*pending)
            pending = (index, metrics)
            told_to_stop = stopping()
            if told_to_stop or ((index + 1) % execution.checkpoint_every == 0 and index + 1 < end):
                log.row(*pending)
                pending = None
                tracker.flush()
                checkpoints.save(index + 1, state)
            progress(float((index + 1 - start) * recipe.batch), float((end - start) * recipe.batch))
            if told_to_stop:
                checkpoints.wait()
                stop(f"{step.name} is saved after {index + 1} of {end} steps")
        if pending is not None:
            log.row(*pending)
        if start < end:
            tracker.flush()
            checkpoints.save(end, state)
            checkpoints.wait()
        seconds = time.perf_counter() - began
        crops = heldout_crops(cache, heldout, recipe)
        tried = (
            heldout_pairs(cache, heldout, recipe, config.objective)
            if pairs
            else heldout_batches(crops, recipe.batch)
        )
        embeddings = describe_embeddings(
            heldout_embeddings(program, state, crops, recipe.batch // execution.accumulate)
        )
        summary = {
            "samples": float(config.end),
            "flops": flops * config.end,
            "heldout_loss": heldout_loss(program, state, tried),
            **embeddings,
            "seconds": seconds,
            "samples_per_second": (end - start) * recipe.batch / seconds,
            "input_wait": feed.waited / seconds,
        }
        tracker.summarise(summary)
        tracker.checkpoint(own, summary)
        picture = (
            reconstruct_heldout(program, state, tried[0]) if config.decay_from is not None else None
        )
        if picture:
            original, seen, filled = picture
            if is_main():
                with (
                    replacing(folder / "reconstruction.npz") as temporary,
                    temporary.open("wb") as file,
                ):
                    np.savez(file, original=original, seen=seen, filled=filled)
            middle = np.concatenate(
                [x[:, x.shape[1] // 2, ::-1].T for x in (original, seen, filled)], axis=1
            )
            tracker.image(
                "reconstruction", "original, what the encoder sees, reconstruction", middle
            )
    temperature = getattr(config.objective, "temperature", None)
    warnings = collapse_warning(step.name, len(crops), temperature is not None, **embeddings)
    if is_main():
        for sentence in warnings:
            Console(stderr=True).print(sentence, style="yellow", markup=False)
        write_json(folder / "summary.json", {**summary, "warnings": warnings})


class Log:
    """Reads each step's metrics once they are there, stops at a loss that is not finite, and writes every `every`-th row."""

    def __init__(
        self,
        tracker: Tracker,
        batch: int,
        flops: float,
        peak: float | None,
        every: int,
        end: int,
        start: int,
        feed: Feed,
    ):
        self.tracker, self.batch, self.flops, self.peak, self.every, self.end, self.feed = (
            tracker,
            batch,
            flops,
            peak,
            every,
            end,
            feed,
        )
        self.mark = (start, time.perf_counter(), 0.0)

    def row(self, index: int, metrics: dict[str, Array]) -> None:
        values: dict[str, Any] = {
            name: float(value) for name, value in metrics.items() if name != "embeddings"
        }
        if not math.isfinite(values["loss"]):
            raise FloatingPointError(
                f"the loss of step {index} is {values['loss']}; lower pretrain.learning_rate or pretrain.clip_norm, "
                "delete this step's folder and run again"
            )
        if (index + 1) % self.every and index + 1 != self.end:
            return
        if "embeddings" in metrics:
            values |= describe_embeddings(np.asarray(metrics["embeddings"]))
        done, since, waited = self.mark
        seconds = max(time.perf_counter() - since, 1e-9)
        samples = (index + 1) * self.batch
        speed = (index + 1 - done) * self.batch / seconds
        self.tracker.log(
            {
                "step": index,
                "samples": samples,
                "flops": self.flops * samples,
                **values,
                "samples_per_second": speed,
                "flops_per_second": speed * self.flops,
                **({"utilisation": speed * self.flops / self.peak} if self.peak else {}),
                "input_wait": (self.feed.waited - waited) / seconds,
            }
        )
        self.mark = (index + 1, time.perf_counter(), self.feed.waited)
