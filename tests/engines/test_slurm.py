"""A study on a cold SLURM cluster, against everything that goes wrong there, gives the table that
one process gives.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scaling.runs.lock import owner
from tests.conftest import EXPERIMENT, same_results
from tests.engines.cold_slurm import cold_slurm, installed, say, wait_for

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(not installed(), reason="SLURM is not installed"),
]

STUDY = Path("runs/micro")
FACTS = """
devices_per_node = 1
partition = "main"
cpus_per_device = 2
job_hours = 0
setup = ["export XLA_FLAGS="]
"""


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A cluster of two nodes, torn down afterwards."""
    with cold_slurm(tmp_path / "slurm") as environment:
        yield environment


def test_preempted_killed_and_drained_study_ends_in_the_table_of_the_local_engine(
    finished: Path, tmp_path: Path, slurm: dict[str, str]
) -> None:
    shutil.copytree(finished / "cohort", tmp_path / "cohort")
    for step in ("phantom", "prepare"):
        shutil.copytree(finished / STUDY / step, tmp_path / STUDY / step)
    (tmp_path / "cluster.toml").write_text(FACTS)

    def scaling(*arguments: object) -> str:
        command = [sys.executable, "-m", "scaling", *map(str, arguments)]
        done = subprocess.run(
            command, cwd=tmp_path, env=slurm, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def done(step: str) -> bool:
        return (tmp_path / STUDY / step / "DONE").exists()

    submit = (
        "run",
        EXPERIMENT,
        "--set",
        "execution.mesh=[2,1]",
        "--engine",
        "slurm",
        "--cluster",
        "cluster.toml",
    )
    assert "9 jobs submitted" in scaling(*submit)
    assert "0 jobs submitted, 9 queued in all" in scaling(*submit)

    # A job of higher priority takes both nodes from the first trunk: it saves, waits and goes on.
    first, cooldown = "pretrain/mae-xxs-seed0-trunk-128", "pretrain/mae-xxs-seed0-160"
    wait_for(lambda: owner(tmp_path / STUDY / first / "LOCK"), 900)
    say(
        slurm,
        "sbatch",
        "--partition=urgent",
        "--nodes=2",
        "--exclusive",
        "--output=/dev/null",
        "--wrap=sleep 1",
    )
    wait_for(
        lambda: (
            f"{first} is saved after"
            in "".join(log.read_text() for log in (tmp_path / STUDY / "jobs").glob("*.log"))
        ),
        900,
    )
    assert not done(first)
    assert "PENDING" in scaling("status", STUDY)

    # A process of the first cooldown is killed: its job goes on from the checkpoint.
    wait_for(lambda: owner(tmp_path / STUDY / cooldown / "LOCK"), 900)
    os.kill(owner(tmp_path / STUDY / cooldown / "LOCK")["pid"], signal.SIGKILL)

    # Once all pretraining is done, one node is enough.
    wait_for(lambda: done("pretrain/mae-xxs-seed0-320") and done(cooldown), 900)
    say(slurm, "scontrol", "update", "NodeName=127.0.0.2", "State=DRAIN", "Reason=test")
    wait_for(lambda: not say(slurm, "squeue", "--noheader"), 900)
    assert done("report")

    same_results(tmp_path / STUDY, finished / STUDY)
    assert "device hours spent" in scaling("status", STUDY)


def test_cancelled_study_leaves_the_queue_and_stays_out_of_it(
    tmp_path: Path, slurm: dict[str, str]
) -> None:
    (tmp_path / "cluster.toml").write_text(FACTS)

    def scaling(*arguments: object) -> str:
        command = [sys.executable, "-m", "scaling", *map(str, arguments)]
        return subprocess.run(
            command, cwd=tmp_path, env=slurm, capture_output=True, text=True, check=True
        ).stdout

    scaling("run", EXPERIMENT, "--engine", "slurm", "--cluster", "cluster.toml")
    wait_for(lambda: owner(tmp_path / STUDY / "phantom/LOCK"), 900)
    assert "10 jobs cancelled" in scaling("cancel", EXPERIMENT)
    wait_for(lambda: not say(slurm, "squeue", "--noheader"), 600)


def test_limited_submission_tells_the_rest_and_the_same_command_adds_it(
    tmp_path: Path, slurm: dict[str, str]
) -> None:
    (tmp_path / "cluster.toml").write_text(FACTS)

    def scaling(*arguments: object, code: int = 0) -> str:
        command = [sys.executable, "-m", "scaling", *map(str, arguments)]
        done = subprocess.run(
            command, cwd=tmp_path, env=slurm, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    say(slurm, "scontrol", "update", "NodeName=ALL", "State=DRAIN", "Reason=test")
    submit = ("run", EXPERIMENT, "--engine", "slurm", "--cluster", "cluster.toml")
    said = scaling(*submit, "--max-jobs", 4, code=1)
    assert "jobs stay out (--max-jobs 4)" in said
    assert "run the same command again once some have ended, it adds the rest" in said
    queue = say(slurm, "squeue", "--noheader", "--array").splitlines()
    assert 0 < len(queue) <= 4
    said = scaling(*submit)
    assert "10 queued in all" in said
    assert "0 jobs submitted, 10 queued in all" in scaling(*submit)
    assert "10 jobs cancelled" in scaling("cancel", EXPERIMENT)
    wait_for(lambda: not say(slurm, "squeue", "--noheader"), 600)
    said = scaling("status", EXPERIMENT)
    assert "CANCELLED" in said
    assert "jobs/array0000_0.log" in said
