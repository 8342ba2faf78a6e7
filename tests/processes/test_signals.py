"""Signals: saved before leaving, at once when asked twice, and never the end of finished work."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import environment

BEFORE = """
from scaling.processes import signals
signals.listen()
print("ready", flush=True)
import time
time.sleep(60)
"""
DURING = """
import sys, time
from scaling.processes import signals
signals.listen()
signals.save_before_leaving()
print("ready", flush=True)
assert signals.state.stop.wait(60)
time.sleep(0.2)
print("saved", flush=True)
sys.exit(signals.state.code)
"""
# Two minutes in C, where no Python handler runs.
DEEP = """
import hashlib
from scaling.processes import signals
signals.listen()
signals.save_before_leaving()
print("ready", flush=True)
hashlib.pbkdf2_hmac("sha512", b"password", b"salt", 400_000_000)
"""
# The same, where no more than a second is waited for.
IMPATIENT = DEEP.replace("hashlib.pbkdf2", "with signals.at_most(1.0): hashlib.pbkdf2")
AFTER = """
import atexit, time
from scaling.processes import signals
signals.listen()
atexit.register(lambda: (print("ready", flush=True), time.sleep(1.5)))
signals.outlast()
"""
CONNECTED = """
import sys, time
from scaling.processes.distributed import connect, stopping
from scaling.processes import signals
connect()
print("ready", flush=True)
deadline = time.monotonic() + 60
while not stopping():
    assert time.monotonic() < deadline
    time.sleep(0.01)
sys.exit(signals.state.code)
"""


def started(code: str) -> "subprocess.Popen[str]":
    """A process that runs `code`, once it is ready. It heeds Ctrl-C, also where the tests do
    not.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment(), text=True, **pipes)  # type: ignore[call-overload]
    signal.signal(signal.SIGINT, before)
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP])
def test_signal_before_a_run_leaves_with_the_code_that_queues_it_again(number: int) -> None:
    process = started(BEFORE)
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (85, "")


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 85),
        (signal.SIGUSR2, 85),
        (signal.SIGHUP, 85),
        (signal.SIGINT, 130),
    ],
)
def test_first_signal_during_a_run_lets_it_save(number: int, code: int) -> None:
    process = started(DURING)
    process.send_signal(number)
    output, errors = process.communicate(timeout=20)
    assert (process.returncode, output) == (code, "saved\n"), errors


def test_second_interrupt_leaves_at_once_even_deep_in_compiled_code() -> None:
    process = started(DEEP)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=5)
    assert process.returncode == 130
    assert "Ctrl-C again leaves at once" in errors


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 85), (signal.SIGINT, 130)])
def test_work_that_reaches_no_place_to_stop_is_left_in_time(number: int, code: int) -> None:
    process = started(IMPATIENT)
    process.send_signal(number)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == code
    assert "all parts before it are kept" in errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP])
def test_signal_after_the_work_does_not_change_its_exit_code(number: int) -> None:
    process = started(AFTER)
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")


def test_ignored_hangup_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = started(DURING)
    finally:
        signal.signal(signal.SIGHUP, before)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 85


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2, signal.SIGINT])
def test_process_that_has_started_jax_is_told_by_every_signal(number: int) -> None:
    process = started(CONNECTED)
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == (130 if number == signal.SIGINT else 85), errors
