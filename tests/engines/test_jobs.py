"""A plan as jobs, and the facts of the cluster they run on."""

import math
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from scaling.engines.jobs import (
    Cluster,
    Job,
    does_not_fit,
    levels,
    load_cluster,
    make_jobs,
    pack,
    takes_too_long,
)
from scaling.engines.slurm import arrays, submit
from scaling.engines.slurm_script import options, write_script
from scaling.runs.experiment import load_study
from scaling.runs.plan import Plan, make_plan
from tests.conftest import EXPERIMENT

ROOT = Path(__file__).parents[2]
CLUSTERS = ROOT / "experiments/clusters"
STUDY = Path("runs/micro")


def micro_jobs(*overrides: str) -> dict[str, Job]:
    plan = make_plan(load_study(EXPERIMENT, overrides))
    return {job.name: job for job in make_jobs(plan)}


def full_plan() -> Plan:
    return make_plan(load_study(ROOT / "experiments/fomo25.py", (), "full"))


def test_steps_of_one_checkpoint_are_one_job_and_needs_are_its_checkpoint() -> None:
    jobs = micro_jobs("execution.mesh=[2,4]")
    assert len(jobs) == 10
    assert [step.name for step in jobs["prepare"].steps] == ["phantom", "prepare"]
    tested = [step.name for step in jobs["transfer/mae-xxs-seed0-160"].steps]
    assert [name.rpartition("-")[2] for name in tested] == ["infarct", "meningioma", "age"]
    assert jobs["transfer/mae-xxs-seed0-160"].needs == ("pretrain/mae-xxs-seed0-160",)
    assert jobs["pretrain/mae-xxs-seed0-160"].needs == ("pretrain/mae-xxs-seed0-trunk-128",)
    assert jobs["transfer/classical"].needs == ("prepare",)
    spread = {job.name: job.devices for job in jobs.values() if job.devices != 1}
    assert spread == {name: 8 for name in jobs if name.startswith("pretrain/")}


def covered(plan: Plan, jobs: Sequence[Job]) -> None:
    """Every step is in exactly one job, whose needs are those of its steps and come before it."""
    names = [step.name for job in jobs for step in job.steps]
    assert sorted(names) == sorted(step.name for step in plan.steps)
    job_of = {step.name: job.name for job in jobs for step in job.steps}
    seen: set[str] = set()
    for job in jobs:
        needs = {job_of[need] for step in job.steps for need in step.needs} - {job.name}
        assert needs == set(job.needs)
        assert needs <= seen, f"{job.name} comes before what it needs"
        seen.add(job.name)
        order = [step.name for step in job.steps]
        for position, step in enumerate(job.steps):
            assert not set(step.needs) & set(order[position:])


@pytest.mark.parametrize("target", [0.0, 0.5, 2.0, 1000.0])
def test_packed_jobs_run_every_step_once_after_what_it_needs(target: float) -> None:
    plan = full_plan()
    jobs = pack(make_jobs(plan), target)
    covered(plan, jobs)
    single = {job.name: job.expected for job in make_jobs(plan)}
    for job in jobs:
        assert job.expected <= max(target, single[job.name]) + 1e-9
        assert {math.prod(step.mesh) for step in job.steps} == {job.devices}


def test_full_study_is_packed_into_fewer_and_longer_jobs() -> None:
    jobs = make_jobs(full_plan())
    packed = pack(jobs, 2.0)
    short = 3 / 60
    assert sum(job.expected < short for job in jobs) > 400
    assert sum(job.expected < short for job in packed) < 10
    assert len(packed) < len(jobs) / 2
    submissions = arrays(packed, Cluster(devices_per_node=8))
    assert len(submissions) < 50


