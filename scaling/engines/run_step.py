"""Run one step of a plan in its folder: idempotent and resumable, the unit every engine drives."""

import time
import traceback
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from pathlib import Path

import jax
import pandas as pd

from scaling.data.cache import Cache
from scaling.data.grids import open_grid
from scaling.data.tasks import task_volumes
from scaling.files import read_json, read_parquet, write_json, write_table
from scaling.processes import signals
from scaling.processes.distributed import agreed, is_main, stop, stopping
from scaling.runs.digests import DamagedError
from scaling.runs.ledger import record_evaluation
from scaling.runs.lock import LockedError, locked
from scaling.runs.plan import Plan
from scaling.runs.rundir import (
    DESCRIBING,
    LOCK,
    PREDICTIONS,
    Progress,
    Status,
    begin,
    disown,
    fail,
    finish,
    plan_status,
    record_attempt,
    step_status,
)
from scaling.runs.steps import (
    CollectStep,
    PhantomStep,
    PrepareStep,
    PretrainStep,
    ReportStep,
    Step,
    TransferStep,
)
from scaling.study.config import Study, Task
from scaling.tracking.groups import group_of
from scaling.tracking.tracker import track
from scaling.training.loop import pretrain

PATIENCE = 60.0  # seconds that a step may take to come to a place to stop; SLURM waits 120


def run_step(study_dir: Path, plan: Plan, step: Step, progress: Progress) -> None:
    """Run `step` from where it stands and mark it done; nothing to do: return. `progress(done,
    total)` is called along the way.

    A failure is recorded in the step's folder and raised. Raises LockedError when another process
    is running the step, and ValueError when a step it needs is not done (table and report are made
    of whatever is).
    """
    folder = study_dir / step.name
    if step.kind not in DESCRIBING:
        require_needs(study_dir, plan, step)
    with ExitStack() as lock:

        def start() -> dict[str, str]:
            try:
                lock.enter_context(locked(folder / LOCK))
            except LockedError as error:
                return {"locked": str(error)}
            if current_status(study_dir, plan, step) == "done":
                return {"done": ""}
            devices = jax.devices()
            begin(study_dir, step, f"{len(devices)} x {devices[0].device_kind}")
            return {}

        answer = agreed(start)
        if "locked" in answer:  # on every process, so that all of them turn to the same step next
            raise LockedError(answer["locked"])
        if "done" in answer:
            return
        began = time.perf_counter()
        elsewhere: list[Path] = []
        try:
            if isinstance(step.config, PretrainStep):
                cache = study_cache(study_dir)
                study, execution = plan.study.name, plan.study.execution
                pretrain(study_dir, study, step, step.config, cache, execution, progress)
            else:
                pausing = interruptible(step, progress)
                with leaving_in_time():
                    names = agreed(lambda: carry_out(study_dir, plan, step, folder, pausing))
                elsewhere = [study_dir / name for name in names]
        except Exception as error:
            if is_main():
                record_failure(study_dir, plan, folder, error)
            raise
        finally:
            if is_main():
                devices = jax.device_count() if step.kind in ("trunk", "cooldown") else 1
                with suppress(OSError):  # on a full disk the step's own error is what matters
                    record_attempt(folder, time.perf_counter() - began, devices)
        if is_main():
            finish(folder, step, time.perf_counter() - began, elsewhere)


def require_needs(study_dir: Path, plan: Plan, step: Step) -> None:
    """Raises ValueError when a step that this one needs is not done."""
    for name in step.needs:
        status = step_status(study_dir, plan.step_of[name])
        if status != "done":
            raise ValueError(
                f"{step.name} needs {name}, which is {status}; run that first (`scaling run` runs "
                "all in order)"
            )


def record_failure(study_dir: Path, plan: Plan, folder: Path, error: Exception) -> None:
    """Write down why a step failed. If it met a damaged file, the step that wrote it is to run
    again.
    """
    with suppress(OSError):  # the disk may be what failed
        fail(folder, explain(error))
        if isinstance(error, DamagedError):
            disown(study_dir, plan, error.file, str(error))


def interruptible(step: Step, progress: Progress) -> Progress:
    """Progress at which a step that only one process runs stops when told to; what it has finished
    by then is kept.
    """

    def advance(done: float, total: float) -> None:
        progress(done, total)
        if jax.process_count() == 1 and stopping():
            stop(f"{step.name} is {done / max(total, 1e-9):.0%} done")

    return advance


