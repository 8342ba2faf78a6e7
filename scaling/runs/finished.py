"""A finished pretraining run, found by its folder: what outlives a study."""

from pathlib import Path

from scaling.runs.experiment import FROZEN, load_study
from scaling.runs.plan import Plan, make_plan
from scaling.runs.rundir import step_status
from scaling.runs.steps import PretrainStep


def finished_run(checkpoint: Path) -> tuple[Plan, PretrainStep]:
    """The plan of the study that the folder `checkpoint` is a run of, and the run's config.

    Raises ValueError when it is no finished pretraining run, ConfigDriftError when it holds another
    config than the study's.
    """
    study_dir = checkpoint.resolve().parents[1]
    if not (study_dir / FROZEN).exists():
        raise ValueError(
            f"{checkpoint} lies in no study's folder (no {FROZEN} in {study_dir}); expected a "
            "finished run like runs/STUDY/pretrain/mae-s-seed0-9600"
        )
    plan = make_plan(load_study(study_dir))
    runs = {step.name: step for step in plan.steps if step.kind in ("trunk", "cooldown")}
    name = checkpoint.resolve().relative_to(study_dir).as_posix()
    if name not in runs:
        raise ValueError(
            f"{checkpoint} is no pretraining run of {plan.study.name}; its runs are "
            f"{', '.join(runs)}"
        )
    status = step_status(study_dir, runs[name])
    if status != "done":
        raise ValueError(
            f"{checkpoint} is {status}; expected a finished run, `scaling run {study_dir}` goes on "
            "with it"
        )
    config = runs[name].config
    assert isinstance(config, PretrainStep)
    return plan, config
