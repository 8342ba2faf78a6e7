"""Features from a function of the user's own: run once for every scan, kept, resumed after a kill.

    STUDY/references/NAME/KEY/HASH.npy    features [F] of the scan whose voxels have that hash

KEY is a digest of the function's file and those of the user's that it imports, of what it reads and
of the grid: an edited function, or another grid, begins anew. Two tasks share the scans that they
have in common.
"""

import hashlib
import importlib
import importlib.util
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, assert_never

import numpy as np
from jaxtyping import Float

from scaling.data.cache import Cache
from scaling.files import write_bytes
from scaling.study.config import Function, Task
from scaling.transfer.references.features import rows_of, side_by_side
from scaling.transfer.references.imports import files_of_module
from scaling.transfer.references.joining import slots_of_cases

Encode = Callable[[Any], Any]


def encoded_features(
    reference: Function, cache: Cache, task: Task, study_dir: Path, pause: Callable[[], None]
) -> dict[str, np.ndarray]:
    """Case -> features [S*F] of all cases of a task, not a number where a sequence is absent.

    `pause` is called after every call of the function, when what it gave is kept. Raises
    ValueError, naming function and scan, for what is no finite vector.
    """
    slots = slots_of_cases(cache, task)
    rows = rows_of(slots)
    store = store_of(reference, cache, study_dir)
    hashes = cache.index["content_hash"]
    files = {row: store / f"{hashes[row]}.npy" for row in rows}
    encode = imported(reference)
    for start in range(0, len(rows), reference.batch):
        chunk = rows[start : start + reference.batch]
        if all(files[row].exists() for row in chunk):
            continue
        names = [str(cache.index["path"][row]) for row in chunk]
        vectors = checked(reference, encode(inputs(reference, cache, chunk)), names)
        for row, vector in zip(chunk, vectors, strict=True):
            write_bytes(files[row], as_npy(vector))
        pause()
    by_row = {row: np.load(files[row], allow_pickle=False) for row in rows}
    require_one_length(reference, by_row)
    return side_by_side(slots, by_row)


def inputs(reference: Function, cache: Cache, rows: Sequence[int]) -> Any:
    """What the function is called with: volumes float32 [B, D, H, W], or B paths."""
    match reference.reads:
        case "volumes":
            return np.stack([cache.volume(row) for row in rows]).astype(np.float32)
        case "paths":
            return [Path(str(cache.index["path"][row])) for row in rows]
        case _:
            assert_never(reference.reads)


def checked(reference: Function, outputs: Any, names: Sequence[str]) -> Float[np.ndarray, "B F"]:
    """What the function gave, as float64 [B, F]. Raises ValueError naming function and scan."""
    if hasattr(outputs, "detach"):  # a tensor of PyTorch
        outputs = outputs.detach().cpu()
    vectors = np.asarray(outputs)
    if vectors.ndim != 2 or len(vectors) != len(names) or vectors.dtype.kind not in "fiu":
        raise ValueError(
            f"reference {reference.name!r}: {reference.function} gave {vectors.dtype} "
            f"{vectors.shape} for {len(names)} scans; expected features [{len(names)}, F]"
        )
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"reference {reference.name!r}: {reference.function} gave a feature that is no finite "
            f"number for {names[int(np.argmin(finite))]}"
        )
    return vectors.astype(np.float64)


def require_one_length(reference: Function, by_row: dict[int, np.ndarray]) -> None:
    """Raise ValueError unless all scans have as many features."""
    lengths = sorted({len(vector) for vector in by_row.values()})
    if len(lengths) > 1:
        raise ValueError(
            f"reference {reference.name!r}: {reference.function} gave {lengths[0]} features for "
            f"one scan and {lengths[-1]} for another; expected as many for all"
        )


def store_of(reference: Function, cache: Cache, study_dir: Path) -> Path:
    """The folder of the features that a function has made so far."""
    digest = hashlib.blake2b(digest_size=8)
    for file in source_files(reference):
        digest.update(file.read_bytes())
    digest.update(f"{reference.function} {reference.reads}".encode())
    if reference.reads == "volumes":
        digest.update(repr(cache.volumes).encode())
    return study_dir / "references" / reference.name / digest.hexdigest()


def as_npy(vector: np.ndarray) -> bytes:
    """The content of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, vector, allow_pickle=False)
    return buffer.getvalue()


def parts_of(reference: Function) -> tuple[str, str]:
    """Module, or file, and name of the function. Raises ValueError."""
    module, _, name = reference.function.rpartition(":")
    if not module or not name.isidentifier():
        raise ValueError(
            f"reference {reference.name!r}: function is {reference.function!r}; expected "
            "module:function or file.py:function"
        )
    return module, name


def source_file(reference: Function) -> Path:
    """The file that defines a function, which is not run for it. Raises FileNotFoundError."""
    module, _ = parts_of(reference)
    if module.endswith(".py"):
        file = Path(module)
    else:
        with_working_directory()
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError):
            spec = None
        file = Path(spec.origin) if spec is not None and spec.origin else Path(module)
    if not file.is_file():
        raise FileNotFoundError(
            f"reference {reference.name!r}: there is no module {module!r}; expected a file .py, a "
            f"module in {Path.cwd()}, or one that is installed"
        )
    return file.resolve()


def source_files(reference: Function) -> list[Path]:
    """The file that defines a function, and those of the user's own that it imports."""
    module, _ = parts_of(reference)
    return files_of_module(source_file(reference), "" if module.endswith(".py") else module)


def imported(reference: Function) -> Encode:
    """The function. Raises ValueError where its module cannot be imported or lacks it."""
    module_name, name = parts_of(reference)
    file = source_file(reference)
    try:
        if module_name.endswith(".py"):
            spec = importlib.util.spec_from_file_location(f"reference_{file.stem}", file)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(module_name)
    except Exception as error:  # whatever a user's file does, the user is told where
        raise ValueError(
            f"reference {reference.name!r}: {file} cannot be imported "
            f"({type(error).__name__}: {error})"
        ) from error
    encode = getattr(module, name, None)
    if not callable(encode):
        raise ValueError(f"reference {reference.name!r}: {file} defines no function {name}")
    return encode


def with_working_directory() -> None:
    """Let modules be imported from the working directory, as `python -m` does."""
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
