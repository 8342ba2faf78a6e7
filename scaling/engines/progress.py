"""How far a study is: bars in a terminal, lines in a log file."""

import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from scaling.runs.durations import plan_seconds
from scaling.runs.plan import Plan
from scaling.runs.steps import Step

SPEAK = 120.0  # seconds between two lines on a long step where there is no terminal


class StudyProgress:
    """Bars for the study and its step in a terminal; a line per step, and on long steps every few
    minutes, in a log.
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
        self.name, self.bar = "", self.whole
        self.began = self.spoken = time.perf_counter()

    def __enter__(self) -> "StudyProgress":
        self.display.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.display.stop()

    def begin(self, step: Step) -> None:
        """Show a bar for a step."""
        self.began = self.spoken = time.perf_counter()
        self.name = step.name
        self.bar = self.display.add_task(step.name, total=1.0)

    def advance(self, done: float, total: float) -> None:
        """Show how much of the step is done."""
        share = done / max(total, 1e-9)
        self.display.update(self.bar, completed=share)
        part = share * self.seconds[self.name]
        self.display.update(self.whole, completed=self.before + part)
        now = time.perf_counter()
        if not self.console.is_terminal and now - self.spoken > SPEAK and share > 0:
            self.spoken = now
            left = (now - self.began) * (1 - share) / share
            self.say(f"{self.name}: {share:.0%}, about {left / 60:.1f} min left")

    def end(self, step: Step, failure: str) -> None:
        """Count a step as done, or say why it failed."""
        self.display.remove_task(self.bar)
        self.skip(step)
        if failure:
            self.console.print(f"{step.name} failed: {failure}", style="red", markup=False)
        elif not self.console.is_terminal:
            seconds = time.perf_counter() - self.began
            remaining = self.display.tasks[0].time_remaining
            eta = f", about {remaining / 60:.1f} min left" if remaining else ""
            self.say(f"[{self.number}/{self.count}] {step.name}: {seconds:.1f} s{eta}")

    def skip(self, step: Step) -> None:
        """Count a step as over."""
        self.number += 1
        self.before += self.seconds[step.name]
        self.display.update(self.whole, completed=self.before)

    def postpone(self, step: Step, sentence: str) -> None:
        """Say once that a step is run by another process."""
        self.display.remove_task(self.bar)
        if step.name not in self.said:
            self.said.add(step.name)
            self.say(f"{step.name} waits: {sentence}")

    def say(self, line: str) -> None:
        self.console.print(line, markup=False)
