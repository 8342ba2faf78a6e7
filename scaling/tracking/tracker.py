"""Where a run's numbers go: `metrics.jsonl` in its folder, the source of truth, and a Weights & Biases run that mirrors it."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np
import pandas as pd
import wandb

from scaling.files import write_text
from scaling.processes.distributed import is_main
from scaling.runs.plan import PretrainStep, Step, TransferStep
from scaling.runs.rundir import resolved
from scaling.study.config import Execution
from scaling.tracking.wandb_run import WandbRun, open_wandb, run_id


@dataclass
class Tracker:
    """An open run. `log` takes a row of plain numbers; its "samples" entry is the x-axis in W&B, never W&B's own step."""

    lines: TextIO
    run: WandbRun | None
    quiet: set[str] = field(default_factory=lambda: {"step"})

    def log(self, row: Mapping[str, float]) -> None:
        self.lines.write(json.dumps(row) + "\n")
        self.lines.flush()
        if self.run:
            self.run.tell(
                lambda run: run.log(
                    {
                        f"train/{name}": value
                        for name, value in row.items()
                        if name not in self.quiet
                    }
                )
            )

    def image(self, name: str, caption: str, pixels: np.ndarray) -> None:
        """Show a grey image [H, W] in W&B, scaled to its own range."""
        low, high = float(pixels.min()), float(pixels.max())
        grey = np.uint8(255 * (pixels - low) / max(high - low, 1e-6))
        if self.run:
            self.run.tell(lambda run: run.log({name: wandb.Image(grey, caption=caption)}))

    def table(self, name: str, table: pd.DataFrame) -> None:
        """Show a table in W&B."""
        if self.run:
            self.run.tell(lambda run: run.log({name: wandb.Table(dataframe=table)}))

    def checkpoint(self, folder: Path, facts: Mapping[str, float]) -> None:
        """Name a checkpoint in W&B, by reference: its files stay where they are."""

        def name_it(run: wandb.Run) -> None:
            artifact = wandb.Artifact(f"checkpoint-{run.id}", "model", metadata=dict(facts))
            artifact.add_reference(folder.resolve().as_uri(), checksum=False)
            run.log_artifact(artifact)

        if self.run:
            self.run.tell(name_it)

    def summarise(self, values: Mapping[str, float]) -> None:
        """Numbers of the whole run, shown in W&B's table of runs."""
        if self.run:
            self.run.tell(lambda run: run.summary.update(dict(values)))


def read_rows(path: Path) -> list[dict[str, float]]:
    """The rows of a `metrics.jsonl`, without a last line that a kill cut short; none when there is no file."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def keep_rows_before(path: Path, step: int) -> int:
    """Drop what an interrupted run logged at or after `step`, and a half-written last line: a resumed run logs it again. Returns the
    number of rows that are left.
    """
    kept = [row for row in read_rows(path) if row["step"] < step]
    if path.exists():
        write_text(path, "".join(json.dumps(row) + "\n" for row in kept))
    return len(kept)


@contextmanager
def track(
    folder: Path, study: str, step: Step, group: str, execution: Execution, start_step: int = 0
) -> Iterator[Tracker]:
    """Open the run of a step for logging from `start_step` on: `metrics.jsonl`, and its W&B run with a stable id.

    Of several processes only the first writes anything.
    """
    if not is_main():
        with Path(os.devnull).open("w") as lines:
            yield Tracker(lines, None)
        return
    resumed = keep_rows_before(folder / "metrics.jsonl", start_step) > 0
    config = resolved(step)
    run = open_wandb(
        folder.parents[len(Path(step.name).parts) - 1], execution, project=study, group=group, job_type=step.kind, name=step.name,
        id=run_id(study, step.name, config), resume="allow" if resumed else None, tags=tags(step),
        config={**config, "parameters": step.parameters, "flops": step.flops},
    )  # fmt: skip
    failed = 1
    with (folder / "metrics.jsonl").open("a") as lines:
        try:
            yield Tracker(lines, run)
            failed = 0
        finally:
            if run:
                run.finish(failed)


def tags(step: Step) -> list[str]:
    """What a run can be found by in W&B: its objective or arm, its size, its task."""
    match step.config:
        case PretrainStep() as config:
            return [config.objective.kind, config.size]
        case TransferStep() as config:
            return list(
                dict.fromkeys(
                    word
                    for word in (config.arm, config.objective, config.size, config.task.name)
                    if word
                )
            )
        case _:
            return []