def leaving_in_time() -> AbstractContextManager[None]:
    """Of a process that is alone: once told to stop, it does not wait for a part of a step that
    takes longer than a scheduler does.
    """
    return signals.at_most(PATIENCE) if jax.process_count() == 1 else nullcontext()


def current_status(study_dir: Path, plan: Plan, step: Step) -> Status:
    """Where a step stands now. Only table and report depend on more than their own folder."""
    if step.kind in DESCRIBING:
        return plan_status(study_dir, plan)[step.name]
    return step_status(study_dir, step)


def explain(error: Exception) -> str:
    """A failure as it is told: one sentence where it was foreseen, else where it happened."""
    if isinstance(error, ValueError | OSError | FloatingPointError):
        return str(error)
    trace = "".join(traceback.format_exception(error))
    return f"{type(error).__name__}: {error}\n{trace}"


def carry_out(
    study_dir: Path, plan: Plan, step: Step, folder: Path, progress: Progress
) -> list[str]:
    """What each kind of step does that one process runs. Returns the names of the files that it
    wrote into the study's folder instead of its own.

    Each imports its own modules: pretraining need not wait for seconds of the others'.
    """
    execution = plan.study.execution
    match step.config:
        case PhantomStep() as config:
            from scaling.phantom.write import write_phantom

            root = Path(config.root)
            with locked(root.with_name(f".{root.name}.{LOCK}")):  # others may share the cohort
                write_phantom(root, config.phantom, progress)
        case PrepareStep() as config:
            from scaling.engines.preparing import prepare_study

            domain = plan.study.estimand.domain
            objectives = plan.study.objectives
            prepare_study(folder, config, domain, execution.workers, progress, objectives)
            require_competitors(folder, plan.study)
        case TransferStep() as config:
            from scaling.transfer.run import transfer

            checkpoint = None
            if config.arm == "pretrained":
                checkpoint = study_dir / step.needs[0] / "checkpoints"
            with track(folder, plan.study.name, step, group_of(step), execution) as tracker:
                cache = task_cache(study_dir, config)
                tracker.summarise(transfer(folder, checkpoint, config, cache, progress))
                tracker.table("results", read_parquet(folder / "results.parquet"))
            record_test_cases(folder, plan.study, config)
        case CollectStep():
            from scaling.transfer.collect import PRETRAINING, RESULTS, collect

            collect(study_dir, plan)
            return [RESULTS, "results.csv", PREDICTIONS, PRETRAINING]
        case ReportStep():
            from scaling.engines.reporting import write_study_report

            write_study_report(study_dir, plan)
            return ["report.html", "summary.txt"]
        case PretrainStep():
            raise AssertionError("pretraining runs on all processes")
    return []


def require_competitors(prepared: Path, study: Study) -> None:
    """Write down which cases each draw has, for those who predict elsewhere. Raise ValueError,
    before anything is trained, where competitors lack what a case needs.
    """
    if not study.references:
        return
    from scaling.data.draws import draw_table
    from scaling.transfer.references.checks import require_cases

    def cache_of(task: Task) -> Cache:
        return open_grid(prepared, task_volumes(task, study.data))

    drawn = [draw_table(cache_of(task), task) for task in study.tasks]
    write_table(pd.concat(drawn, ignore_index=True), prepared / "draws.csv")
    require_cases(study, cache_of)


def record_test_cases(folder: Path, study: Study, config: TransferStep) -> None:
    """Leave a line in the ledger beside the data: this study has evaluated on these test cases."""
    cases = read_parquet(folder / PREDICTIONS)["case"].unique()
    root = Path(config.data.root)
    problem = record_evaluation(root, study, config.task.name, [str(case) for case in cases])
    if problem:
        dropped = folder / "dropped.json"
        write_json(dropped, [*read_json(dropped), problem])


def study_cache(study_dir: Path) -> Cache:
    """The prepared volumes that a study pretrains on, and those of tasks on the same grid."""
    return open_grid(study_dir / "prepare")


def task_cache(study_dir: Path, config: TransferStep) -> Cache:
    """The prepared volumes on a task's grid."""
    return open_grid(study_dir / "prepare", task_volumes(config.task, config.data))
