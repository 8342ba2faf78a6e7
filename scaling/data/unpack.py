"""Unpack the zip files of sessions that large collections are published as.

COLLECTION/sub_1/ses_1.zip -> COLLECTION/sub_1/ses_1/t1.nii.gz, ...

A session is unpacked beside its place and renamed when it is whole, so that an interrupted run
goes on where it stopped. The zip files stay.
"""

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from scaling.data.files import walk
from scaling.processes.parallel import cores, unordered_map


def archives(folder: Path) -> list[Path]:
    """Every zip file below a folder, in order."""
    return [file for file in walk(folder) if file.suffix.lower() == ".zip"]


def unpacked_folder(archive: Path) -> Path:
    """Where the content of a session's zip file belongs: beside it, under its name."""
    return archive.with_suffix("")


def is_unpacked(archive: Path) -> bool:
    """Whether the folder of a zip file is there (it is renamed into place when it is whole)."""
    return unpacked_folder(archive).is_dir()


def unpack(
    folder: Path, workers: int = 0, progress: Callable[[int, int], None] | None = None
) -> tuple[int, list[str]]:
    """Unpack every zip file below a folder that is not unpacked yet.

    Returns the number of sessions unpacked now, and a sentence for every zip file that cannot be.
    Raises FileNotFoundError when the folder or any zip file is missing.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; expected one with zip files")
    found = archives(folder)
    if not found:
        raise FileNotFoundError(f"{folder} holds no zip files; expected sub_1/ses_1.zip, ...")
    waiting = [archive for archive in found if not is_unpacked(archive)]
    done = len(found) - len(waiting)
    problems = []
    for problem in unordered_map(unpack_archive, waiting, workers or cores()):
        done += 1
        if progress is not None:
            progress(done, len(found))
        if problem:
            problems.append(problem)
    return len(waiting) - len(problems), sorted(problems)


def unpack_archive(archive: Path) -> str:
    """Unpack one zip file. Returns why it cannot be; "" when it is unpacked."""
    target = unpacked_folder(archive)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as content:
            unsafe = [name for name in content.namelist() if not is_inside(name)]
            if unsafe:
                return f"{archive} holds {unsafe[0]!r}, a path that leads out of its folder"
            damaged = content.testzip()
            if damaged:
                return f"{archive} is damaged: {damaged} fails its checksum; fetch it again"
            content.extractall(partial)
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        return f"{archive} cannot be unpacked ({error}); fetch it again"
    # Some archives hold the session's folder, others its files.
    inner = partial / target.name
    if inner.is_dir() and [child.name for child in partial.iterdir()] == [target.name]:
        os.replace(inner, target)
        shutil.rmtree(partial)
    else:
        os.replace(partial, target)
    return ""


def is_inside(name: str) -> bool:
    """Whether a name in an archive stays below the folder that it is unpacked to."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name
