"""Digests of outputs: whether the disk still holds what was written.

A finished step records size, time of change and digest of every file it wrote. Status compares
sizes and times, and computes a digest again only where the time differs; whoever opens a file
compares its digest, since a flipped bit changes no time.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Records = Mapping[str, Mapping[str, Any]]


class DamagedError(ValueError):
    """A file is not what was written; `file` says which."""

    def __init__(self, file: Path, reason: str):
        super().__init__(f"{file} is damaged: {reason}")
        self.file = file


def digest_of(file: Path) -> str:
    """The digest of a file's content (BLAKE2b, 16 bytes)."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def record(folder: Path, files: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Size in bytes, time of change in ns and digest of `files`, by their path relative to
    `folder`.
    """
    records = {}
    for file in sorted(files):
        state = file.stat()
        records[relative_name(folder, file)] = {
            "bytes": state.st_size,
            "modified": state.st_mtime_ns,
            "digest": digest_of(file),
        }
    return records


def relative_name(folder: Path, file: Path) -> str:
    """The path of `file` from `folder`, upwards where it lies outside."""
    try:
        return file.relative_to(folder).as_posix()
    except ValueError:
        return Path("..", file.relative_to(folder.parent)).as_posix()


def damage(folder: Path, records: Records) -> str:
    """Which recorded file is missing or not what was written, in one sentence; "" when all are
    whole.

    The digest of a file that was touched since is computed again.
    """
    for name, written in records.items():
        file = (
            f"{folder}/{name}"  # thousands of paths are looked at: strings take a tenth of the time
        )
        try:
            state = os.stat(file)
        except (FileNotFoundError, NotADirectoryError):
            return f"{file} is missing"
        if "digest" not in written:
            if state.st_size == 0:
                return f"{file} is empty"
            continue
        if state.st_size != written["bytes"]:
            return f"{file} is damaged: it has {state.st_size} bytes, not {written['bytes']}"
        if state.st_mtime_ns != written["modified"] and digest_of(Path(file)) != written["digest"]:
            return f"{file} is damaged: its content is not what was written"
    return ""


def require_whole(folder: Path, records: Records, names: Iterable[str] | None = None) -> None:
    """Raises DamagedError when one of the recorded files (or of `names`) is not what was
    written.
    """
    for name in records if names is None else names:
        file = folder / name
        if not file.exists():
            raise DamagedError(file, "it is missing")
        if digest_of(file) != records[name]["digest"]:
            raise DamagedError(file, "its content is not what was written")


def flipped(folder: Path, records: Records) -> Path | None:
    """The first recorded file whose content is another although nothing wrote it since, None when
    there is none. For tables that a verb may write anew at any time.
    """
    for name, written in records.items():
        file = folder / name
        untouched = file.exists() and file.stat().st_mtime_ns == written.get("modified")
        if untouched and digest_of(file) != written["digest"]:
            return file
    return None
