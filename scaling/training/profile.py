"""A trace of a few training steps, for XProf, TensorBoard or Perfetto."""

from pathlib import Path

import jax
from jaxtyping import Array


class StepProfiler:
    """Traces the steps from `first` to `last` into a folder; no steps: does nothing.

    The folder opens in XProf or TensorBoard (`tensorboard --logdir FOLDER`), and its
    `perfetto_trace.json.gz` in Perfetto.
    """

    def __init__(self, folder: Path, steps: tuple[int, int] | None):
        self.folder = folder
        self.steps = steps
        self.running = False

    def before(self, step: int) -> None:
        """Start the trace where `step` is the first to be traced."""
        if self.steps is not None and step == self.steps[0]:
            jax.profiler.start_trace(str(self.folder), create_perfetto_trace=True)
            self.running = True

    def after(self, step: int, result: Array) -> None:
        """End the trace where `step` is the last, once the device has its result."""
        if self.running and self.steps is not None and step >= self.steps[1]:
            jax.block_until_ready(result)
            self.close()

    def close(self) -> None:
        """Write the trace, also of a run that ends before its last traced step."""
        if self.running:
            jax.profiler.stop_trace()
            self.running = False
