"""The lock of a run: one writer, whatever happens to it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scaling.runs import lock
from scaling.runs.lock import LockedError, locked, owner

HOLD = """
import sys, time
from pathlib import Path
from scaling.runs import lock
lock.BEAT = 0.2
with lock.locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def held(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds tmp_path/LOCK."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "LOCK")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def pretend(file: Path, **facts: object) -> None:
    """Rewrite the owner that a lock names."""
    file.write_text(json.dumps({**owner(file), **facts}))


def test_lock_is_there_while_held_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with locked(tmp_path / "run" / "LOCK"):
        assert owner(tmp_path / "run" / "LOCK")["pid"] == os.getpid()
        with (
            pytest.raises(LockedError, match=f"written by process {os.getpid()} on "),
            locked(tmp_path / "run" / "LOCK"),
        ):
            pass
    assert list((tmp_path / "run").iterdir()) == []


def test_lock_of_a_living_process_is_respected_and_that_of_a_killed_one_taken(
    held: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    with (
        pytest.raises(
            LockedError,
            match=rf"process {held.pid} on .* which holds .*LOCK; wait for it, or stop it",
        ),
        locked(tmp_path / "LOCK"),
    ):
        pass
    held.kill()
    held.wait()
    with locked(tmp_path / "LOCK"):
        assert owner(tmp_path / "LOCK")["pid"] == os.getpid()


def test_lock_of_another_process_of_the_same_number_is_taken(
    held: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    pretend(tmp_path / "LOCK", started="1")
    with locked(tmp_path / "LOCK"):
        pass


def test_lock_of_another_machine_is_taken_only_once_it_stands_still(
    held: "subprocess.Popen[str]", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "STALE", 1.5)
    monkeypatch.setattr(lock, "BEAT", 0.4)
    pretend(tmp_path / "LOCK", host="elsewhere/pid:[1]", job="42")
    with (
        pytest.raises(LockedError, match=rf"process {held.pid} on elsewhere \(SLURM job 42\)"),
        locked(tmp_path / "LOCK"),
    ):
        pass
    held.send_signal(signal.SIGSTOP)
    with locked(tmp_path / "LOCK"):
        held.send_signal(signal.SIGCONT)
        # The owner that stood still finds its lock taken and ends by itself.
        assert held.wait(10) == 1
    assert "lost its lock" in held.communicate()[1]


def test_of_many_contenders_for_a_stale_lock_one_wins(
    held: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    held.kill()
    held.wait()
    contend = """
import sys, time
from pathlib import Path
from scaling.runs.lock import LockedError, locked
while time.time() < float(sys.argv[2]): pass
try:
    with locked(Path(sys.argv[1])):
        print("won", flush=True)
        sys.stdin.read()
except LockedError:
    print("lost", flush=True)
"""
    start = str(time.time() + 1.0)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    many = [
        subprocess.Popen(
            [sys.executable, "-c", contend, str(tmp_path / "LOCK"), start], text=True, **pipes
        )
        for _ in range(6)
    ]  # type: ignore[call-overload]
    outcomes = [process.stdout.readline().strip() for process in many]  # type: ignore[union-attr]
    for process in many:
        process.communicate()
    assert sorted(outcomes) == ["lost"] * 5 + ["won"]
    assert list(tmp_path.iterdir()) == []
