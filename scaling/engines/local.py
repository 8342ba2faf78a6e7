"""Carry a plan out in this process, one step after the other; steps of equal shape share their
compiled programs.
"""

import os
import sys
import time
import traceback
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jax
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from scaling.engines.run_step import explain, run_step
from scaling.files import remove_leftovers
from scaling.processes.distributed import agreed, is_main, stop, stopping
from scaling.runs.digests import DamagedError
from scaling.runs.durations import plan_seconds
from scaling.runs.lock import LockedError
from scaling.runs.plan import Plan
from scaling.runs.rundir import DESCRIBING, damage_of, plan_status
from scaling.runs.steps import Step
from scaling.training.mesh import make_mesh

ROUNDS = 3  # times that damage found on the way is mended before giving up
POLL = 2.0  # seconds between two looks at a step that another process runs
SPEAK = 120.0  # seconds between two lines on a long step where there is no terminal


@dataclass
class Outcome:
    """What did not work: why steps failed, and which others wait for them."""

    failures: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, list[str]] = field(default_factory=dict)  # failed step -> those that need it
    damaged: bool = False  # whether a step met a damaged file of another

    def cause(self, step: Step) -> str:
        """The failed step that `step` has to wait for, or ""."""
        causes = [self.origin(need) for need in step.needs]
        failed = [cause for cause in causes if cause]
        if not failed or (step.kind in DESCRIBING and len(failed) < len(causes)):
            return ""  # table and report are made of whatever is done
        return failed[0]

    def origin(self, name: str) -> str:
        """The failure because of which a step is not done, or ""."""
        if name in self.failures:
            return name
        return next((cause for cause, names in self.waiting.items() if name in names), "")

    def __len__(self) -> int:
        return len(self.failures) + sum(map(len, self.waiting.values()))

    def sentences(self) -> list[str]:
        """One sentence for each failure, with how many steps wait for it."""
        lines = []
        for name, sentence in self.failures.items():
            count = len(self.waiting.get(name, ()))
            lines.append(f"{name} failed: {sentence}")
            if count:
                lines.append(f"{count} step{'s wait' if count > 1 else ' waits'} for {name}")
        return lines


def run_plan(
    study_dir: Path, plan: Plan, console: Console, chosen: Collection[str] | None = None
) -> Outcome:
    """Run what is not done yet, of the whole plan or of `chosen` steps. A failed step is recorded
    in its folder, and everything that does not need it goes on.

    A step that another process runs is waited for and taken last, unless it is among `chosen` ones:
    then it fails. Raises Stopped when this process is told to stop; running again resumes; and
    ValueError when a step's mesh asks for more devices than there are.
    """
    if is_main():
        remove_leftovers(study_dir)
    else:
        console = Console(quiet=True)
    outcome = Outcome()
    for _ in range(ROUNDS):
        waiting = unfinished(study_dir, plan, console, chosen)
        for mesh in {step.mesh for step in waiting}:
            make_mesh(*mesh)  # too few devices are told before any data is prepared
        with StudyProgress(plan, waiting, console) as progress:
            outcome = run_steps(study_dir, plan, waiting, progress, wait=chosen is None)
        if not outcome.damaged:
            break
    return outcome


def unfinished(
    study_dir: Path, plan: Plan, console: Console, chosen: Collection[str] | None
) -> list[Step]:
    """The steps to run, in the plan's order. Those whose outputs are damaged are named."""
    statuses = agreed(lambda: dict(plan_status(study_dir, plan)))
    steps = []
    for step in plan.steps:
        if statuses[step.name] != "done" and (chosen is None or step.name in chosen):
            steps.append(step)
            if statuses[step.name] == "damaged":
                sentence = f"{damage_of(study_dir, step)}; {step.name} is run again"
                console.print(sentence, style="yellow", markup=False)
    return steps


def run_steps(
    study_dir: Path, plan: Plan, steps: Sequence[Step], progress: "StudyProgress", wait: bool
) -> Outcome:
    """Run `steps`, each once those that it needs are done or cannot be."""
    outcome = Outcome()
    queue = deque(steps)
    postponed = 0  # steps in a row that could not run yet
    while queue:
        step = queue.popleft()
        if stopping():
            stop(f"{step.name} is next")
        if postponed > len(queue):
            pause(POLL)
            postponed = 0
        cause = outcome.cause(step)
        if cause:
            outcome.waiting.setdefault(cause, []).append(step.name)
            progress.skip(step)
            continue
        names = {other.name for other in queue}
        if any(need in names for need in step.needs):
            queue.append(step)
            postponed += 1
            continue
        progress.begin(step)
        try:
            run_step(study_dir, plan, step, progress.advance)
        except LockedError as error:
            if wait:
                progress.postpone(step, str(error))
                queue.append(step)
                postponed += 1
                continue
            outcome.failures[step.name] = str(error)
        except Exception as error:  # whatever goes wrong in one step, the others go on
            outcome.failures[step.name] = explain(error)
            outcome.damaged |= isinstance(error, DamagedError)
            leave_others_behind()
        postponed = 0
        progress.end(step, outcome.failures.get(step.name, ""))
    return outcome


def leave_others_behind() -> None:
    """Of several processes, end this one after a failure: the others may be waiting for it in a
    step that it has left, and jax ends them once it is gone.
    """
    if jax.process_count() > 1:
        trace = traceback.format_exc()
        print(f"process {jax.process_index()}: {trace}", file=sys.stderr, flush=True)
        os._exit(1)


def pause(seconds: float) -> None:
    """Sleep, but not when told to stop."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not stopping():
        time.sleep(0.1)


class StudyProgress:
    """Bars for the study and its step in a terminal; a line per step, and on long steps every few
    minutes, in a log.
    """

    def __init__(self, plan: Plan, steps: Sequence[Step], console: Console):
        self.console = console
        self.said: set[str] = set()
        self.count, self.number = len(steps), 0
        self.began = self.spoken = time.perf_counter()
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
        left = sum(self.seconds[step.name] for step in steps)
        self.whole = self.display.add_task("study", total=total, completed=int(total - left))
        self.before, self.weight, self.bar = total - left, 0.0, self.whole
        self.name = ""

    def __enter__(self) -> "StudyProgress":
        self.display.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.display.stop()

    def begin(self, step: Step) -> None:
        """Show a bar for a step."""
        self.began = self.spoken = time.perf_counter()
        self.name, self.weight = step.name, self.seconds[step.name]
        self.bar = self.display.add_task(step.name, total=1.0)

    def advance(self, done: float, total: float) -> None:
        """Show how much of the step is done."""
        share = done / max(total, 1e-9)
        self.display.update(self.bar, completed=share)
        self.display.update(self.whole, completed=self.before + share * self.weight)
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
