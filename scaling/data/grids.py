"""The caches of a study: one for each grid, shared by all that use it; sources may be added.

prepare/caches.json      which sources are in which cache
prepare/cache            the grid of `Data.volumes`
prepare/cache-1mm-...    the grid of a task of its own
prepare/cache-...-2      scans of sources that were added to the study later
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from scaling.data.cache import INDEX, Cache, open_cache
from scaling.data.identity import ABSENT, stamps
from scaling.data.layout import scan_sources
from scaling.data.prepare import prepare, renew
from scaling.data.tasks import task_volumes
from scaling.files import read_json, read_parquet, write_json
from scaling.study.config import Data, Source, Task, Volumes

RECORD = "caches.json"
MAIN = "cache"


@dataclasses.dataclass(frozen=True)
class Part:
    """A cache folder: its grid, and the sources that were prepared into it."""

    folder: str
    volumes: Volumes
    sources: tuple[Source, ...]


def task_sources(task: Task) -> tuple[Source, ...]:
    """All sources of a task, training first."""
    return tuple(dict.fromkeys((task.train, *task.inside, *task.test)))


def wanted_sources(data: Data, tasks: Iterable[Task]) -> dict[Volumes, list[Source]]:
    """The sources of every grid of a study, that of pretraining first."""
    tasks = tuple(tasks)
    wanted = {data.volumes: list(data.pretraining)}
    # Training sources of all tasks come before the test sources, as in caches of earlier versions.
    for task in tasks:
        wanted.setdefault(task_volumes(task, data), []).extend((task.train, *task.inside))
    for task in tasks:
        wanted[task_volumes(task, data)].extend(task.test)
    return {volumes: list(dict.fromkeys(sources)) for volumes, sources in wanted.items()}


def planned_parts(prepared: Path, data: Data, tasks: Iterable[Task]) -> list[Part]:
    """The cache folders that a study has, and those that it lacks for the sources it wants."""
    parts = recorded_parts(prepared)
    for volumes, sources in wanted_sources(data, tasks).items():
        of_grid = [part for part in parts if part.volumes == volumes]
        present = {source for part in of_grid for source in part.sources}
        missing = tuple(source for source in sources if source not in present)
        if missing:
            name = MAIN if volumes == data.volumes else grid_name(volumes)
            folder = f"{name}-{len(of_grid) + 1}" if of_grid else name
            parts.append(Part(folder, volumes, missing))
    return parts


def grid_name(volumes: Volumes) -> str:
    """Folder name of a grid."""
    spacing = "own" if volumes.spacing_mm is None else f"{volumes.spacing_mm:g}mm"
    return f"{MAIN}-{spacing}-{'x'.join(str(side) for side in volumes.shape)}"


def prepare_grids(
    prepared: Path,
    data: Data,
    tasks: Sequence[Task],
    progress: Callable[[float, float], None],
    workers: int,
    in_use: bool,
) -> list[Part]:
    """Prepare every cache of a study, from wherever it stands. Raises what `prepare` raises.

    A cache that is `in_use`, as steps have trained on it, may grow; before that it follows what
    changes in the collection.
    """
    parts = planned_parts(prepared, data, tasks)
    root = Path(data.root)
    tables = [scan_sources(root, part.sources, data.split) for part in parts]
    for number, part in enumerate(parts):
        earlier = [
            tables[other]["path"] for other in range(number) if parts[other].volumes == part.volumes
        ]
        if earlier:
            tables[number] = tables[number][~tables[number]["path"].isin(pd.concat(earlier))]
    write_parts(prepared, parts)
    total, before = sum(len(table) for table in tables), 0
    for part, table in zip(parts, tables, strict=True):

        def advance(done: float, _: float, before: int = before) -> None:
            progress(before + done, total)

        folder = prepared / part.folder
        if not in_use:
            renew(root, table, part.volumes, folder, data.compressed)
        prepare(root, table, part.volumes, folder, advance, workers, data.compressed)
        before += len(table)
    return parts


def recorded_parts(prepared: Path) -> list[Part]:
    """The parts that were written down; none before anything was prepared."""
    file = prepared / RECORD
    if not file.exists():
        return []
    parts = []
    for entry in read_json(file):
        volumes = Volumes(entry["volumes"]["spacing_mm"], tuple(entry["volumes"]["shape"]))
        sources = tuple(Source(path, part) for path, part in entry["sources"])
        parts.append(Part(entry["folder"], volumes, sources))
    return parts


def edited_scans(prepared: Path) -> list[str]:
    """The scans that, or whose masks, have another size or time of change than when they were
    prepared. Files that are not there now are not counted: a collection may be elsewhere by now.
    """
    edited = []
    for part in recorded_parts(prepared):
        file = prepared / part.folder / INDEX
        if not file.exists():
            continue
        index = read_parquet(file)
        now = stamps(index)
        for path, then, today in zip(index["path"], index["stamp"], now, strict=True):
            if then != today and ABSENT not in today.split():
                edited.append(str(path))
    return edited


def write_parts(prepared: Path, parts: list[Part]) -> None:
    """Write down which sources are in which cache."""
    entries = [
        {
            "folder": part.folder,
            "volumes": {"spacing_mm": part.volumes.spacing_mm, "shape": list(part.volumes.shape)},
            "sources": [[source.path, source.part] for source in part.sources],
        }
        for part in parts
    ]
    if recorded_parts(prepared) != parts:
        write_json(prepared / RECORD, entries)


def open_grid(prepared: Path, volumes: Volumes | None = None) -> Cache:
    """All prepared volumes of one grid as one cache; None: the grid of pretraining.

    Raises FileNotFoundError where nothing was prepared on it.
    """
    parts = recorded_parts(prepared)
    if not parts or volumes is None:
        folders = [part.folder for part in parts if part.volumes == parts[0].volumes] or [MAIN]
    else:
        folders = [part.folder for part in parts if part.volumes == volumes]
    if not folders:
        raise FileNotFoundError(
            f"{prepared} holds no cache of {volumes}; run the study again, it prepares what is "
            "missing"
        )
    return merged([open_cache(prepared / folder) for folder in folders])


def merged(caches: list[Cache]) -> Cache:
    """Several caches of one grid as one: their scans one after the other."""
    if len(caches) == 1:
        return caches[0]
    indices, shards, masks = [], 0, 0
    for cache in caches:
        index = cache.index.copy()
        index["shard"] += shards
        index["mask_shard"] = np.where(index["mask_row"] >= 0, index["mask_shard"] + masks, -1)
        indices.append(index)
        shards += len(cache.shards)
        masks += len(cache.mask_shards)
    together = pd.concat(indices, ignore_index=True)
    texts = together.select_dtypes(["object", "string"]).columns
    together[texts] = together[texts].fillna("")
    return dataclasses.replace(
        caches[0],
        index=together,
        shards=tuple(shard for cache in caches for shard in cache.shards),
        mask_shards=tuple(shard for cache in caches for shard in cache.mask_shards),
    )
