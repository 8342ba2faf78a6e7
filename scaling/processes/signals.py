"""What a process does when it is told to stop.

`listen` is called before anything else, and `outlast` when the work is over, so that no signal ends
the process on its own terms:

    before a run     SIGTERM, SIGUSR2, SIGHUP: leave with `SAVED`, nothing was begun; Ctrl-C: leave
    during a run     the first of any of them: save, then leave; a second Ctrl-C: leave at once
    within `at_most` as during a run, but leave after so many seconds, saved or not
    after the work   ignored: the exit code is that of the work

A thread reads the signals from a pipe (`signal.set_wakeup_fd`): Python's own handlers wait for the
main thread, which may be minutes deep in a compilation.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SAVED = 85  # exit code: everything is saved, run the same command again
INTERRUPTED = 130  # exit code: as SAVED, but by Ctrl-C, so nobody queues it again
SCHEDULERS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP)
ALL = (*SCHEDULERS, signal.SIGINT)


class Stopped(BaseException):
    """This process was told to stop, and everything is saved. No `Exception`: a step that is told
    to stop has not failed.
    """

    def __init__(self, where: str, code: int = SAVED):
        super().__init__(where)
        self.code = code


class Signals:
    """What has come so far."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.interrupts = 0
        self.code = SAVED
        self.saving = False  # whether somebody asks `stop`, so that a signal is to wait
        self.forward: Callable[[], object] | None = None
        # Of each `at_most` that runs: seconds from the first signal to the process's end.
        self.patience: list[float] = []


state = Signals()


def listen() -> None:
    """Install the handlers. A signal that this process was started to ignore (nohup) stays so."""
    for number in ALL:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, leave_or_wait)


def leave_or_wait(number: int, frame: FrameType | None) -> None:
    """The handler in the main thread: before a run it leaves, during a run the thread has acted."""
    if state.saving:
        return
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(SAVED)


def save_before_leaving(forward: Callable[[], object] | None = None) -> None:
    """From now on a signal sets `state.stop` (and calls `forward`) instead of ending the
    process.
    """
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    state.saving, state.forward = True, forward
    signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=watch, args=(receiver, sender), daemon=True).start()


def watch(receiver: socket.socket, sender: socket.socket) -> None:
    """Act on each signal as it comes. `sender` is passed to stay open."""
    while numbers := receiver.recv(64):
        for number in numbers:
            if number in ALL:
                receive(number)


def receive(number: int) -> None:
    """Note a signal; a second Ctrl-C ends this process."""
    if number == signal.SIGINT:
        state.interrupts += 1
        if state.interrupts > 1:
            os._exit(INTERRUPTED)
        state.code = INTERRUPTED
        note = b"\nstopping once everything is saved; Ctrl-C again leaves at once\n"
        os.write(sys.stderr.fileno(), note)
    first = not state.stop.is_set()
    state.stop.set()
    if first and state.forward is not None:
        state.forward()
    if first and state.patience:
        threading.Thread(target=leave_after, args=(max(state.patience),), daemon=True).start()


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Within it a signal ends this process after `seconds`, if nothing asked `stop` until then: for
    work whose parts are on the disk as soon as they are done, and of which one may take hours.
    """
    state.patience.append(seconds)
    try:
        yield
    finally:
        state.patience.remove(seconds)


def leave_after(seconds: float) -> None:
    """End this process after `seconds`, unless it has left all that `at_most` wraps by then."""
    time.sleep(seconds)
    if not state.patience:
        return
    note = (
        f"\ntold to stop {seconds:.0f} s ago, and leaving in the middle of a part; all parts "
        "before it are kept, the same command goes on from there\n"
    )
    os.write(sys.stderr.fileno(), note.encode())
    os._exit(state.code)


def outlast() -> None:
    """Ignore what comes now that the work is over, except Ctrl-C: the exit code is the work's."""
    for number in SCHEDULERS:
        signal.signal(number, signal.SIG_IGN)
