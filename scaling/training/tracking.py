"""Where a run's numbers go: `metrics.jsonl` in its folder, the source of truth, and a Weights & Biases run that mirrors it.

W&B is never a reason for a run to wait long or to fail, and its key is never written anywhere.
"""

import hashlib
import json
import netrc
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO, cast
from urllib.parse import urlparse

import numpy as np
import wandb
import wandb.errors
from rich.console import Console

from scaling.study.config import Execution
from scaling.study.plan import Step
from scaling.study.rundir import resolved, write_text

Mode = Literal["online", "offline", "disabled", "shared"]
BOUNDED_RETRIES: dict[str, Any] = {
    f"x_{service}_{limit}": value
    for service in ("file_stream", "file_transfer", "graphql")
    for limit, value in {"retry_max": 2, "retry_wait_min_seconds": 1, "retry_wait_max_seconds": 3, "timeout_seconds": 5}.items()
}


@dataclass
class Tracker:
    """An open run. `log` takes a row of plain numbers; a "samples" entry is the x-axis in W&B."""

    lines: TextIO
    run: Any
    quiet: set[str] = field(default_factory=lambda: {"step"})

    def log(self, row: Mapping[str, float]) -> None:
        self.lines.write(json.dumps(row) + "\n")
        self.lines.flush()
        if self.run is not None:
            self.run.log({f"train/{name}": value for name, value in row.items() if name not in self.quiet})

    def image(self, name: str, caption: str, pixels: np.ndarray) -> None:
        """Show a grey image [H, W] in W&B, scaled to its own range."""
        if self.run is not None:
            low, high = float(pixels.min()), float(pixels.max())
            grey = np.uint8(255 * (pixels - low) / max(high - low, 1e-6))
            self.run.log({name: wandb.Image(grey, caption=caption)})

    def summarise(self, values: Mapping[str, float]) -> None:
        """Numbers of the whole run, shown in W&B's table of runs."""
        if self.run is not None:
            self.run.summary.update(dict(values))


def keep_rows_before(path: Path, step: int) -> None:
    """Drop what an interrupted run logged at or after `step`, and a half-written last line: a resumed run logs it again."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            break
        if row["step"] < step:
            kept.append(line + "\n")
    write_text(path, "".join(kept))


@contextmanager
def track(folder: Path, study: str, step: Step, group: str, execution: Execution, start_step: int = 0) -> Iterator[Tracker]:
    """Open the run of a step for logging from `start_step` on: `metrics.jsonl`, and its W&B run with a stable id."""
    keep_rows_before(folder / "metrics.jsonl", start_step)
    run = start_wandb(folder, study, step, group, execution)
    with (folder / "metrics.jsonl").open("a") as lines:
        try:
            yield Tracker(lines, run)
        finally:
            if run is not None:
                run.finish()


def wandb_mode(execution: Execution) -> Mode:
    """Online where a key is at hand, else offline; WANDB_MODE and an explicit setting win."""
    if execution.wandb != "auto":
        return execution.wandb
    if os.environ.get("WANDB_MODE"):
        return cast(Mode, os.environ["WANDB_MODE"])
    return "online" if os.environ.get("WANDB_API_KEY") or netrc_has_key(wandb.Settings().base_url) else "offline"


def netrc_has_key(url: str) -> bool:
    """Whether `wandb login` has left a key for this server in the user's netrc file."""
    try:
        return netrc.netrc().authenticators(urlparse(url).hostname or "") is not None
    except (FileNotFoundError, netrc.NetrcParseError):
        return False


def start_wandb(folder: Path, study: str, step: Step, group: str, execution: Execution) -> Any:
    """The W&B run of a step, offline if the server cannot be had; None when disabled."""
    mode = wandb_mode(execution)
    if mode == "disabled":
        return None
    study_dir = folder.parents[len(Path(step.name).parts) - 1]
    digest = hashlib.sha256(f"{study}/{step.name}".encode()).hexdigest()[:12]
    settings = wandb.Settings(
        silent=True, console="off", disable_git=True, save_code=False, init_timeout=15, finish_timeout=15,
        x_transaction_log_flush_interval=1, **BOUNDED_RETRIES,
    )  # fmt: skip

    def start(mode: Mode) -> Any:
        return wandb.init(
            entity=execution.wandb_entity or None, project=study, group=group, job_type=step.kind, name=step.name, id=digest,
            resume="allow", mode=mode, dir=study_dir, config=resolved(step), settings=settings,
        )  # fmt: skip

    try:
        run = start(mode)
    except wandb.errors.Error as error:
        Console(stderr=True).print(f"W&B cannot be reached ({error}); logging offline in {study_dir / 'wandb'}", markup=False)
        run = start("offline")
    run.define_metric("train/samples")
    run.define_metric("train/*", step_metric="train/samples")
    return run
