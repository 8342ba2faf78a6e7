"""Run one step of a plan in its folder: idempotent and resumable, the unit every engine drives."""

import time
import traceback
from contextlib import ExitStack
from pathlib import Path

import jax
import pandas as pd

from scaling.data.cache import Cache, open_cache
from scaling.processes.distributed import agreed, is_main, leave, stopping
from scaling.runs.lock import locked
from scaling.runs.plan import (
    CollectStep,
    PhantomStep,
    Plan,
    PrepareStep,
    PretrainStep,
    ReportStep,
    Step,
    TransferStep,
)
from scaling.runs.rundir import (
    LOCK,
    Progress,
    Status,
    begin,
    fail,
    finish,
    plan_status,
    record_attempt,
    step_status,
)
from scaling.tracking.tracker import track
from scaling.training.loop import pretrain


def run_step(study_dir: Path, plan: Plan, step: Step, progress: Progress) -> None:
    """Run `step` from where it stands and mark it done; nothing to do: return. `progress(done, total)` is called along the way.

    A failure is recorded in the step's folder and raised. Raises LockedError when another process is running the step, and
    ValueError when a step it needs is not done (table and report are made of whatever is).
    """
    folder = study_dir / step.name
    if step.kind not in ("collect", "report"):
        for need in [other for other in plan.steps if other.name in step.needs]:
            if (status := step_status(study_dir, need)) != "done":
                raise ValueError(
                    f"{step.name} needs {need.name}, which is {status}; run that first (`scaling run` runs all in order)"
                )
    with ExitStack() as held:

        def start() -> bool:
            held.enter_context(locked(folder / LOCK))
            if current_status(study_dir, plan, step) == "done":
                return False
            devices = jax.devices()
            begin(study_dir, step, f"{len(devices)} x {devices[0].device_kind}")
            return True

        if not agreed(start):
            return
        began = time.perf_counter()
        try:
            if isinstance(step.config, PretrainStep):
                pretrain(
                    study_dir,
                    plan.study.name,
                    step,
                    step.config,
                    study_cache(study_dir),
                    plan.study.execution,
                    progress,
                )
            else:
                agreed(
                    lambda: carry_out(study_dir, plan, step, folder, interruptible(step, progress))
                )
        except Exception as error:
            if is_main():
                fail(folder, explain(error))
            raise
        finally:
            if is_main():
                record_attempt(
                    folder,
                    time.perf_counter() - began,
                    jax.device_count() if step.kind in ("trunk", "cooldown") else 1,
                )
        if is_main():
            finish(folder, step, time.perf_counter() - began)


def interruptible(step: Step, progress: Progress) -> Progress:
    """Progress at which a step that only one process runs leaves when told to; what it has finished by then is kept."""

    def advance(done: float, total: float) -> None:
        progress(done, total)
        if jax.process_count() == 1 and stopping():
            leave(f"{step.name} is {done / max(total, 1e-9):.0%} done")

    return advance


def current_status(study_dir: Path, plan: Plan, step: Step) -> Status:
    """Where a step stands now. Only table and report depend on more than their own folder."""
    if step.kind in ("collect", "report"):
        return plan_status(study_dir, plan)[step.name]
    return step_status(study_dir, step)


def explain(error: Exception) -> str:
    """A failure as it is told: one sentence where it was foreseen, else where it happened."""
    foreseen = isinstance(error, ValueError | OSError | FloatingPointError)
    return (
        str(error)
        if foreseen
        else f"{type(error).__name__}: {error}\n{''.join(traceback.format_exception(error))}"
    )


def carry_out(study_dir: Path, plan: Plan, step: Step, folder: Path, progress: Progress) -> None:
    """What each kind of step does that one process runs. Each imports its own: pretraining need not wait for seconds of the others'."""
    execution = plan.study.execution
    match step.config:
        case PhantomStep() as config:
            from scaling.phantom.write import write_phantom

            root = Path(config.root)
            with locked(
                root.with_name(f".{root.name}.{LOCK}")
            ):  # other studies may share the cohort
                write_phantom(root, config.phantom, progress)
        case PrepareStep() as config:
            from scaling.engines.preparing import prepare_study

            prepare_study(folder, config, execution.workers, progress)
        case TransferStep() as config:
            from scaling.transfer.run import transfer

            checkpoint = (
                study_dir / step.needs[0] / "checkpoints" if config.arm == "pretrained" else None
            )
            with track(
                folder, plan.study.name, step, f"{config.objective}-{config.size}", execution
            ) as tracker:
                tracker.summarise(
                    transfer(folder, checkpoint, config, study_cache(study_dir), progress)
                )
                tracker.table("results", pd.read_parquet(folder / "results.parquet"))
        case CollectStep():
            from scaling.transfer.collect import collect

            collect(study_dir, plan)
        case ReportStep():
            from scaling.engines.reporting import write_study_report

            write_study_report(study_dir, plan)


def study_cache(study_dir: Path) -> Cache:
    """The prepared volumes of a study."""
    return open_cache(study_dir / "prepare" / "cache")
