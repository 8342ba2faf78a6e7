"""Keep freed memory in the process: on CPU this halves the time of a training step."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8


def keep_freed_memory() -> None:
    """Ask glibc not to give freed memory back to the system.

    XLA allocates a step's temporaries anew each time; with malloc's defaults every large one is
    mapped, faulted in page by page and unmapped again, which takes as long as the arithmetic. One
    arena for all threads, for in those of its own a thread still maps. Threads that are there
    already keep theirs: call it first.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            for parameter, value in (
                (M_MMAP_MAX, 0),
                (M_TRIM_THRESHOLD, 2**31 - 1),
                (M_TOP_PAD, 2**28),
                (M_ARENA_MAX, 1),
            ):
                libc.mallopt(parameter, value)
