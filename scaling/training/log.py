"""Metrics of training steps, read one step late and written as lines."""

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Array

from scaling.tracking.tracker import Tracker
from scaling.training.collapse import describe_embeddings
from scaling.training.feed import Feed


@dataclass(frozen=True)
class RunFacts:
    """What all lines of a run share."""

    start: int
    """Step that the run goes on from."""
    end: int
    """Step that the run ends at."""
    batch: int
    """Samples a step."""
    flops: float
    """Training FLOPs of a sample."""
    peak: float | None
    """FLOPs a second of all devices together at their peak, where it is known."""
    every: int
    """Steps between lines."""


class MetricsLog:
    """Writes a line every few steps, and stops the run at a loss that is not finite.

    The metrics of a step are read after the next step has been handed to the device: reading them
    at once would make the device wait for the host.
    """

    def __init__(self, tracker: Tracker, feed: Feed, facts: RunFacts):
        self.tracker, self.feed, self.facts = tracker, feed, facts
        self.pending: tuple[int, dict[str, Array]] | None = None
        self.last_step = facts.start
        self.last_time = time.perf_counter()
        self.last_waited = 0.0

    def push(self, step: int, metrics: dict[str, Array]) -> None:
        """Keep the metrics of a step, and write those of the step before."""
        self.write_pending()
        self.pending = (step, metrics)

    def flush(self) -> None:
        """Write what is pending, and wait until all lines are on the disk."""
        self.write_pending()
        self.tracker.flush()

    def write_pending(self) -> None:
        """Read the pending metrics; write their line where one is due.

        Raises FloatingPointError naming the step when its loss is not finite.
        """
        if self.pending is None:
            return
        step, metrics = self.pending
        self.pending = None
        values = plain_values(metrics)
        if not math.isfinite(values["loss"]):
            raise FloatingPointError(
                f"the loss of step {step} is {values['loss']}; lower pretrain.learning_rate or "
                "pretrain.clip_norm, delete this step's folder and run again"
            )
        due = (step + 1) % self.facts.every == 0 or step + 1 == self.facts.end
        if due or "heldout_loss" in values:
            self.tracker.log({"step": step, **self.progress_of(step), **values, **self.speed(step)})

    def progress_of(self, step: int) -> dict[str, float]:
        """Samples and FLOPs of the whole run up to a step."""
        samples = (step + 1) * self.facts.batch
        return {"samples": samples, "flops": self.facts.flops * samples}

    def speed(self, step: int) -> dict[str, float]:
        """Speeds since the line before, and the share of that time spent waiting for input."""
        now = time.perf_counter()
        seconds = max(now - self.last_time, 1e-9)
        samples_per_second = (step + 1 - self.last_step) * self.facts.batch / seconds
        flops_per_second = samples_per_second * self.facts.flops
        waited = self.feed.waited
        speeds = {
            "samples_per_second": samples_per_second,
            "flops_per_second": flops_per_second,
            "input_wait": (waited - self.last_waited) / seconds,
        }
        if self.facts.peak:
            speeds["utilisation"] = flops_per_second / self.facts.peak
        self.last_step, self.last_time, self.last_waited = step + 1, now, waited
        return speeds


def plain_values(metrics: dict[str, Array]) -> dict[str, Any]:
    """Metrics on the host: numbers as they are, embeddings by what is said of them."""
    values: dict[str, Any] = {}
    for name, value in metrics.items():
        if name == "embeddings":
            values |= describe_embeddings(np.asarray(value))
        else:
            values[name] = float(value)
    return values
