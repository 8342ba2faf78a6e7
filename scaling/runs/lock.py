"""One writer per run: a lock file that survives its owner's death and works on shared folders.

The lock is a file that appears complete by a hard link (atomic on local disks and on NFS; `flock`
and `lockf` are missing on the file systems of some clusters). Its owner touches it every few
seconds. It is stale when its process is dead, where that can be seen: on this machine, unless the
process belongs to somebody else and is hidden. Otherwise the heartbeat decides: a lock that was not
touched for `STALE` seconds by the file server's clock, and is not touched while this process
watches, is stale. So is one that cannot be read. Taking over is guarded by a second link, named
after the stale owner, so only one of several contenders takes it. An owner that finds its lock
taken (it was suspended, say) writes no further file and ends within seconds. What is asked of the
file system: hard links, and that a file opened after another machine wrote it is the new one
(close-to-open consistency, as NFS has).
"""

import errno
import json
import os
import socket
import sys
import threading
import time
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from scaling.files import before_rename, explained, flush, process_exists, temporary_file

BEAT, STALE = 3.0, 30.0
FACTS = {"token": str, "host": str, "pid": int, "started": str, "job": str}
NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class LockedError(OSError):
    """Another living process writes this run."""


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold the lock `file`. Raises LockedError, naming its owner, when another process holds it and
    lives, and OSError when the file system cannot lock.

    An owner that cannot be seen and does not move is watched before its lock is taken over.
    """
    mine = {
        "token": uuid.uuid4().hex,
        **this_process(),
        "job": os.environ.get("SLURM_JOB_ID", ""),
        "began": time.time(),
    }
    candidate = temporary_file(file.with_name(f"{file.name}-{mine['token']}"))
    try:
        with explained(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            candidate.write_text(json.dumps(mine) + "\n")
            flush(candidate)
        while not linked(candidate, file):
            take_over(file, candidate)
    finally:
        with suppress(OSError):  # where it could not be written, it may not be there
            candidate.unlink(missing_ok=True)
    heartbeat = Heartbeat(file, mine["token"])
    before_rename.append(heartbeat.require)
    heartbeat.thread.start()
    try:
        yield
    finally:
        before_rename.remove(heartbeat.require)
        heartbeat.stop.set()
        heartbeat.thread.join()
        if owner(file).get("token") == mine["token"]:
            file.unlink(missing_ok=True)


def owner(file: Path) -> dict[str, Any]:
    """Who holds a lock: token, host, pid, started, job, began; empty when nobody does, or when the
    file cannot be read as a lock.
    """
    try:
        facts = json.loads(file.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    if not isinstance(facts, dict):
        return {}
    complete = all(isinstance(facts.get(name), kind) for name, kind in FACTS.items())
    return facts if complete else {}


def linked(candidate: Path, name: Path) -> bool:
    """Give the file `candidate` the name `name`, unless that is taken."""
    try:
        os.link(candidate, name)
    except FileExistsError:
        # Over NFS an answer can be lost and the link be there all the same.
        return name.exists() and os.path.samefile(candidate, name)
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        raise OSError(
            f"{name} cannot be locked: its file system has no hard links ({error.strerror}); keep "
            "the studies' folder on a local disk or on NFS (--out FOLDER)"
        ) from error
    return True


def take_over(file: Path, candidate: Path) -> None:
    """Remove a stale lock. Raises LockedError when its owner lives; returns when the lock can be
    tried again.
    """
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return
    facts = owner(file)
    if alive(file, facts, candidate):
        raise LockedError(described(file, facts))
    # The guard is named after what was found stale: a new owner's lock is another one.
    name = facts.get("token") or f"{zlib.crc32(content):08x}"
    guard = file.with_name(f".{file.name}.{name}.stale")
    if linked(candidate, guard):
        if file.exists() and file.read_bytes() == content:
            file.unlink()
        guard.unlink()
    else:
        time.sleep(0.1)


def described(file: Path, facts: dict[str, Any]) -> str:
    """Who writes a run, in one sentence."""
    if not facts:
        return (
            f"{file.parent} is being written: {file} cannot be read, but is touched again and "
            "again; wait for its owner, or stop it and run again"
        )
    job = f" (SLURM job {facts['job']})" if facts["job"] else ""
    return (
        f"{file.parent} is being written by process {facts['pid']} on "
        f"{facts['host'].split('/')[0]}{job}, which holds {file}; wait for it, or stop it and run "
        "again"
    )


def alive(file: Path, facts: dict[str, Any], candidate: Path) -> bool:
    """Whether a lock's owner lives: by its process where that can be seen, else by its heartbeat.

    `candidate`, which this process has just written beside it, tells the time of the file server.
    """
    if facts and facts["host"] == this_process()["host"]:
        started = start_time(facts["pid"])
        if started is not None:
            return facts["started"] == started
    return beats(file, candidate)


def beats(file: Path, candidate: Path) -> bool:
    """Whether a lock is touched while this process watches: for as long as its last touch is
    younger than `STALE` seconds, and for two beats at least.
    """
    last = touched(file)
    age = (touched(candidate) - last) / 1e9
    deadline = time.monotonic() + max(STALE - age, 2 * BEAT)
    while time.monotonic() < deadline:
        time.sleep(min(1.0, BEAT / 4))
        if touched(file) != last:
            return file.exists()
    return False


def touched(file: Path) -> int:
    """When a file was last touched, in ns by the file server's clock. Opening it makes NFS ask the
    server.
    """
    try:
        with file.open() as handle:
            return os.fstat(handle.fileno()).st_mtime_ns
    except FileNotFoundError:
        return 0


class Heartbeat:
    """A thread that touches a lock until `stop` is set. If the lock is no longer its own it ends
    this process at once, by `os._exit`: nothing else keeps all other threads from writing further.
    """

    def __init__(self, file: Path, token: str):
        self.file, self.token = file, token
        self.stop = threading.Event()
        self.beaten = time.time()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self) -> None:
        while not self.stop.wait(BEAT):
            try:
                lost = owner(self.file).get("token") != self.token
                if not lost:
                    os.utime(self.file)
                    self.beaten = time.time()
            except OSError:  # the file server may be back in a moment; others wait as long
                lost = time.time() - self.beaten > STALE
            if lost:
                self.end()

    def require(self) -> None:
        """End this process if it stood still for so long that another may have taken its lock."""
        late = time.time() - self.beaten > 2 * BEAT
        if late and not self.stop.is_set() and owner(self.file).get("token") != self.token:
            self.end()

    def end(self) -> None:
        print(
            f"scaling: this process lost its lock {self.file} while it or the file server stood "
            "still; it ends here",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)


def this_process() -> dict[str, Any]:
    """This process and its machine (with its process namespace: containers share host names, not
    process numbers).
    """
    space = Path("/proc/self/ns/pid")
    machine = socket.gethostname() + (f"/{os.readlink(space)}" if space.exists() else "")
    return {"host": machine, "pid": os.getpid(), "started": start_time(os.getpid()) or ""}


def start_time(pid: int) -> str | None:
    """When a process of this machine started, in its kernel's ticks; "" when there is no such
    process, None when there is one that cannot be seen (another user's, where /proc hides those).

    Tells a process from a later one of the same number. Without /proc any living process of that
    number counts.
    """
    if not process_exists(pid):
        return ""
    if not Path("/proc/self/stat").exists():
        return "alive"
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except ProcessLookupError:
        return ""
    except (FileNotFoundError, PermissionError):
        return None if process_exists(pid) else ""
    return "" if fields[0] == "Z" else fields[19]
