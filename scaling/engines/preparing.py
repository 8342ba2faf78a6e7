"""What a study's prepare step does: the caches, and what could not be used or should not have
been.
"""

from pathlib import Path

import pandas as pd

from scaling.data.grids import open_grid, prepare_grids, task_sources
from scaling.data.layout import scan_sources
from scaling.data.leakage import describe_skipped, find_leakage
from scaling.data.licences import COLLECTIONS, describe_collections
from scaling.data.task_check import check_tasks, grid_effects
from scaling.data.tasks import task_volumes
from scaling.data.track import prove_track
from scaling.files import write_json
from scaling.runs.rundir import Progress
from scaling.runs.steps import PrepareStep


def prepare_study(
    folder: Path, config: PrepareStep, domain: str, workers: int, progress: Progress
) -> None:
    """Prepare every scan of the study; list what could not be used, what is both in pretraining and
    in a test set, and what the grids do to lesions.

    Raises ValueError with every mistake of every task, before anything is trained.
    """
    data = config.data
    if data.track == "method":
        everything = [source for task in config.tasks for source in task_sources(task)]
        sources = tuple(dict.fromkeys((*data.pretraining, *everything)))
        prove_track(scan_sources(Path(data.root), sources, data.split), data)
    in_use = any((folder.parent / kind).exists() for kind in ("pretrain", "transfer"))
    parts = prepare_grids(folder, data, config.tasks, progress, workers, in_use)
    caches = {volumes: open_grid(folder, volumes) for volumes in {part.volumes for part in parts}}
    index = pd.concat([cache.index for cache in caches.values()], ignore_index=True)
    tested = tuple(dict.fromkeys(source for task in config.tasks for source in task.test))
    write_json(folder / "skipped.json", describe_skipped(index))
    write_json(folder / "leakage.json", find_leakage(index, data.pretraining, tested))
    check_tasks(config.tasks, domain, lambda task: caches[task_volumes(task, data)])
    effects = [
        sentence
        for task in config.tasks
        for sentence in grid_effects(caches[task_volumes(task, data)], task)
    ]
    write_json(folder / "grids.json", effects)
    write_json(folder / COLLECTIONS, describe_collections(Path(data.root), index))
