"""Test sets of tasks that have none of their own: cases held out, or folds of the labelled
cases.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from scaling.data.dealing import fold_numbers, held_out_cases
from scaling.data.tasks import Cases, TaskArrays
from scaling.study.config import Task


def folds(arrays: TaskArrays, task: Task) -> Iterator[TaskArrays]:
    """The task itself; under `Task.held_out` the task that tests on the held-out cases and trains
    on the others; or, under `Task.folds`, one task a fold: it tests on the fold's cases and trains
    on all others, so that every case is predicted once from models that have not seen it.
    """
    people, labels = people_of_cases(arrays.train), arrays.train.labels
    if task.held_out:
        yield divided(arrays, held_out_cases(people, labels, task))
    elif task.folds:
        numbers = fold_numbers(people, labels, task.name, task.folds)
        for fold in range(task.folds):
            yield divided(arrays, numbers == fold)
    else:
        yield arrays


def people_of_cases(cases: Cases) -> list[str]:
    """Whom each case is of: all cases of one person are dealt together."""
    if cases.people is not None:
        return cases.people
    return [case.rsplit("/", 1)[0] for case in cases.ids]


def divided(arrays: TaskArrays, tested: np.ndarray) -> TaskArrays:
    """The task that tests on some of its training cases, `tested` [n], and trains on the others."""
    train, test = subset(arrays.train, ~tested), subset(arrays.train, tested)
    return dataclasses.replace(
        arrays, train=train, test=test, in_domain=np.isin(test.sites, train.sites)
    )


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
        None if cases.people is None else [cases.people[place] for place in places],
    )