def test_arrays_are_of_one_level_one_size_and_a_similar_length() -> None:
    jobs = pack(make_jobs(full_plan()), 2.0)
    depth = levels(jobs)
    cluster = Cluster(devices_per_node=8, max_hours=24, max_array=50)
    for tasks in arrays(jobs, cluster):
        assert len({depth[job.name] for job in tasks}) == 1
        assert len({job.devices for job in tasks}) == 1
        assert len(tasks) <= 50
        limits = [min(job.hours, 24) for job in tasks]
        assert max(limits) <= 2 * min(limits)


def test_job_asks_for_whole_nodes_and_for_as_much_as_its_devices_need() -> None:
    jobs = micro_jobs("execution.mesh=[2,4]")
    cluster = Cluster(
        devices_per_node=4,
        gres="gpu:a100",
        partition="gpu",
        cpus_per_device=3,
        memory_per_device_gb=10,
        max_running=5,
        options=("--qos=low",),
    )
    runs = [jobs["pretrain/mae-xxs-seed0-160"], jobs["pretrain/mae-xxs-seed0-320"]]
    large = options(STUDY, "array0001", runs, ["7", "8"], cluster)
    assert {
        "--array=0-1%5",
        "--nodes=2",
        "--gres=gpu:a100:4",
        "--cpus-per-task=12",
        "--mem=40G",
        "--dependency=afterany:7:8",
        "--qos=low",
    } <= set(large)
    small = options(STUDY, "array0002", [jobs["report"]], [], cluster)
    assert {"--array=0-0%5", "--nodes=1", "--gres=gpu:a100:1", "--cpus-per-task=3"} <= set(small)
    with pytest.raises(ValueError, match="has 8 devices, which do not fill nodes of 3"):
        options(STUDY, "array0001", runs, [], Cluster(devices_per_node=3))


def test_percent_in_a_path_is_no_placeholder_in_the_name_of_a_log() -> None:
    jobs = micro_jobs()
    chosen = options(Path("runs/50%j"), "array0001", [jobs["report"]], [], Cluster(1))
    assert "--output=runs/50%%j/jobs/array0001_%a.log" in chosen


def test_script_runs_each_tasks_steps_whatever_their_names_hold(tmp_path: Path) -> None:
    """Run by bash, with srun and scontrol replaced by programs that print what they are given."""
    jobs = micro_jobs()
    study = tmp_path / "a $(touch broken) 'b'"
    calls = tmp_path / "calls"
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "srun").write_text(f'#!/bin/bash\nprintf "%s|" "$@" >> {calls}\nexit 0\n')
    (programs / "srun").chmod(0o755)
    cluster = Cluster(1, command="apptainer exec --nv x.sif scaling", setup=("export SET=1",))
    script = write_script(study, "array0001", [jobs["prepare"], jobs["report"]], cluster)
    environment = {"PATH": f"{programs}:/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": "1"}
    done = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert calls.read_text().split("|")[:-1] == [
        *("--kill-on-bad-exit=1", "apptainer", "exec", "--nv", "x.sif", "scaling"),
        *("step", str(study), "collect", "report"),
    ]
    assert not (tmp_path / "broken").exists()


