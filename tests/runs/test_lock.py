"""The lock of a run: one writer, whatever happens to it."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
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


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\0\0\0", b'{"token": 1, "pid": "x"}'])
def test_lock_that_cannot_be_read_is_taken_once_it_stands_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.2)
    (tmp_path / "LOCK").write_bytes(content)
    os.utime(tmp_path / "LOCK", (time.time() - 60, time.time() - 60))
    with locked(tmp_path / "LOCK"):
        assert owner(tmp_path / "LOCK")["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_lock_that_cannot_be_read_but_moves_is_respected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.2)
    file = tmp_path / "LOCK"
    file.write_bytes(b"")
    stop = threading.Event()

    def touch() -> None:
        while not stop.wait(0.1):
            os.utime(file)

    thread = threading.Thread(target=touch)
    thread.start()
    with pytest.raises(LockedError, match=r"cannot be read, but is touched again"), locked(file):
        pass
    stop.set()
    thread.join()


def test_living_owner_that_proc_hides_is_judged_by_its_heartbeat(
    held: "subprocess.Popen[str]", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with hidepid=2: the process answers to a signal of number 0, but has no entry in /proc."""
    monkeypatch.setattr(lock, "STALE", 1.5)
    monkeypatch.setattr(lock, "BEAT", 0.4)
    read_text = Path.read_text

    def hidden(path: Path, *arguments: object) -> str:
        if str(path) == f"/proc/{held.pid}/stat":
            raise FileNotFoundError(path)
        return read_text(path, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "read_text", hidden)
    assert lock.start_time(held.pid) is None
    with pytest.raises(LockedError, match=f"process {held.pid}"), locked(tmp_path / "LOCK"):
        pass
    held.send_signal(signal.SIGSTOP)
    with locked(tmp_path / "LOCK"):
        pass
    held.send_signal(signal.SIGCONT)


def test_file_system_without_hard_links_is_told_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)
    with (
        pytest.raises(OSError, match=r"LOCK cannot be locked: its file system has no hard links"),
        locked(tmp_path / "LOCK"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_told_in_a_sentence_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(OSError, match=r"LOCK cannot be written: its disk is full"),
        locked(tmp_path / "LOCK"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


WRITE = """
import sys, time
from pathlib import Path
from scaling.files import write_text
from scaling.runs import lock
folder = Path(sys.argv[1])
with lock.locked(folder / "LOCK"):
    print("held", flush=True)
    number = 0
    while True:
        write_text(folder / "output", str(number))
        number += 1
"""


def test_owner_that_has_lost_its_lock_writes_no_further_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "STALE", 0.5)
    monkeypatch.setattr(lock, "BEAT", 0.2)
    command = [sys.executable, "-c", WRITE, str(tmp_path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, text=True, **pipes)  # type: ignore[call-overload]
    assert process.stdout.readline() == "held\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGSTOP)
    pretend(tmp_path / "LOCK", host="elsewhere/pid:[1]")
    os.utime(tmp_path / "LOCK", (time.time() - 60, time.time() - 60))
    time.sleep(7)  # longer than an owner trusts its last beat
    with locked(tmp_path / "LOCK"):
        written = (tmp_path / "output").read_bytes()
        process.send_signal(signal.SIGCONT)
        _, errors = process.communicate(timeout=20)
        assert process.returncode == 1
        assert "lost its lock" in errors
        assert (tmp_path / "output").read_bytes() == written
