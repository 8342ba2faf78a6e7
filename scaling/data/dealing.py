"""Which subjects of a task are held out, or in which fold they are: a seeded deal, all sessions of
a subject together.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from scaling.study.config import Task


def fold_numbers(ids: Sequence[str], labels: np.ndarray, name: str, count: int) -> np.ndarray:
    """Fold of every case [n], ids source/subject/session; subjects are dealt label by label where
    labels [n] are numbers.
    """
    return ranks_of_subjects(ids, labels, f"{name}/folds") % count


def held_out_cases(ids: Sequence[str], labels: np.ndarray, task: Task) -> np.ndarray:
    """bool [n]: the cases of the subjects that `Task.held_out` tests, at least one subject and not
    all; they are spread over the labels where labels [n] are numbers.
    """
    ranks = ranks_of_subjects(ids, labels, f"{task.name}/held out")
    subjects = int(ranks.max()) + 1
    wanted = task.held_out if task.held_out >= 1 else round(task.held_out * subjects)
    count = int(np.clip(wanted, 1, max(1, subjects - 1)))
    # Of every subjects/count ranks in a row one is held out.
    return (ranks + 1) * count // subjects > ranks * count // subjects


def ranks_of_subjects(ids: Sequence[str], labels: np.ndarray, seed: str) -> np.ndarray:
    """Place of every case's subject [n] in a seeded permutation of the subjects, sorted by the
    first label of each where labels are numbers.
    """
    subjects = np.array([case.rsplit("/", 1)[0] for case in ids])
    digest = hashlib.blake2b(seed.encode(), digest_size=16).digest()
    names = np.unique(subjects)
    order = np.random.default_rng(int.from_bytes(digest, "big")).permutation(len(names))
    place = dict(zip(names[order], range(len(names)), strict=True))
    if labels.ndim == 1:
        first = {subject: labels[subjects == subject][0] for subject in names}
        by_label = sorted(names, key=lambda subject: (first[subject], place[subject]))
        place = {subject: rank for rank, subject in enumerate(by_label)}
    return np.array([place[subject] for subject in subjects])