@pytest.mark.parametrize(
    ("code", "progress", "runs", "ending"),
    [
        (85, True, 6, 85),  # saves a little more each time: goes on
        (85, False, 3, 1),  # saves the same again and again: two restarts, then it stops
        (137, False, 3, 1),
        (140, False, 3, 1),
        (143, False, 3, 1),
        (1, False, 1, 1),  # failed: not queued again
        (0, False, 1, 0),
    ],
)
def test_job_is_queued_again_until_it_makes_no_progress(
    tmp_path: Path, code: int, progress: bool, runs: int, ending: int
) -> None:
    jobs = micro_jobs()
    study, programs = tmp_path / "runs/micro", tmp_path / "bin"
    for folder in (study / "jobs", study / "report", programs):
        folder.mkdir(parents=True)
    write = 'touch "$PWD/runs/micro/report/$RANDOM$RANDOM"' if progress else ":"
    (programs / "srun").write_text(f"#!/bin/bash\n{write}\necho run >> count\nexit {code}\n")
    requeue = 'case "$1" in show) echo JobState=RUNNING;; requeue) echo again >> requeued;; esac'
    (programs / "scontrol").write_text(f"#!/bin/bash\n{requeue}\n")
    (programs / "sleep").write_text("#!/bin/bash\n")
    for program in programs.iterdir():
        program.chmod(0o755)
    script = write_script(STUDY, "array0001", [jobs["report"]], Cluster(1, max_restarts=2))
    script = script.replace(f"cd {Path.cwd()}", f"cd {tmp_path}")
    environment = {
        "PATH": f"{programs}:/usr/bin:/bin",
        "SLURM_ARRAY_TASK_ID": "0",
        "SLURM_JOB_ID": "7",
    }
    for _ in range(6):
        (tmp_path / "requeued").unlink(missing_ok=True)
        done = subprocess.run(
            ["bash", "-c", script], env=environment, capture_output=True, text=True, check=False
        )
        if not (tmp_path / "requeued").exists():
            break
    assert (tmp_path / "count").read_text().count("run") == runs
    assert done.returncode == ending
    if runs == 3:
        assert "after 2 restarts without progress; not queued again" in done.stdout


def test_step_that_does_not_fit_is_told_before_anything_is_submitted(tmp_path: Path) -> None:
    plan = make_plan(load_study(EXPERIMENT, ["pretrain.batch=4000000", "durations=[20000000]"]))
    assert "trunk-16000000 does not fit: it needs" in does_not_fit(plan)
    assert "cpu-2 has 16 GB" in does_not_fit(plan)
    small = make_plan(load_study(EXPERIMENT))
    assert not does_not_fit(small)
    words = (
        r"does not fit: it needs 0.0 GB on each of 1 devices, and a device of this cluster has 0 GB"
    )
    with pytest.raises(ValueError, match=words):
        submit(tmp_path, small, {}, Cluster(devices_per_node=1, device_memory_gb=0.001))


@pytest.mark.parametrize("experiment", ["fomo25", "fomo26"])
def test_full_studies_of_the_challenges_fit_memory_and_time_of_a_job(experiment: str) -> None:
    plan = make_plan(load_study(ROOT / f"experiments/{experiment}.py", (), "full"))
    assert not does_not_fit(plan)
    assert not takes_too_long(plan.steps, "h100", Cluster(devices_per_node=8).max_hours)
    assert takes_too_long(plan.steps, "h100", 6.0).startswith("transfer/scratch-4xl-seed0-infarct ")


def test_step_whose_longest_part_is_longer_than_a_job_is_told_before_anything_is_submitted(
    tmp_path: Path,
) -> None:
    plan = make_plan(load_study(EXPERIMENT, ["transfer.finetune.steps=100000000"]))
    words = r"cannot be run in jobs of 3 hours \(max_hours\): its longest part"
    with pytest.raises(ValueError, match=words):
        submit(tmp_path, plan, dict.fromkeys(plan.step_of, "todo"), Cluster(1, max_hours=3))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "devices_per_node = 8\ngpus = 3",
            r"facts.toml: gpus: Unexpected keyword argument \(found 3\)",
        ),
        (
            "devices_per_node = 'many'",
            "facts.toml: devices_per_node: Input should be a valid integer",
        ),
        ("devices_per_node = 0", "devices_per_node is 0; expected more than 0"),
        ("devices_per_node = 1\njob_hours = -1", "job_hours is -1.0; expected 0 or more"),
        ("devices_per_node 8", "facts.toml is not valid TOML"),
    ],
)
def test_wrong_cluster_facts_are_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "facts.toml").write_text(text)
    with pytest.raises(ValueError, match=words):
        load_cluster(tmp_path / "facts.toml")


@pytest.mark.parametrize("name", ["slurm-a100.toml", "slurm-h100.toml"])
def test_examples_of_cluster_facts_can_be_read(name: str) -> None:
    assert load_cluster(CLUSTERS / name).gres.startswith("gpu:")
