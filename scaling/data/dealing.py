"""Which people of a task are held out, or in which fold they are: a seeded deal, all sessions of a
person together.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from scaling.study.config import Task


def fold_numbers(people: Sequence[str], labels: np.ndarray, name: str, count: int) -> np.ndarray:
    """Fold of every case [n], by whom it is of; people are dealt label by label where labels [n]
    are numbers.
    """
    return ranks_of_people(people, labels, f"{name}/folds") % count


def held_out_cases(people: Sequence[str], labels: np.ndarray, task: Task) -> np.ndarray:
    """bool [n]: the cases of the people that `Task.held_out` tests, at least one person and not
    all; they are spread over the labels where labels [n] are numbers.
    """
    ranks = ranks_of_people(people, labels, f"{task.name}/held out")
    total = int(ranks.max()) + 1
    wanted = task.held_out if task.held_out >= 1 else round(task.held_out * total)
    count = int(np.clip(wanted, 1, max(1, total - 1)))
    # Of every total/count ranks in a row one is held out.
    return (ranks + 1) * count // total > ranks * count // total


def ranks_of_people(people: Sequence[str], labels: np.ndarray, seed: str) -> np.ndarray:
    """Place of every case's person [n] in a seeded permutation of the people, sorted by the first
    label of each where labels are numbers.
    """
    cases = np.array(people)
    digest = hashlib.blake2b(seed.encode(), digest_size=16).digest()
    names = np.unique(cases)
    order = np.random.default_rng(int.from_bytes(digest, "big")).permutation(len(names))
    place = dict(zip(names[order], range(len(names)), strict=True))
    if labels.ndim == 1:
        first = {person: labels[cases == person][0] for person in names}
        by_label = sorted(names, key=lambda person: (first[person], place[person]))
        place = {person: rank for rank, person in enumerate(by_label)}
    return np.array([place[person] for person in cases])
