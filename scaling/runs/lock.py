"""One writer per run: a lock file that survives its owner's death and works on shared folders.

The lock is a file that appears complete by a hard link (atomic on local disks and on NFS; `flock` and `lockf` are not to be had
on every cluster's file system). Its owner touches it every few seconds. It is stale when its process is dead, if that ran
on this machine, or else when it was not touched for `STALE` seconds as this process watches: no two clocks are
compared. Taking over is guarded by a second link, named after the stale owner, so only one of several can. An owner
that finds its lock taken (it was suspended, say) ends within seconds. What is asked of the file system: hard links, and that a
file opened after another machine wrote it is the new one (close-to-open consistency, as NFS has).
"""

import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BEAT, STALE = 3.0, 30.0


class LockedError(OSError):
    """Another living process writes this run."""


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold the lock `file`. Raises LockedError, naming its owner, when another process holds it and lives.

    An owner on another machine that does not move is watched for up to `STALE` seconds before its lock is taken over.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    mine = {"token": uuid.uuid4().hex, **this_process(), "job": os.environ.get("SLURM_JOB_ID", ""), "began": time.time()}
    candidate = file.with_name(f".{file.name}.{mine['token']}")
    candidate.write_text(json.dumps(mine) + "\n")
    try:
        while not linked(candidate, file):
            take_over(file, candidate)
    finally:
        candidate.unlink(missing_ok=True)
    stop = threading.Event()
    beat = threading.Thread(target=keep_alive, args=(file, mine["token"], stop), daemon=True)
    beat.start()
    try:
        yield
    finally:
        stop.set()
        beat.join()
        if owner(file).get("token") == mine["token"]:
            file.unlink(missing_ok=True)


def owner(file: Path) -> dict[str, Any]:
    """Who holds a lock: token, host, pid, started, job, began; empty when nobody does."""
    try:
        return json.loads(file.read_text())
    except FileNotFoundError:
        return {}


def linked(candidate: Path, name: Path) -> bool:
    """Give the file `candidate` the name `name`, unless that is taken."""
    try:
        os.link(candidate, name)
    except FileExistsError:
        # Over NFS an answer can be lost and the link be there all the same.
        return name.exists() and os.path.samefile(candidate, name)
    return True


def take_over(file: Path, candidate: Path) -> None:
    """Remove a stale lock. Raises LockedError when its owner lives; returns when the lock can be tried again."""
    held = owner(file)
    if not held:
        return
    if alive(file, held):
        raise LockedError(
            f"{file.parent} is being written by process {held['pid']} on {held['host'].split('/')[0]}"
            + (f" (SLURM job {held['job']})" if held["job"] else "")
            + f", which holds {file}; wait for it, or stop it and run again"
        )
    guard = file.with_name(f".{file.name}.{held['token']}.stale")
    if linked(candidate, guard):
        if owner(file).get("token") == held["token"]:
            file.unlink()
        guard.unlink()
    else:
        time.sleep(0.1)


def alive(file: Path, held: dict[str, Any]) -> bool:
    """Whether a lock's owner lives: its process is there, or, from another machine, its lock moves while it is watched."""
    here = this_process()
    if held["host"] == here["host"]:
        return held["started"] == start_time(held["pid"])
    seen = touched(file)
    deadline = time.monotonic() + STALE
    while time.monotonic() < deadline:
        time.sleep(min(1.0, BEAT / 4))
        if touched(file) != seen:
            return bool(owner(file))
    return False


def touched(file: Path) -> int:
    """When a file was last touched, by the file server's clock. Opening it makes NFS ask the server."""
    try:
        with file.open() as handle:
            return os.fstat(handle.fileno()).st_mtime_ns
    except FileNotFoundError:
        return 0


def keep_alive(file: Path, token: str, stop: threading.Event) -> None:
    """Touch the lock until told to stop; end this process if the lock is no longer its own."""
    beaten = time.monotonic()
    while not stop.wait(BEAT):
        try:
            lost = owner(file).get("token") != token
            if not lost:
                os.utime(file)
                beaten = time.monotonic()
        except OSError:  # the file server may be back in a moment; others wait as long
            lost = time.monotonic() - beaten > STALE
        if lost:
            print(f"scaling: this process lost its lock {file} while it or the file server stood still; it ends here", file=sys.stderr)
            os._exit(1)


def this_process() -> dict[str, Any]:
    """This process and its machine (with its process namespace: containers share host names, not process numbers)."""
    space = Path("/proc/self/ns/pid")
    machine = socket.gethostname() + (f"/{os.readlink(space)}" if space.exists() else "")
    return {"host": machine, "pid": os.getpid(), "started": start_time(os.getpid())}


def start_time(pid: int) -> str:
    """When a process of this machine started, in its kernel's ticks; "" when there is no such process.

    Tells a process from a later one of the same number. Without /proc any living process of that number counts.
    """
    if Path("/proc/self/stat").exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return ""
        return "" if fields[0] == "Z" else fields[19]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "alive"
