"""One way to spread work over processes: unordered, interruptible, no orphan left behind."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from threadpoolctl import threadpool_limits

Item = TypeVar("Item")
Result = TypeVar("Result")


class WorkerKilledError(ChildProcessError):
    """A worker process was killed from outside: the system was short of memory, most often."""


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def unordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    initializer: Callable[..., None] | None = None,
    arguments: tuple = (),
) -> Iterator[Result]:
    """Yield `function(item)` as results come, from `workers` processes (1: in this one). The first
    exception propagates. Raises WorkerKilledError when a process was killed.

    Processes are spawned, not forked: jax runs threads in the parent. `function` must be
    importable.
    """
    items = list(items)
    if workers <= 1 or len(items) <= 1:
        # One thread, as each of several workers has: sums in another order would end in other bits.
        with threadpool_limits(1):
            if initializer is not None:
                initializer(*arguments)
            yield from map(function, items)
        return
    executor = ProcessPoolExecutor(
        min(workers, len(items)),
        multiprocessing.get_context("spawn"),
        _start_worker,
        (initializer, arguments),
    )
    try:
        with _interrupts_held():
            futures = [executor.submit(function, item) for item in items]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise WorkerKilledError(
            "a worker process was killed (out of memory?); run the same command again, it goes on "
            "from what is done; if it happens again, with fewer workers (execution.workers)"
        ) from error
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes started within never see Ctrl-C or a scheduler's notice: the parent alone answers,
    after this, and stops them.
    """
    signals = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)


def _start_worker(initializer: Callable[..., None] | None, arguments: tuple) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent,), daemon=True).start()
    # As many processes as cores: more threads would only get into each other's way.
    threadpool_limits(1)
    if initializer is not None:
        initializer(*arguments)


def _exit_after(parent: "multiprocessing.process.BaseProcess") -> None:
    """A worker of a killed parent would wait for ever."""
    parent.join()
    os._exit(1)
