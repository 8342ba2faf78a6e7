"""The Kubernetes manifest: tested as text, since there is no cluster here."""

from pathlib import Path

import yaml

from scaling.engines.jobset import Pods, as_yaml, job_sets
from scaling.runs.experiment import load_study
from scaling.runs.plan import make_plan
from tests.conftest import EXPERIMENT

PODS = Pods("registry/scaling:1", "studies", devices_per_pod=4, job_hours=0.0)


def manifests(*overrides: str, done: tuple[str, ...] = ()) -> list[dict]:
    plan = make_plan(load_study(EXPERIMENT, overrides))
    statuses = {step.name: "done" if step.name in done else "todo" for step in plan.steps}
    text = as_yaml(job_sets(Path("runs/My_Study.v2"), plan, statuses, PODS))  # type: ignore[arg-type]
    return list(yaml.safe_load_all(text))


def commands(manifest: dict) -> list[list[str]]:
    found = []
    for job in manifest["spec"]["replicatedJobs"]:
        (container,) = job["template"]["spec"]["template"]["spec"]["containers"]
        found.append(container["command"])
    return found


def test_manifest_runs_every_step_once_each_level_after_what_it_needs() -> None:
    plan = make_plan(load_study(EXPERIMENT))
    level_of = {}
    for level, manifest in enumerate(manifests()):
        assert manifest["kind"] == "JobSet"
        assert manifest["metadata"]["name"] == f"my-study-v2-level{level}"
        for command in commands(manifest):
            assert command[:3] == ["scaling", "step", "runs/My_Study.v2"]
            for name in command[3:]:
                assert name not in level_of
                level_of[name] = level
    assert set(level_of) == {step.name for step in plan.steps}
    for step in plan.steps:
        assert all(level_of[need] <= level_of[step.name] for need in step.needs)


def test_run_of_eight_devices_is_two_pods_of_four_that_find_each_other() -> None:
    (spread,) = [
        job["template"]["spec"]
        for job in manifests("execution.mesh=[2,4]")[1]["spec"]["replicatedJobs"]
        if "trunk-128" in str(job)
    ]
    assert (spread["completions"], spread["parallelism"]) == (2, 2)
    assert spread["completionMode"] == "Indexed"
    (container,) = spread["template"]["spec"]["containers"]
    assert container["resources"] == {"limits": {"nvidia.com/gpu": "4"}}


def test_pod_that_has_saved_or_was_killed_or_evicted_is_started_again_without_end() -> None:
    job = manifests()[0]["spec"]["replicatedJobs"][0]["template"]["spec"]
    evicted, saved = job["podFailurePolicy"]["rules"]
    assert evicted["onPodConditions"] == [{"type": "DisruptionTarget"}]
    assert saved["action"] == "Ignore"
    assert {85, 137, 140, 143} <= set(saved["onExitCodes"]["values"])
    assert job["template"]["spec"]["restartPolicy"] == "Never"


def test_finished_steps_are_left_out() -> None:
    first = manifests(done=("phantom", "prepare"))[0]
    assert any("pretrain/mae-xxs-seed0-trunk-128" in command for command in commands(first))
    assert not any("prepare" in command for command in commands(first))
