"""What a check has read of the files' headers: kept in its manifest, so that a later check, or one
that goes on after an interruption, reads only what changed.
"""

import os
from pathlib import Path
from typing import Any

import pandas as pd

from scaling.data.headers import TEXTS

HEADER = (*TEXTS, "bytes", "modified")


def with_headers(files: pd.DataFrame, headers: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """The header's columns beside those of the layout; what a table says of the scanner goes before
    the sidecar.
    """
    empty = dict.fromkeys(TEXTS, "") | {"bytes": -1, "modified": -1}
    described = pd.DataFrame(
        [empty | headers.get(path, {}) for path in files["path"]],
        index=files.index,
        columns=list(HEADER),
    )
    for column in described.columns.intersection(files.columns):
        described[column] = files[column].where(files[column] != "", described[column])
    return pd.concat([files.drop(columns=described.columns, errors="ignore"), described], axis=1)


def partial_file(manifest: Path) -> Path:
    """Where an unfinished check keeps what it has read."""
    return manifest.with_name(f".{manifest.name}.partial")


def earlier_headers(manifest: Path) -> dict[tuple[str, int, int], dict[str, Any]]:
    """(path, bytes, time) -> header of every file in an earlier manifest, finished or not.

    Raises ValueError if it is none.
    """
    headers: dict[tuple[str, int, int], dict[str, Any]] = {}
    for file in (manifest, partial_file(manifest)):
        if not file.exists():
            continue
        try:
            old = pd.read_parquet(file)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{file} exists and is no manifest ({error}); name another file, or delete it"
            ) from error
        if "values" not in old.columns and "content_hash" in old.columns:
            continue  # of a version that did not write down a mask's values: read anew
        if not {"path", *HEADER} <= set(old.columns):
            raise ValueError(
                f"{file} exists and is no manifest of `scaling data check`; name another file, or "
                "delete it"
            )
        old = old[old["bytes"] >= 0]
        for path, header in zip(old["path"], old[list(HEADER)].to_dict("records"), strict=True):
            headers[os.path.abspath(path), header["bytes"], header["modified"]] = {
                str(name): value for name, value in header.items()
            }
    return headers


def file_key(path: str) -> tuple[str, int, int]:
    """(path, bytes, time) of a file, which tell whether it has changed; -1 where it is closed."""
    try:
        status = os.stat(path)
    except OSError:
        return os.path.abspath(path), -1, -1
    return os.path.abspath(path), status.st_size, status.st_mtime_ns
