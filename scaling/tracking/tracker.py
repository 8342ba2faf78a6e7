"""Where a run's numbers go: `metrics.jsonl` in its folder, the source of truth, and a Weights &
Biases run that mirrors it.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np
import pandas as pd
import wandb

from scaling.files import explained, flush_descriptor
from scaling.processes.distributed import is_main
from scaling.runs.anonymity import without_paths
from scaling.runs.drift import resolved
from scaling.runs.steps import PretrainStep, Step, TransferStep
from scaling.study.config import Execution
from scaling.tracking.wandb_run import WandbRun, open_wandb, run_id

BLOCK = 2**16  # bytes read at once from the end of metrics.jsonl


@dataclass
class Tracker:
    """An open run. `log` takes a row of plain numbers; its "samples" entry is the x-axis in W&B,
    never W&B's own step.
    """

    lines: TextIO
    run: WandbRun | None
    quiet: set[str] = field(default_factory=lambda: {"step"})

    def log(self, row: Mapping[str, float]) -> None:
        with explained(Path(self.lines.name)):
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

    def flush(self) -> None:
        """Wait until all rows are on the disk: a checkpoint must not be newer than its metrics."""
        self.lines.flush()
        flush_descriptor(self.lines.fileno())

    def image(self, name: str, caption: str, pixels: np.ndarray) -> None:
        """Show a grey image [H, W] in W&B, scaled to its own range."""
        low, high = float(pixels.min()), float(pixels.max())
        contrast = max(high - low, 1e-6)  # an even image is black
        grey = np.uint8(255 * (pixels - low) / contrast)
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
    """The rows of a `metrics.jsonl`; none when there is no file. A last line that a kill cut short
    is left out, and so is any other line that is no row, which is named on standard error.
    """
    if not path.exists():
        return []
    rows, broken, number = [], [], 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            row = parse_row(line)
            if row is not None:
                rows.append(row)
            else:
                broken.append(number)
    warn_of(path, [line for line in broken if line != number or line_is_ended(path)])
    return rows


def line_is_ended(path: Path) -> bool:
    """Whether a file ends with a newline: its last line was written whole."""
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def parse_row(line: bytes) -> dict[str, float] | None:
    """A line of `metrics.jsonl` as a row, None when it is none: a row has a step."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) else None


def warn_of(path: Path, broken: Sequence[int]) -> None:
    """Name the lines of a file that hold no row."""
    if broken:
        lines = ", ".join(map(str, broken[:5])) + (", ..." if len(broken) > 5 else "")
        print(
            f"scaling: {path} is damaged: line {lines} holds no row of metrics and is left out",
            file=sys.stderr,
            flush=True,
        )


def keep_rows_before(path: Path, step: int) -> bool:
    """Drop what an interrupted run logged at or after `step`, and a half-written last line: a
    resumed run logs it again. Returns whether any row is left.

    Reads from the end, since only the last rows can go; the file is cut, not written anew.
    """
    if not path.exists():
        return False
    end = 0
    with path.open("rb") as file:
        for begin, line in lines_from_end(file):
            row = parse_row(line)
            if row is not None and row["step"] < step and line.endswith(b"\n"):
                end = begin + len(line)
                break
    if end < path.stat().st_size:
        with path.open("r+b") as file:
            file.truncate(end)
            flush_descriptor(file.fileno())
    return end > 0


def lines_from_end(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The lines of a file from the last to the first, each with its offset and its newline."""
    end = file.seek(0, os.SEEK_END)
    rest = b""
    while end > 0:
        begin = max(0, end - BLOCK)
        file.seek(begin)
        lines = (file.read(end - begin) + rest).splitlines(keepends=True)
        # The first may begin in the block before this one.
        rest = lines[0]
        position = begin + sum(map(len, lines))
        for line in reversed(lines[1:]):
            position -= len(line)
            yield position, line
        end = begin
    if rest:
        yield 0, rest


@contextmanager
def track(
    folder: Path, study: str, step: Step, group: str, execution: Execution, start_step: int = 0
) -> Iterator[Tracker]:
    """Open the run of a step for logging from `start_step` on: `metrics.jsonl`, and its W&B run
    with a stable id.

    Of several processes only the first writes anything.
    """
    if not is_main():
        with Path(os.devnull).open("w") as lines:
            yield Tracker(lines, None)
        return
    resumed = keep_rows_before(folder / "metrics.jsonl", start_step)
    config = resolved(step)
    shown = without_paths(config) if execution.anonymous else config
    study_dir = folder.parents[len(Path(step.name).parts) - 1]
    run = open_wandb(
        study_dir,
        execution,
        project=study,
        group=group,
        job_type=step.kind,
        name=step.name,
        id=run_id(study, step.name, config),
        resume="allow" if resumed else None,
        tags=tags(step),
        config={**shown, "parameters": step.parameters, "flops": step.flops},
    )
    failed = 1
    with (folder / "metrics.jsonl").open("a") as lines:
        tracker = Tracker(lines, run)
        try:
            yield tracker
            failed = 0
        finally:
            tracker.flush()
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
