"""Which file a worker was reading when it was killed (out of memory, by a scheduler).

A worker writes the path beside its process id before it reads a file, and removes it when its piece
of work is done: what is left belongs to one that was killed. A path ends in a zero byte, behind
which an earlier one may end: to empty the file first would take longer than to read a scan.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scaling.processes.parallel import WorkerKilledError

PREFIX = ".reading."
END = b"\0"


def mark(folder: Path, path: str) -> None:
    """Note that this process reads `path` now."""
    file = os.open(folder / f"{PREFIX}{os.getpid()}", os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        os.write(file, path.encode() + END)
    finally:
        os.close(file)


def unmark(folder: Path) -> None:
    """Note that this process reads nothing now."""
    (folder / f"{PREFIX}{os.getpid()}").unlink(missing_ok=True)


@contextmanager
def named_when_killed(folder: Path) -> Iterator[None]:
    """Turn the death of a worker into a sentence. Raises ChildProcessError."""
    try:
        yield
    except WorkerKilledError as error:
        marks = [file.read_bytes() for file in folder.glob(f"{PREFIX}*")]
        paths = sorted(content.partition(END)[0].decode() for content in marks)
        while_reading = f" while it read {' or '.join(paths)}" if paths else ""
        raise ChildProcessError(
            f"a worker process was killed{while_reading} (out of memory?); run again with fewer "
            "--workers, it continues there, or take the file out"
        ) from error
