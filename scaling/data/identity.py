"""What a cache was made from: its grid, its files and what is said of them."""

import dataclasses
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from scaling.data.cache import IDENTITY, INDEX
from scaling.files import read_marker, write_json
from scaling.study.config import Volumes

# Keys of an identity. Those of earlier versions have no `FILES`.
FILES = "names"
LABELS = "files"
ASIDE = ("licence", "values")  # columns of newer manifests, which change nothing that is learnt
ABSENT = "absent"  # the stamp of a file that is not there
# Fingerprints say nothing to a reader: what they are of does.
FINGERPRINTS = {FILES: "names of files", LABELS: "labels or descriptions of scans"}


def cache_identity(
    root: Path, table: pd.DataFrame, volumes: Volumes, compressed: bool
) -> dict[str, Any]:
    """What a cache is of, as JSON: the grid, a fingerprint of the files' names, and one of the
    names with everything that the table says of each.
    """
    files = [column for column in ("path", "mask", "brainmask") if column in table.columns]
    aside = [column for column in ASIDE if column in table.columns]
    described = table.drop(columns=[*files, *aside]).itertuples(index=False)
    of_names, of_rows = hashlib.blake2b(digest_size=16), hashlib.blake2b(digest_size=16)
    rows = zip(table[files].itertuples(index=False), described, table["problem"], strict=True)
    for names, row, problem in rows:
        places = [os.path.relpath(name, root) for name in names if name]
        of_names.update(repr((places, problem)).encode())
        of_rows.update(repr((places, tuple(row))).encode())
    return {
        "volumes": json.loads(json.dumps(dataclasses.asdict(volumes))),
        "scans": len(table),
        "compressed": compressed,
        FILES: of_names.hexdigest(),
        LABELS: of_rows.hexdigest(),
    }


def differences(old: dict[str, Any], identity: dict[str, Any]) -> list[str]:
    """The keys in which a cache's identity differs; equal rows need no comparison of names."""
    if FILES not in old and old.get(LABELS) == identity[LABELS]:
        old = old | {FILES: identity[FILES]}
    return [key for key in identity if old.get(key) != identity[key]]


def claim(cache: Path, identity: dict[str, Any]) -> None:
    """Write down what `cache` is made from; raises ValueError when it is of something else."""
    cache.mkdir(parents=True, exist_ok=True)
    old = read_marker(cache / IDENTITY)
    if old is None and (cache / INDEX).exists():
        # A finished cache of which nothing says what it was made from: it is made anew.
        (cache / INDEX).unlink()
    if old is None:
        shutil.rmtree(cache / "parts", ignore_errors=True)
        write_json(cache / IDENTITY, identity)
        return
    if changed := differences(old, identity):
        said = [
            f"other {FINGERPRINTS[key]}"
            if key in FINGERPRINTS
            else f"{key} was {old.get(key)}, is {identity[key]}"
            for key in changed
        ]
        raise ValueError(
            f"{cache} was prepared from something else: {'; '.join(said)}. Choose another folder, "
            "or delete it and what was trained from it"
        )


def stamps(table: pd.DataFrame) -> list[str]:
    """Size and time of change of each scan, its mask and its brain mask."""
    columns = [column for column in ("path", "mask", "brainmask") if column in table.columns]
    cached: dict[str, str] = {"": ""}
    texts = []
    for files in table[columns].itertuples(index=False):
        for file in files:
            if file not in cached:
                cached[file] = stamp(file)
        texts.append(" ".join(cached[file] for file in files if file))
    return texts


def stamp(file: str) -> str:
    """Size and time of change of a file, "absent" without one."""
    try:
        status = os.stat(file)
    except OSError:
        return ABSENT
    return f"{status.st_size}:{status.st_mtime_ns}"
