"""Whether a competitor was pretrained on what a task tests on, as far as that can be checked.

Its `collections` are compared by name with those of the test cases, by person and content with the
cases where a source of the study has that name, and with the challenge's collection in
`Data.manifest` where it was pretrained on that.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from scaling.data.layout import select
from scaling.data.leakage import shared
from scaling.data.licences import collections_of
from scaling.data.track import not_in_folder, not_in_manifest
from scaling.study.challenge import load_challenge
from scaling.study.config import Data, Reference, Task


def reference_leakage(
    reference: Reference, index: pd.DataFrame, task: Task, data: Data
) -> list[str]:
    """Sentences on test cases of a task that a competitor may have seen in pretraining."""
    index = index[index["status"] == "ok"].drop_duplicates("path")
    sources = task.test or (task.train,)
    tested = index[np.logical_or.reduce([select(index, source) for source in sources])]
    if not reference.collections and reference.track != "method":
        if not reference.samples:
            return []
        return [
            f"{reference.name} does not state what it was pretrained on (collections): whether "
            f"test cases of {task.name} were among it cannot be checked"
        ]
    return [
        *by_name(reference, tested, task),
        *by_content(reference, index, tested, task),
        *by_manifest(reference, tested, task, data),
    ]


def of_collection(scans: pd.DataFrame, collection: str) -> "pd.Series[bool]":
    """Which scans are of a collection: a folder of that name, whatever its case, lies between root
    and subject.
    """
    names = collections_of(scans).str.lower().str.split("/")
    wanted = collection.lower()
    return names.map(lambda of_scan: wanted in of_scan).astype(bool)


def by_name(reference: Reference, tested: pd.DataFrame, task: Task) -> Iterator[str]:
    """Test cases of a collection that the competitor names."""
    for collection in reference.collections:
        scans = int(of_collection(tested, collection).sum())
        if scans:
            yield (
                f"{reference.name} was pretrained on {collection}, and {scans} test scans of "
                f"{task.name} are of it: what it scores there is no test"
            )


def by_content(
    reference: Reference, index: pd.DataFrame, tested: pd.DataFrame, task: Task
) -> Iterator[str]:
    """People and scans of the test cases that a source of the study has, which the competitor
    names.
    """
    other = index[~index["path"].isin(tested["path"])]
    for collection in reference.collections:
        of_it = of_collection(other, collection)
        pretrained = f"{collection}, on which {reference.name} was pretrained"
        yield from shared(other[of_it], tested, pretrained, f"the test cases of {task.name}")


def by_manifest(
    reference: Reference, tested: pd.DataFrame, task: Task, data: Data
) -> Iterator[str]:
    """Test scans that the manifest of the challenge's collection lists."""
    collection = load_challenge(data.challenge).pretraining
    if collection is None or not data.manifest:
        return
    stated = {name.lower() for name in reference.collections}
    if reference.track != "method" and collection.name.lower() not in stated:
        return
    file, paths = Path(data.root) / data.manifest, [str(path) for path in tested["path"]]
    if not file.exists():
        return
    try:
        if file.is_dir():
            foreign = not_in_folder(paths, file, collection)
        else:
            foreign = not_in_manifest(paths, file, collection, workers=1)
    except ValueError as error:
        yield f"whether {reference.name} has seen test cases cannot be checked: {error}"
        return
    seen = sorted(set(paths) - set(foreign))
    if seen:
        yield (
            f"{reference.name} was pretrained on {collection.name}, whose manifest {file} lists "
            f"{len(seen)} test scans of {task.name}, first {seen[0]}"
        )
