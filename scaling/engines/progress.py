"""How far a study is: bars in a terminal, lines in a log file."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from scaling.runs.durations import plan_seconds
from scaling.runs.plan import Plan
from scaling.runs.steps import Step

SPEAK = 120.0  # seconds between two lines on a long step where there is no terminal


@dataclass
class Bar:
    """A step that runs."""

    task: TaskID
    began: float
    spoken: float
    share: float = 0.0


class StudyProgress:
    """Bars for the study and the steps that run, in a terminal; a line per step, and on long steps
    every few minutes, in a log.
    """

    def __init__(self, plan: Plan, steps: Sequence[Step], console: Console):
        self.console = console
        self.said: set[str] = set()
        self.count, self.number = len(steps), 0
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        self.display = Progress(
            *columns,
            console=console,
            speed_estimate_period=600,
            disable=not console.is_terminal,
        )
        # After a resume the bar starts where the study is.
        self.seconds = plan_seconds(plan)
        total = sum(self.seconds.values())
        self.before = total - sum(self.seconds[step.name] for step in steps)
        self.whole = self.display.add_task("study", total=total, completed=int(self.before))
        self.bars: dict[str, Bar] = {}

    def __enter__(self) -> "StudyProgress":
        self.display.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.display.stop()

    def begin(self, step: Step) -> None:
        """Show a bar for a step."""
        now = time.perf_counter()
        self.bars[step.name] = Bar(self.display.add_task(step.name, total=1.0), now, now)

    def advance(self, step: Step, done: float, total: float) -> None:
        """Show how much of a step is done."""
        bar = self.bars[step.name]
        bar.share = done / max(total, 1e-9)
        self.display.update(bar.task, completed=bar.share)
        self.show_whole()
        now = time.perf_counter()
        if not self.console.is_terminal and now - bar.spoken > SPEAK and bar.share > 0:
            bar.spoken = now
            left = (now - bar.began) * (1 - bar.share) / bar.share
            self.say(f"{step.name}: {bar.share:.0%}, about {left / 60:.1f} min left")

    def end(self, step: Step, failure: str) -> None:
        """Count a step as done, or say why it failed."""
        bar = self.bars.pop(step.name)
        self.display.remove_task(bar.task)
        self.skip(step)
        if failure:
            self.console.print(f"{step.name} failed: {failure}", style="red", markup=False)
        elif not self.console.is_terminal:
            seconds = time.perf_counter() - bar.began
            remaining = self.display.tasks[0].time_remaining
            eta = f", about {remaining / 60:.1f} min left" if remaining else ""
            self.say(f"[{self.number}/{self.count}] {step.name}: {seconds:.1f} s{eta}")

    def skip(self, step: Step) -> None:
        """Count a step as over."""
        self.number += 1
        self.before += self.seconds[step.name]
        self.show_whole()

    def postpone(self, step: Step, sentence: str) -> None:
        """Say once that a step is run by another process."""
        self.display.remove_task(self.bars.pop(step.name).task)
        if step.name not in self.said:
            self.said.add(step.name)
            self.say(f"{step.name} waits: {sentence}")

    def show_whole(self) -> None:
        """Move the study's bar to where its steps are."""
        running = list(self.bars.items())  # steps in other threads come and go
        part = sum(self.seconds[name] * bar.share for name, bar in running)
        self.display.update(self.whole, completed=self.before + part)

    def say(self, line: str) -> None:
        self.console.print(line, markup=False)
