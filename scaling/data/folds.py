"""Test sets of tasks that have none of their own: cases held out, or folds of the labelled
cases.
"""

import dataclasses
import hashlib
from collections.abc import Iterator

import numpy as np

from scaling.data.tasks import Cases, TaskArrays
from scaling.study.config import Task


def folds(arrays: TaskArrays, task: Task) -> Iterator[TaskArrays]:
    """The task itself, or, under `Task.folds`, one task a fold: it tests on the fold's cases and
    trains on all others, so that every case is predicted once from models that have not seen it.
    """
    if not task.folds:
        yield arrays
        return
    numbers = fold_numbers(arrays.train, task.name, task.folds)
    for fold in range(task.folds):
        train, test = subset(arrays.train, numbers != fold), subset(arrays.train, numbers == fold)
        yield dataclasses.replace(
            arrays, train=train, test=test, in_domain=np.isin(test.sites, train.sites)
        )


def fold_numbers(cases: Cases, name: str, count: int) -> np.ndarray:
    """Fold of every case [n]: a seeded deal of the subjects, class by class where labels are
    numbers of classes; all sessions of a subject are in one fold.
    """
    subjects = np.array([case.rsplit("/", 1)[0] for case in cases.ids])
    seed = hashlib.blake2b(f"{name}/folds".encode(), digest_size=16).digest()
    names = np.unique(subjects)
    order = np.random.default_rng(int.from_bytes(seed, "big")).permutation(len(names))
    place = dict(zip(names[order], range(len(names)), strict=True))
    if cases.labels.ndim == 1:
        first = {subject: cases.labels[subjects == subject][0] for subject in names}
        place = {
            subject: rank
            for rank, subject in enumerate(sorted(names, key=lambda s: (first[s], place[s])))
        }
    return np.array([place[subject] % count for subject in subjects])


def subset(cases: Cases, chosen: np.ndarray) -> Cases:
    """Some of the cases, by a mask [n]."""
    places = np.flatnonzero(chosen)
    return Cases(
        [cases.ids[place] for place in places],
        [cases.sites[place] for place in places],
        cases.images[places],
        cases.present[places],
        cases.labels[places],
        None if cases.emptied is None else cases.emptied[places],
    )
