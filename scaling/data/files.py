"""Files below a folder, found once and in order.

Links to folders are not followed, hidden folders are not entered, closed ones are reported.
"""

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from scaling.data.opening import EXTENSIONS


def walk(folder: Path) -> Iterator[Path]:
    """Every visible file below `folder`, sorted; every link to a folder; every closed folder.

    What is yielded and is a folder cannot be entered: `folder_problem` says why.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        yield folder
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from walk(Path(entry.path))
        else:
            yield Path(entry.path)


@lru_cache(maxsize=2**14)  # names repeat from session to session
def extension(name: str) -> str:
    """The ending of a file name that says it is a volume, or ""."""
    lower = name.lower()
    endings = [ending for ending in EXTENSIONS if lower.endswith(ending)]
    return max(endings, key=len, default="")


def printable(name: str) -> str:
    """A name as text that can be stored and shown: bytes that are no UTF-8 become \\xNN."""
    if name.isascii():
        return name
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def name_problem(file: Path) -> str:
    """Why a file with this name is not read, "" for a name in UTF-8."""
    name = str(file)
    if name.isascii() or printable(name) == name:
        return ""
    return f"{printable(str(file))} has a name that is not in UTF-8; rename it"


def folder_problem(folder: Path) -> str:
    """Why `walk` did not enter a folder."""
    if folder.is_symlink():
        return (
            f"{folder} is a link to a folder, which is not followed; copy the folder, or name its "
            "files in a table of scans"
        )
    try:
        os.scandir(folder).close()
    except OSError as error:
        return (
            f"{printable(str(folder))} cannot be opened ({error.strerror}); change its permissions"
        )
    return ""


def link_problem(file: Path, *allowed: Path) -> str:
    """Why a link is not read, "" for what may be read.

    A link may lead to a file below one of the `allowed` folders (resolved paths), or into the annex
    of a dataset (git-annex, DataLad) that one of them belongs to.
    """
    if not file.is_symlink():
        return ""
    if file.is_dir():
        return folder_problem(file)
    real = Path(os.path.realpath(file))
    if any(real.is_relative_to(folder) for folder in allowed):
        return ""
    for folder in allowed:
        if any(real.is_relative_to(above / ".git" / "annex") for above in folder.parents):
            return ""
    return (
        f"{file} is a link that leaves {allowed[0]}; copy the file into it, or name it in a table "
        "of scans"
    )
