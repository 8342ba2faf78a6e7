"""Run directories: what a step's files say about where it stands."""

import os
from pathlib import Path

import pytest

from scaling.runs.drift import ConfigDriftError
from scaling.runs.experiment import load_study
from scaling.runs.plan import make_plan
from scaling.runs.rundir import begin, fail, finish, plan_status, step_status

MICRO = Path(__file__).parents[1] / "micro_study.py"


def test_status_follows_the_life_of_a_step(tmp_path: Path) -> None:
    step = make_plan(load_study(MICRO)).steps[1]
    assert step_status(tmp_path, step) == "todo"
    folder = begin(tmp_path, step, "cpu")
    assert step_status(tmp_path, step) == "partial"
    fail(folder, "no luck")
    assert step_status(tmp_path, step) == "failed"
    begin(tmp_path, step, "cpu")
    assert step_status(tmp_path, step) == "partial"
    finish(folder, step, 1.0)
    assert step_status(tmp_path, step) == "done"


def test_changed_config_is_refused_naming_field_and_values(tmp_path: Path) -> None:
    for step in make_plan(load_study(MICRO)).steps:
        finish(begin(tmp_path, step, "cpu"), step, 1.0)
    changed = make_plan(load_study(MICRO, ["pretrain.learning_rate=0.001"]))
    with pytest.raises(
        ConfigDriftError,
        match=r"trunk-128 holds results of another config: pretrain.learning_rate was "
        r"0.0015, is 0.001",
    ):
        plan_status(tmp_path, changed)


@pytest.mark.parametrize(
    "override", ["execution.mesh=[2,1]", "execution.workers=7", "execution.log_every=3"]
)
def test_execution_is_no_part_of_a_steps_identity(tmp_path: Path, override: str) -> None:
    for step in make_plan(load_study(MICRO)).steps:
        finish(begin(tmp_path, step, "cpu"), step, 1.0)
    assert set(plan_status(tmp_path, make_plan(load_study(MICRO, [override]))).values()) == {"done"}


def test_grown_study_keeps_what_is_done_and_renews_table_and_report(tmp_path: Path) -> None:
    for step in make_plan(load_study(MICRO)).steps:
        finish(begin(tmp_path, step, "cpu"), step, 1.0)
    statuses = plan_status(tmp_path, make_plan(load_study(MICRO, ['sizes=["xxs","s"]'])))
    assert statuses["transfer/mae-xxs-seed0-320-infarct"] == "done"
    assert statuses["pretrain/mae-s-seed0-320"] == "todo"
    assert statuses["collect"] == statuses["report"] == "stale"


def test_report_is_stale_once_the_table_is_newer(tmp_path: Path) -> None:
    plan = make_plan(load_study(MICRO))
    for step in plan.steps:
        finish(begin(tmp_path, step, "cpu"), step, 1.0)
    later = (tmp_path / "report" / "DONE").stat().st_mtime + 10
    os.utime(tmp_path / "collect" / "DONE", (later, later))
    assert plan_status(tmp_path, plan)["report"] == "stale"


def test_failed_step_does_not_block_a_changed_config_and_begins_anew(tmp_path: Path) -> None:
    step = make_plan(load_study(MICRO)).step_of["pretrain/mae-xxs-seed0-trunk-128"]
    folder = begin(tmp_path, step, "cpu")
    (folder / "metrics.jsonl").write_text("of the config before\n")
    fail(folder, "the loss of step 3 is nan")
    changed = make_plan(load_study(MICRO, ["pretrain.learning_rate=0.001"])).step_of[step.name]
    assert step_status(tmp_path, step) == "failed"
    assert step_status(tmp_path, changed) == "todo"
    begin(tmp_path, changed, "cpu")
    assert not (folder / "metrics.jsonl").exists()


def test_step_that_only_describes_others_does_not_block_a_changed_config(tmp_path: Path) -> None:
    for step in make_plan(load_study(MICRO)).steps:
        finish(begin(tmp_path, step, "cpu"), step, 1.0)
    changed = make_plan(load_study(MICRO, ["estimand.domain=in"]))
    statuses = plan_status(tmp_path, changed)
    assert statuses["report"] == "todo"
    assert {name for name, status in statuses.items() if status != "done"} == {"report"}


def test_unfinished_step_of_another_config_is_refused(tmp_path: Path) -> None:
    step = make_plan(load_study(MICRO)).step_of["pretrain/mae-xxs-seed0-trunk-128"]
    begin(tmp_path, step, "cpu")
    changed = make_plan(load_study(MICRO, ["pretrain.learning_rate=0.001"])).step_of[step.name]
    with pytest.raises(ConfigDriftError, match=r"learning_rate was 0.0015, is 0.001"):
        step_status(tmp_path, changed)
