"""Tracks of a challenge: a study of the method track pretrains on one collection alone, which a
manifest or the collection's own tables prove.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from scaling.data.delimited import read_table
from scaling.data.headers import describe_header
from scaling.data.layout import select
from scaling.processes.parallel import cores, unordered_map
from scaling.study.challenge import Collection, load_challenge
from scaling.study.config import Data


def prove_track(table: pd.DataFrame, data: Data, workers: int = 0) -> None:
    """Raise ValueError on the method track unless every pretraining scan is in its collection.

    Scans are compared by content with a manifest of `scaling data check`, else by name with the
    tables of the collection: one file, or all below a folder. The open track needs no proof.
    """
    if data.track == "open":
        return
    collection = load_challenge(data.challenge).pretraining
    if collection is None:
        raise ValueError(
            f"data.track is 'method', but {data.challenge} names no collection for it; set "
            "data.track to 'open'"
        )
    file = Path(data.root) / data.manifest
    used = table[
        np.logical_or.reduce([select(table, source) for source in data.pretraining])
        & (table["problem"] == "")
    ]
    if file.is_dir():
        foreign = not_in_folder(used["path"].tolist(), file, collection)
    else:
        foreign = not_in_manifest(used["path"].tolist(), file, collection, workers)
    if foreign:
        raise ValueError(
            f"data.track is 'method', but {len(foreign):,} of {len(used):,} pretraining scans are "
            f"not in {collection.name} by {file}, first {min(foreign)}; take their source out of "
            "data.pretraining, or set data.track to 'open'"
        )


def not_in_manifest(
    paths: list[str], file: Path, collection: Collection, workers: int
) -> list[str]:
    """Scans that a table does not list. Raises FileNotFoundError or ValueError."""
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} (data.manifest) does not exist; expected a manifest of {collection.name} that "
            "proves the method track"
        )
    manifest = read_table(file)
    if "role" in manifest.columns:
        manifest = manifest[manifest["role"] == "scan"]
    require_size(len(manifest), file, collection)
    if "content_hash" in manifest.columns:
        described = unordered_map(content_hash, paths, workers or cores())
        contents = set(manifest["content_hash"]) - {""}
        return [path for path, content in described if content not in contents]
    keys = keys_of(manifest, collection)
    if keys is None:
        raise ValueError(
            f"{file} (data.manifest) has the columns {list(manifest.columns)}; expected "
            f"content_hash, or those of the tables of {collection.name}"
        )
    listed = set(manifest[list(keys)].agg("/".join, axis=1))
    return [path for path in paths if "/".join(Path(path).parts[-len(keys) :]) not in listed]


def not_in_folder(paths: list[str], folder: Path, collection: Collection) -> list[str]:
    """Scans that no table below a folder lists. Raises ValueError when there is no such table.

    A table inside a data set's folder names scans relative to it, unless a column names the set.
    """
    listed: set[str] = set()
    tables = 0
    for file in sorted(folder.rglob("*.tsv")):
        table = read_table(file)
        keys = keys_of(table, collection)
        if keys is None:
            continue
        tables += 1
        names = table[list(keys)].agg("/".join, axis=1)
        above = "" if "dataset" in keys else file.parent.relative_to(folder).as_posix()
        listed.update(names if above in ("", ".") else above + "/" + names)
    if not tables:
        expected = " or ".join(", ".join(keys) for keys in collection.keys)
        raise ValueError(
            f"{folder} (data.manifest) holds no table with the columns {expected}; expected the "
            f"tables of {collection.name} beside its scans"
        )
    require_size(len(listed), folder, collection)
    foreign = []
    for path in paths:
        parts = Path(path).parts
        # With and without the folders between the collection and the data set.
        endings = {"/".join(parts[-length:]) for length in range(3, 6)}
        if not endings & listed:
            foreign.append(path)
    return foreign


def keys_of(table: pd.DataFrame, collection: Collection) -> tuple[str, ...] | None:
    """The columns that name a scan in a table of the collection; None: it lists no scans."""
    for keys in collection.keys:
        if set(keys) <= set(table.columns):
            return keys
    return None


def require_size(scans: int, file: Path, collection: Collection) -> None:
    """Raise ValueError when a list has more scans than the collection."""
    if scans > collection.scans:
        raise ValueError(
            f"{file} (data.manifest) lists {scans:,} scans; {collection.name} has "
            f"{collection.scans:,}, so it is of another collection"
        )


def content_hash(path: str) -> tuple[str, str]:
    """A scan and the digest of its content ("" for an unreadable one)."""
    return path, str(describe_header(Path(path))["content_hash"])
