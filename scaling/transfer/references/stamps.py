"""What a step has read of a competitor, and which of it was edited since."""

import hashlib
from pathlib import Path
from typing import assert_never

from scaling.data.identity import stamp
from scaling.files import read_json, write_json
from scaling.study.config import Features, Function, Predictions, Weights
from scaling.study.references import AnyReference
from scaling.transfer.references.functions import source_files

READ = "features.json"  # of a step: what it has read, and its stamp


def paths_of(reference: AnyReference) -> list[Path]:
    """The file or folder that a competitor comes from; of a function that which defines it, and
    those of the user's own that it imports.
    """
    match reference:
        case Features() | Predictions() | Weights():
            return [Path(reference.path)]
        case Function():
            return source_files(reference)
        case _:
            assert_never(reference)


def write_stamp(folder: Path, reference: AnyReference) -> None:
    """Leave in a step's folder what it is about to read."""
    stamps = {str(path.resolve()): stamp_of(path) for path in paths_of(reference)}
    write_json(folder / READ, {"stamps": stamps})


def stamp_of(path: Path) -> str:
    """Size and time of change of a table, or a digest of those of all files of a folder."""
    if not path.is_dir():
        return stamp(str(path))
    stamps = [f"{file.relative_to(path)} {stamp(str(file))}" for file in sorted(path.rglob("*"))]
    return hashlib.blake2b("\n".join(stamps).encode(), digest_size=16).hexdigest()


def edited_files(step_dir: Path) -> list[Path]:
    """What a finished step has read and is another by now. What is not there now is not counted."""
    file = step_dir / READ
    if not file.exists():
        return []
    read = read_json(file)
    stamps = read.get("stamps") or {read["path"]: read["stamp"]}  # the latter of an earlier version
    paths = [(Path(name), then) for name, then in stamps.items()]
    return [path for path, then in paths if path.exists() and stamp_of(path) != then]
