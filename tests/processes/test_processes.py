"""Two processes of four devices each against one process of one: a whole study; and a run told to
stop, continued by one, then by two.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from scaling.processes.distributed import SAVED, find_processes
from scaling.processes.parallel import cores
from tests.conftest import EXPERIMENT, environment, same_results, scaling

STUDY = Path("runs/micro")
# 48 steps more: after some 60, rounding that differs in the seventh digit has grown into the fifth,
# whatever it is that runs.
TRUNK, COOLDOWN = "pretrain/mae-xxs-seed0-trunk-512", "pretrain/mae-xxs-seed0-640"
LONGER = ("--set", "durations=[160,320,640]")


def two_processes(*arguments: object, folder: Path) -> list["subprocess.Popen[str]"]:
    """Run a verb on 2 x 4 devices: the same command twice."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    processes = []
    for rank in range(2):
        meet = {
            "JAX_COORDINATOR_ADDRESS": address,
            "JAX_NUM_PROCESSES": "2",
            "JAX_PROCESS_ID": str(rank),
            "JAX_NUM_CPU_DEVICES": "4",
        }
        command = [
            sys.executable,
            "-m",
            "scaling",
            *map(str, arguments),
            "--set",
            "execution.mesh=[2,4]",
        ]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        processes.append(
            subprocess.Popen(command, cwd=folder, env={**environment(), **meet}, text=True, **pipes)
        )  # type: ignore[call-overload]
    return processes


def losses(run: Path) -> list[tuple[int, float]]:
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [(row["step"], row["loss"]) for row in rows]


@pytest.mark.slow
def test_study_of_two_processes_ends_in_the_table_of_one(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "cohort", tmp_path / "cohort")
    for step in ("phantom", "prepare"):
        shutil.copytree(finished / STUDY / step, tmp_path / STUDY / step)
    processes = two_processes("run", EXPERIMENT, folder=tmp_path)
    said = [process.communicate(timeout=900)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    same_results(tmp_path / STUDY, finished / STUDY)


@pytest.fixture
def continued(finished: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two copies of the finished micro study, its longest run to be continued in both."""
    folders = tmp_path / "one", tmp_path / "other"
    for folder in folders:
        shutil.copytree(finished, folder)
    return folders


@pytest.mark.slow
def test_preempted_run_of_two_processes_continues_on_one_and_on_two_again(
    continued: tuple[Path, Path],
) -> None:
    reference, folder = continued
    done = scaling("step", EXPERIMENT, TRUNK, COOLDOWN, *LONGER, folder=reference)
    assert done.returncode == 0, done.stderr

    processes = two_processes("step", EXPERIMENT, TRUNK, *LONGER, folder=folder)
    run = folder / STUDY / TRUNK
    deadline = time.monotonic() + 400
    while not (run / "metrics.jsonl").exists() or not losses(run):
        assert all(process.poll() is None for process in processes), [
            process.communicate()[0] for process in processes
        ]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(processes[1].pid, signal.SIGUSR2)
    said = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [SAVED, SAVED], said
    (saved,) = [int(step.name) for step in (run / "checkpoints").iterdir()]
    assert losses(run)[-1][0] == saved - 1
    assert f"saved after {saved} of 64 steps" in said[0]
    assert not (run / "LOCK").exists()

    assert scaling("step", EXPERIMENT, TRUNK, *LONGER, folder=folder).returncode == 0
    last = two_processes("step", EXPERIMENT, COOLDOWN, *LONGER, folder=folder)
    assert [(process.communicate(timeout=400)[0], process.returncode)[1] for process in last] == [
        0,
        0,
    ]

    for name in (TRUNK, COOLDOWN):
        ours, theirs = losses(folder / STUDY / name), losses(reference / STUDY / name)
        assert [step for step, _ in ours] == [step for step, _ in theirs]
        np.testing.assert_allclose(
            [loss for _, loss in ours], [loss for _, loss in theirs], rtol=1e-5
        )
    evaluated = [
        json.loads((place / STUDY / COOLDOWN / "summary.json").read_text())["heldout_loss"]
        for place in continued
    ]
    assert evaluated[1] == pytest.approx(evaluated[0], rel=1e-5)


def test_addresses_are_taken_from_the_first_source_that_fits() -> None:
    explicit = {
        "JAX_COORDINATOR_ADDRESS": "host:1",
        "JAX_NUM_PROCESSES": "4",
        "JAX_PROCESS_ID": "3",
    }
    sky = {"SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "SKYPILOT_NODE_RANK": "1"}
    found = find_processes({**explicit, **sky})
    assert (found["coordinator_address"], found["num_processes"], found["process_id"]) == (
        "host:1",
        4,
        3,
    )
    found = find_processes(sky)
    assert (found["coordinator_address"], found["num_processes"], found["process_id"]) == (
        "10.0.0.1:8476",
        2,
        1,
    )
    assert find_processes({})["num_processes"] == 1


def test_processes_of_srun_take_their_own_device_or_all_of_their_node() -> None:
    job = {
        "SLURM_JOB_ID": "7",
        "SLURM_NTASKS": "2",
        "SLURM_STEP_NODELIST": "n[1-2]",
        "SLURM_STEP_NUM_TASKS": "2",
    }
    assert find_processes({**job, "SLURM_STEP_NUM_NODES": "1", "CUDA_VISIBLE_DEVICES": "0,1"}) == {}
    assert find_processes({**job, "SLURM_STEP_NUM_NODES": "2", "CUDA_VISIBLE_DEVICES": "0,1"}) == {
        "local_device_ids": [0, 1]
    }
    assert find_processes({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "1"})["num_processes"] == 1


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (
            {"JAX_COORDINATOR_ADDRESS": "host:1"},
            "is set but not JAX_NUM_PROCESSES, JAX_PROCESS_ID; set all of",
        ),
        (
            {
                "JAX_COORDINATOR_ADDRESS": "host:1",
                "JAX_NUM_PROCESSES": "two",
                "JAX_PROCESS_ID": "0",
            },
            "JAX_NUM_PROCESSES is 'two'",
        ),
        ({"SKYPILOT_NODE_IPS": "10.0.0.1 10.0.0.2"}, "SKYPILOT_NODE_RANK is ''"),
        (
            {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2"},
            "SLURM job 7 has 2 tasks, but this process was not started by srun; put `srun`",
        ),
    ],
)
def test_environment_that_names_only_a_part_is_refused(
    environment: dict[str, str], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        find_processes(environment)


@pytest.mark.parametrize(("told", "expected"), [({}, cores()), ({"JAX_NUM_CPU_DEVICES": "3"}, 3)])
def test_process_that_is_alone_has_a_device_per_core_at_most(
    told: dict[str, str], expected: int
) -> None:
    code = (
        "from scaling.processes.distributed import connect; connect(999); "
        "import jax; print(jax.device_count())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment(), **told},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) == expected


@pytest.mark.slow
def test_process_suspended_for_minutes_goes_on() -> None:
    code = (
        "from scaling.processes.distributed import connect, end_together as end; connect(); "
        "print(1, flush=True); print(input()); end(0)"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment(), text=True, **pipes)  # type: ignore[call-overload]
    assert process.stdout.readline() == "1\n"
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(130)  # jax's patience is 100 seconds
    os.kill(process.pid, signal.SIGCONT)
    time.sleep(5)
    said, errors = process.communicate("2\n", timeout=60)
    assert (process.returncode, said) == (0, "2\n"), errors
