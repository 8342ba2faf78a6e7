"""Carry a plan out in this process, one step after the other; steps of equal shape share their
compiled programs.
"""

import os
import sys
import traceback
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jax
from rich.console import Console

from scaling.engines.progress import StudyProgress
from scaling.engines.run_step import explain, run_step
from scaling.files import remove_leftovers
from scaling.processes import signals
from scaling.processes.distributed import agreed, is_main, stop, stopping
from scaling.runs.digests import DamagedError
from scaling.runs.lock import LockedError
from scaling.runs.plan import Plan
from scaling.runs.rundir import DESCRIBING, damage_of, plan_status
from scaling.runs.steps import Step
from scaling.training.mesh import make_mesh

ROUNDS = 3  # times that damage found on the way is mended before giving up
POLL = 2.0  # seconds between two looks at a step that another process runs


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
    study_dir: Path, plan: Plan, steps: Sequence[Step], progress: StudyProgress, wait: bool
) -> Outcome:
    """Run `steps` one after the other, each once those that it needs are done or cannot be."""
    outcome = Outcome()
    queue = list(steps)
    refused = 0  # steps in a row that other processes run
    while queue:
        if refused > len(queue):
            pause(POLL)
            refused = 0
        step = next_step(queue)
        if stopping():
            stop(f"{step.name} is next")
        queue.remove(step)
        cause = outcome.cause(step)
        if cause:
            outcome.waiting.setdefault(cause, []).append(step.name)
            progress.skip(step)
            continue
        progress.begin(step)
        try:
            run_step(study_dir, plan, step, progress.advance)
        except LockedError as error:
            if wait:
                progress.postpone(step, str(error))
                queue.append(step)
                refused += 1
                continue
            outcome.failures[step.name] = str(error)
        except Exception as error:  # whatever goes wrong in one step, the others go on
            outcome.failures[step.name] = explain(error)
            outcome.damaged |= isinstance(error, DamagedError)
            leave_others_behind()
        refused = 0
        progress.end(step, outcome.failures.get(step.name, ""))
    return outcome


def next_step(queue: Sequence[Step]) -> Step:
    """The first step that needs none of those that wait."""
    waiting = {step.name for step in queue}
    return next(step for step in queue if waiting.isdisjoint(step.needs))


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
    signals.state.stop.wait(seconds)
