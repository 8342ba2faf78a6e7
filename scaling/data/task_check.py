"""What of a study's tasks cannot work on its data, found before anything is trained; and what a
grid does to the lesions of a task.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from scaling.data.cache import Cache
from scaling.data.labels import Sessions, mask_volumes
from scaling.data.tasks import check_sessions, task_sessions
from scaling.study.classes import named
from scaling.study.config import Task
from scaling.study.groups import parse_group
from scaling.study.task_kinds import kind_of

KEPT = 0.5  # of a lesion's volume: where the median keeps less, the grid is too coarse to say much


def check_tasks(tasks: Sequence[Task], domain: str, cache_of: Callable[[Task], Cache]) -> None:
    """Raises ValueError with every mistake of every task, one sentence each."""
    mistakes = []
    for task in tasks:
        try:
            cache = cache_of(task)
            sessions = task_sessions(cache, task)
            check_sessions(sessions, task)
            check_labels_of_masks(cache, sessions, task)
            check_groups(cache, task)
            check_domain(sessions, task, domain)
        except ValueError as error:
            mistakes.append(str(error))
    if mistakes:
        raise ValueError("\n".join(mistakes))


def check_domain(sessions: dict[str, Sessions], task: Task, domain: str) -> None:
    """Raises ValueError when no test case is of the domain that the verdict is about."""
    if task.folds or task.held_out:
        return  # every test case is of a training site, and so is the verdict's domain
    sites = {session.site for session in sessions["training"].usable}
    inside = [session.site in sites for session in sessions["test"].usable]
    if domain == "out" and all(inside):
        raise ValueError(
            f"task {task.name!r} has no test case outside of its training sites "
            f"({', '.join(sorted(sites))}), and estimand.domain is 'out'; give test cases of other "
            "sites, name the sites in participants.tsv, or set estimand.domain to 'in'"
        )
    if domain == "in" and not any(inside):
        raise ValueError(
            f"task {task.name!r} has no test case of its training sites "
            f"({', '.join(sorted(sites))}), and estimand.domain is 'in'; give test cases of them, "
            "or set estimand.domain to 'out'"
        )


def check_labels_of_masks(cache: Cache, sessions: dict[str, Sessions], task: Task) -> None:
    """Raises ValueError for a label that no training mask has: nothing could learn it."""
    if not kind_of(task).masks:
        return
    present: set[int] = set()
    for session in sessions["training"].usable:
        present |= set(mask_volumes(cache.index.iloc[session.mask_row].to_dict()))
    absent = [name for name, value in named(task.classes) if value not in present]
    if absent:
        raise ValueError(
            f"task {task.name!r} has no training mask that holds the label {', '.join(absent)} "
            f"({len(sessions['training'].usable)} masks were read); expected each in one at least"
        )


def check_groups(cache: Cache, task: Task) -> None:
    """Raises ValueError for a group whose column no table has."""
    for group in task.groups:
        column = parse_group(group).column
        if column not in cache.index.columns:
            raise ValueError(
                f"task {task.name!r} has the group {group!r}, and no table beside the scans has "
                f"the column {column!r}"
            )


def grid_effects(cache: Cache, task: Task) -> list[str]:
    """What the task's grid does to its lesions, one sentence where there are masks: cases whose
    lesion vanishes, and the median share of a lesion's volume that is kept.
    """
    if not kind_of(task).masks:
        return []
    volumes = lesion_volumes(cache, task)
    if volumes.empty:
        return []
    kept = float(np.median(volumes["on_grid"] / volumes["in_file"]))
    lost = int((volumes["on_grid"] == 0).sum())
    spacing = cache.volumes.spacing_mm
    sentence = (
        f"the grid of {task.name} ({spacing:g} mm)" if spacing else f"the grid of {task.name}"
    )
    sentence += f" keeps {kept:.0%} of a lesion's volume (median of {len(volumes)} labels)"
    if lost:
        sentence += (
            f"; {lost} of them vanish, and score 0 whatever is predicted: a finer Task.volumes "
            "keeps them"
        )
    return [sentence] if lost or kept < KEPT else []


def lesion_volumes(cache: Cache, task: Task) -> pd.DataFrame:
    """One row a case and label: its volume in mm3 in the file and on the grid."""
    rows = []
    for group in task_sessions(cache, task).values():
        for session in group.usable:
            stored = mask_volumes(cache.index.iloc[session.mask_row].to_dict())
            for label, (in_file, on_grid) in stored.items():
                rows.append({"case": session.id, "label": label, "in_file": in_file})
                rows[-1]["on_grid"] = on_grid
    return pd.DataFrame(rows, columns=["case", "label", "in_file", "on_grid"])
