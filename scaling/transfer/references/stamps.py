"""What a step has read of a competitor, and whether that was edited since."""

import hashlib
from pathlib import Path
from typing import assert_never

from scaling.data.identity import stamp
from scaling.files import read_json, write_json
from scaling.study.config import Features, Function, Predictions, Weights
from scaling.study.references import AnyReference
from scaling.transfer.references.functions import source_file

READ = "features.json"  # of a step: what it has read, and its stamp


def path_of(reference: AnyReference) -> Path:
    """The file or folder that a competitor comes from; of a function that which defines it."""
    match reference:
        case Features() | Predictions() | Weights():
            return Path(reference.path)
        case Function():
            return source_file(reference)
        case _:
            assert_never(reference)


def write_stamp(folder: Path, reference: AnyReference) -> None:
    """Leave in a step's folder what it is about to read."""
    path = path_of(reference)
    write_json(folder / READ, {"path": str(path), "stamp": stamp_of(path)})


def stamp_of(path: Path) -> str:
    """Size and time of change of a table, or a digest of those of all files of a folder."""
    if not path.is_dir():
        return stamp(str(path))
    stamps = [f"{file.relative_to(path)} {stamp(str(file))}" for file in sorted(path.rglob("*"))]
    return hashlib.blake2b("\n".join(stamps).encode(), digest_size=16).hexdigest()


def is_edited(step_dir: Path) -> bool:
    """Whether the features that a finished step has read are others by now. Those that are not
    there now are not counted.
    """
    file = step_dir / READ
    if not file.exists():
        return False
    read = read_json(file)
    path = Path(read["path"])
    return path.exists() and stamp_of(path) != read["stamp"]
