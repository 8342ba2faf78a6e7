"""Carry a plan out in this process, one step after the other; steps of equal shape share their compiled programs."""

import os
import sys
import time
import traceback
from collections.abc import Collection
from pathlib import Path

import jax
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from scaling.engines.run_step import explain, run_step
from scaling.processes.distributed import agreed, is_main, leave, stopping
from scaling.runs.plan import Plan, Step
from scaling.runs.rundir import plan_status

# Seconds a step is expected to take beyond its FLOPs: compiling, reading, fitting. Only the ETA depends on it.
OVERHEAD = {
    "phantom": 60.0,
    "prepare": 30.0,
    "trunk": 3.0,
    "cooldown": 3.0,
    "transfer": 5.0,
    "collect": 1.0,
    "report": 15.0,
}
CPU_FLOPS = 5e10


def run_plan(
    study_dir: Path, plan: Plan, console: Console, chosen: Collection[str] | None = None
) -> list[str]:
    """Run what is not done yet, of the whole plan or of `chosen` steps. A failed step is recorded in its folder and everything
    that does not need it goes on.

    Returns a sentence per step that failed or had to be left out. KeyboardInterrupt passes: rerunning resumes.
    """
    unfinished = agreed(
        lambda: [name for name, status in plan_status(study_dir, plan).items() if status != "done"]
    )
    waiting = [
        step
        for step in plan.steps
        if step.name in unfinished and (chosen is None or step.name in chosen)
    ]
    if not is_main():
        console = Console(quiet=True)
    failures: dict[str, str] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
               TimeElapsedColumn(), TextColumn("ETA"), TimeRemainingColumn(elapsed_when_finished=True))  # fmt: skip
    with Progress(
        *columns, console=console, speed_estimate_period=600, disable=not console.is_terminal
    ) as display:
        whole = display.add_task("study", total=sum(map(expected_seconds, waiting)))
        for number, step in enumerate(waiting, start=1):
            if stopping():
                leave(f"{step.name} is next")
            lost = [need for need in step.needs if need in failures]
            weight = expected_seconds(step)
            if lost and step.kind not in ("collect", "report"):
                failures[step.name] = f"{step.name} was left out because {lost[0]} failed"
                display.advance(whole, weight)
                continue
            bar = display.add_task(step.name, total=1.0)
            before = display.tasks[0].completed
            began = time.perf_counter()

            def advance(
                done: float,
                total: float,
                bar: int = bar,
                before: float = before,
                weight: float = weight,
            ) -> None:
                share = done / max(total, 1e-9)
                display.update(bar, completed=share)  # type: ignore[arg-type]
                display.update(whole, completed=before + share * weight)

            try:
                run_step(study_dir, plan, step, advance)
            except Exception as error:  # whatever goes wrong in one step, the others go on
                failures[step.name] = f"{step.name} failed: {explain(error)}"
                console.print(failures[step.name], style="red", markup=False)
                if (
                    jax.process_count() > 1
                ):  # the others may be waiting in a step that this process has left
                    print(
                        f"process {jax.process_index()}: {traceback.format_exc()}",
                        file=sys.stderr,
                        flush=True,
                    )
                    os._exit(1)
            display.remove_task(bar)
            display.update(whole, completed=before + weight)
            if not console.is_terminal and step.name not in failures:
                remaining = display.tasks[0].time_remaining
                eta = f", about {remaining / 60:.1f} min left" if remaining else ""
                console.print(
                    f"[{number}/{len(waiting)}] {step.name}: {time.perf_counter() - began:.1f} s{eta}",
                    markup=False,
                )
    return list(failures.values())


def expected_seconds(step: Step) -> float:
    """A step's weight in the progress bar."""
    return OVERHEAD[step.kind] + step.flops / CPU_FLOPS
