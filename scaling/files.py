"""The one writer of the project: a file is replaced whole, and survives a kill or a loss of power.

A reader meets the old content or the new, never a part of either. The order makes it so: the
temporary file is flushed to the disk before the rename, and the folder that holds the name after
it.
"""

import errno
import json
import os
import re
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

# The format of everything that is written: study.json, run folders, caches, tables. docs/formats.md
# says what each number means. Files without one were written before there were numbers: format 1.
FORMAT = 2
ABANDONED = 24 * 3600  # seconds after which a temporary file of another machine counts as left over
TEMPORARY = re.compile(r"\..+\.(?P<machine>[0-9a-f]+)-(?P<process>\d+)\.tmp")

# Called before a file gets its name. A process that has lost its lock raises here, and writes
# nothing.
before_rename: list[Callable[[], None]] = []

CAUSES = {
    errno.ENOSPC: "its disk is full; free some space and run again",
    errno.EDQUOT: "your disk quota is used up; free some space and run again",
    errno.EROFS: "its file system is read-only; choose another folder, or mount it for writing",
    errno.EACCES: "you may not write there; change the permissions or choose another folder",
    errno.EPERM: "you may not write there; change the permissions or choose another folder",
    errno.EEXIST: "a part of this path is a file; move it away or choose another folder",
    errno.ENOTDIR: "a part of this path is a file; move it away or choose another folder",
    errno.ENAMETOOLONG: "the name is too long for its file system; choose shorter names",
    errno.EIO: "its disk reports an error; check the disk, then run again",
}


def check_before_rename() -> None:
    """Ask every lock of this process whether it is still held."""
    for check in before_rename:
        check()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends without an error, it becomes `path`.

    Raises OSError, in one sentence with the path, when the disk is full or cannot be written.
    """
    temporary = temporary_file(path)
    with explained(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            flush(temporary)
            check_before_rename()
            os.replace(temporary, path)
        except BaseException:
            # If the disk is what failed, removing may fail as well: the next run does it then.
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        flush(path.parent)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an error of the operating system into one sentence on `path`; its number stays."""
    try:
        yield
    except OSError as error:
        if error.errno not in CAUSES or error.strerror is None:
            raise
        sentence = OSError(f"{path} cannot be written: {CAUSES[error.errno]}")
        sentence.errno = error.errno
        raise sentence from error


def temporary_file(path: Path) -> Path:
    """The temporary file of this process for `path`: hidden, and named after machine and
    process.
    """
    return path.with_name(f".{path.name}.{machine()}-{os.getpid()}.tmp")


@lru_cache
def machine() -> str:
    """A short name of this machine and its process namespace: containers share host names."""
    namespace = Path("/proc/self/ns/pid")
    inode = namespace.stat().st_ino if namespace.exists() else 0
    return f"{zlib.crc32(f'{socket.gethostname()}/{inode}'.encode()):08x}"


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that dead processes left in `folder` (not below it)."""
    for file in folder.glob(".*.tmp") if folder.is_dir() else ():
        match = TEMPORARY.fullmatch(file.name)
        if match is None:
            continue
        try:
            if match["machine"] == machine():
                abandoned = not process_exists(int(match["process"]))
            else:
                abandoned = time.time() - file.stat().st_mtime > ABANDONED
            if abandoned:
                file.unlink()
        except FileNotFoundError:
            continue


def process_exists(number: int) -> bool:
    """Whether a process of this machine has this number."""
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def flush(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        flush_descriptor(descriptor)
    finally:
        os.close(descriptor)


def flush_descriptor(descriptor: int) -> None:
    """Wait until what was written to an open file is on the disk."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Devices, and folders on some file systems, cannot be flushed; they say so by EINVAL.
        if error.errno != errno.EINVAL:
            raise


def append_line(path: Path, value: Any) -> None:
    """Add a line of JSON to a file, and flush it. A line that a kill cut short is ended first."""
    with explained(path), path.open("ab+") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(json.dumps(value).encode() + b"\n")
        file.flush()
        flush_descriptor(file.fileno())


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file by `content`."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Replace a file by `text`, in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Replace a file by strict JSON (no NaN)."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises ValueError naming the file when it is not JSON."""
    try:
        return json.loads(path.read_text())
    except ValueError as error:  # no JSON, or no text at all
        raise ValueError(
            f"{path} is not valid JSON ({error}); delete its folder and run again"
        ) from error


def read_marker(path: Path | str) -> dict[str, Any] | None:
    """A JSON object that a finished action leaves; None when it is missing, empty or unreadable.

    A loss of power may leave such a file empty: what it would have marked is then not done.
    """
    try:
        with open(path, "rb") as file:
            value = json.loads(file.read())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def check_format(number: Any, path: Path) -> None:
    """Raises ValueError when `path` was written in a later format than this version reads."""
    if not isinstance(number, int) or not 1 <= number <= FORMAT:
        raise ValueError(
            f"{path} has format {number}, and this version reads formats 1 to {FORMAT}; install "
            "the version that wrote it (provenance.json beside it names it), or a later one"
        )


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Replace a file by a table: csv or parquet, by the path's ending. Parquet carries the
    format, and a checksum of every page.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with replacing(path) as temporary:
        if path.suffix == ".csv":
            table.to_csv(temporary, index=False)
            return
        columns = pa.Table.from_pandas(table, preserve_index=False)
        metadata = {**(columns.schema.metadata or {}), b"format": str(FORMAT).encode()}
        columns = columns.replace_schema_metadata(metadata)
        pq.write_table(columns, temporary, write_page_checksum=True)


def read_parquet(path: Path) -> pd.DataFrame:
    """Read a table that `write_table` wrote. Raises ValueError naming the file when it cannot be
    read, FileNotFoundError when it is missing.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # One thread: many small files are read one after the other.
        file = pq.ParquetFile(path, page_checksum_verification=True)
        columns = file.read(use_threads=False)
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(
            f"{path} cannot be read as a table ({error}); delete it and run again"
        ) from error
    check_format(int((columns.schema.metadata or {}).get(b"format", b"1")), path)
    return columns.to_pandas()
