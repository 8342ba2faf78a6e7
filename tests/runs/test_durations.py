"""Estimates of a plan's seconds and disk against what was measured."""

import dataclasses
import json
from pathlib import Path

import jax
import pytest

from scaling.runs.durations import checkpoint_bytes, plan_seconds, seconds_measured
from scaling.runs.experiment import load_study
from scaling.runs.plan import Plan, make_plan
from scaling.runs.steps import PretrainStep
from scaling.training.mesh import make_mesh
from scaling.training.program import pretraining_program
from tests.micro_study import study

QUICKSTART = Path(__file__).parents[2] / "experiments" / "quickstart.py"


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(study)


@pytest.mark.parametrize("measured", [76.0, 105.0, 140.0])
def test_seconds_of_the_micro_study_are_near_those_measured(plan: Plan, measured: float) -> None:
    # Two cores of a server CPU: compiled programs kept, in part, and none.
    total = sum(plan_seconds(plan).values())
    assert measured / 1.5 < total < measured * 1.5


def test_seconds_of_the_quickstart_are_near_those_measured() -> None:
    total = sum(plan_seconds(make_plan(load_study(QUICKSTART))).values())
    assert 500 / 1.5 < total < 500 * 1.5


def test_a_finished_step_corrects_the_steps_of_its_kind_alone(plan: Plan) -> None:
    before = plan_seconds(plan)
    trunk = next(step.name for step in plan.steps if step.kind == "trunk")
    after = plan_seconds(plan, {trunk: 3 * before[trunk]})
    for step in plan.steps:
        factor = 3 if isinstance(step.config, PretrainStep) else 1
        assert after[step.name] == pytest.approx(factor * before[step.name])


def test_measured_seconds_are_those_of_all_attempts_and_devices(plan: Plan, tmp_path: Path) -> None:
    trunk, other = [step.name for step in plan.steps if step.kind == "trunk"]
    for name in (trunk, other):
        rows = [{"seconds": 2.0, "devices": 1}, {"seconds": 3.0, "devices": 2}]
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "attempts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    statuses = dict.fromkeys((step.name for step in plan.steps), "todo") | {trunk: "done"}
    # The cores of a CPU are one device; GPUs are paid for one by one.
    assert seconds_measured(tmp_path, plan, statuses) == {trunk: 5.0}
    execution = dataclasses.replace(study.execution, accelerator="h100")
    on_gpus = make_plan(dataclasses.replace(study, execution=execution))
    assert seconds_measured(tmp_path, on_gpus, statuses) == {trunk: 8.0}


def test_checkpoints_take_the_bytes_of_the_trained_state(plan: Plan) -> None:
    runs = [step.config for step in plan.steps if isinstance(step.config, PretrainStep)]
    run = runs[0]
    program = pretraining_program(
        run.objective, run.encoder, run.decoder, run.pretrain, make_mesh(1, 1, 1), 1
    )
    state = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(program.abstract))
    assert checkpoint_bytes(plan) == pytest.approx(len(runs) * state, rel=0.02)
