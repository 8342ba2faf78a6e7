"""What a study's prepare step does: the caches, and what could not be used or should not have
been.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from scaling.data.grids import RECORD, open_grid, prepare_grids, task_sources
from scaling.data.ingest import DOUBTFUL_MASK
from scaling.data.layout import scan_sources
from scaling.data.leakage import describe_skipped, find_leakage
from scaling.data.licences import COLLECTIONS, describe_collections
from scaling.data.pairing import left_out_of_pairs
from scaling.data.task_check import check_tasks, grid_effects
from scaling.data.tasks import task_volumes
from scaling.data.track import prove_track
from scaling.files import write_json
from scaling.runs.rundir import Progress
from scaling.runs.steps import PrepareStep
from scaling.study.config import Data, Study, Task, Volumes
from scaling.study.objectives import ObjectiveConfig
from scaling.study.task_kinds import kind_of


def prepare_study(
    folder: Path,
    config: PrepareStep,
    domain: str,
    workers: int,
    progress: Progress,
    objectives: Sequence[ObjectiveConfig] = (),
) -> None:
    """Prepare every scan of the study; list what could not be used, what is both in pretraining and
    in a test set, what the grids do to lesions, and what `objectives` leave out.

    Raises ValueError with every mistake of every task, before anything is trained.
    """
    data = config.data
    require_sources(Path(data.root), data, config.tasks)
    if data.track == "method":
        everything = [source for task in config.tasks for source in task_sources(task)]
        sources = tuple(dict.fromkeys((*data.pretraining, *everything)))
        prove_track(scan_sources(Path(data.root), sources, data.split), data)
    in_use = any((folder.parent / kind).exists() for kind in ("pretrain", "transfer"))
    parts = prepare_grids(folder, data, config.tasks, progress, workers, in_use)
    caches = {volumes: open_grid(folder, volumes) for volumes in {part.volumes for part in parts}}
    index = pd.concat([cache.index for cache in caches.values()], ignore_index=True)
    tested = tuple(dict.fromkeys(source for task in config.tasks for source in task.test))
    told = [without_unread_masks(cache.index, volumes, config) for volumes, cache in caches.items()]
    write_json(folder / "skipped.json", describe_skipped(pd.concat(told, ignore_index=True)))
    usable = index[index["status"] == "ok"]
    write_json(folder / "pairs.json", left_out_of_pairs(usable, data.pretraining, objectives))
    write_json(folder / "leakage.json", find_leakage(index, data.pretraining, tested))
    check_tasks(config.tasks, domain, lambda task: caches[task_volumes(task, data)])
    effects = [
        sentence
        for task in config.tasks
        for sentence in grid_effects(caches[task_volumes(task, data)], task)
    ]
    write_json(folder / "grids.json", effects)
    write_json(folder / COLLECTIONS, describe_collections(Path(data.root), index))


def require_sources(root: Path, data: Data, tasks: Sequence[Task]) -> None:
    """Raises FileNotFoundError that names every source that is not there, or is an empty folder, in
    one sentence.
    """
    sources = [("data.pretraining", source) for source in data.pretraining]
    for task in tasks:
        sources += [(f"task {task.name!r}", source) for source in task_sources(task)]
    absent = [
        f"{source.path} ({reader})"
        for reader, source in sources
        if not (root / source.path).exists() or is_empty(root / source.path)
    ]
    if absent:
        missing = ", no ".join(dict.fromkeys(absent))
        raise FileNotFoundError(
            f"{root} has no {missing}; set data.root to the folder that holds them, or write a "
            "synthetic cohort with `scaling data phantom`"
        )


def is_empty(path: Path) -> bool:
    """Whether a path is a folder without an entry."""
    return path.is_dir() and not any(path.iterdir())


def without_unread_masks(
    index: pd.DataFrame, volumes: Volumes, config: PrepareStep
) -> pd.DataFrame:
    """The index of a grid without doubts about masks that no task reads on it: a task with a finer
    grid of its own does not lose what this one takes away.
    """
    read = set()
    for task in config.tasks:
        if kind_of(task).masks and task_volumes(task, config.data) == volumes:
            read |= {source.path for source in task_sources(task)}
    unread = index["reason"].str.startswith(DOUBTFUL_MASK) & ~index["source"].isin(read)
    return index.assign(reason=index["reason"].where(~unread, ""))


def pairs_of_plan(study_dir: Path, study: Study) -> list[str]:
    """What objectives that pair sequences would leave out: of the prepared scans, else of the files
    that are there. Nothing is said before there are files.
    """
    root, data = Path(study.data.root), study.data
    if all(objective.pairs != "sequences" for objective in study.objectives):
        return []
    if (study_dir / "prepare" / RECORD).exists():
        index = open_grid(study_dir / "prepare").index
        scans = index[index["status"] == "ok"]
    elif root.exists():
        scans = scan_sources(root, data.pretraining, data.split)
    else:
        return []
    return left_out_of_pairs(scans, data.pretraining, study.objectives)
