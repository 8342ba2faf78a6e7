"""Files below a folder, once and in order: links to folders are not followed, hidden folders are
skipped.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from scaling.data.reading import EXTENSIONS


def walk(folder: Path) -> Iterator[Path]:
    """Every visible file below `folder`, sorted, and every link to a folder.

    Raises OSError for a folder that may not be read.
    """
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from walk(Path(entry.path))
        else:
            yield Path(entry.path)


def extension(name: str) -> str:
    """The ending of a file name that says it is a volume, or ""."""
    return max(
        (ending for ending in EXTENSIONS if name.lower().endswith(ending)), key=len, default=""
    )


def link_problem(file: Path, *allowed: Path) -> str:
    """Why a link is not read: it leads out of all the `allowed` folders (resolved paths), or to a
    folder; "" for what may be read.
    """
    if not file.is_symlink():
        return ""
    if file.is_dir():
        return f"{file} is a link to a folder, which is not followed; copy the folder, or name its files in a table of scans"
    real = Path(os.path.realpath(file))
    if any(real.is_relative_to(folder) for folder in allowed):
        return ""
    return f"{file} is a link that leaves {allowed[0]}; copy the file into it, or name it in a table of scans"
