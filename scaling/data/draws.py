"""Which labelled cases each few-shot draw has: what somebody who predicts elsewhere trains on."""

import numpy as np
import pandas as pd

from scaling.data.cache import Cache
from scaling.data.folds import folds
from scaling.data.labels import Sessions
from scaling.data.tasks import Cases, TaskArrays, few_shot_draws, task_sessions
from scaling.study.config import Task
from scaling.study.task_kinds import kind_of


def draw_table(cache: Cache, task: Task) -> pd.DataFrame:
    """A row per labelled case of every draw: task, fold (0 without folds), shots, draw, case.

    Raises ValueError as `few_shot_draws` does.
    """
    training = without_images(task_sessions(cache, task)["training"], task)
    whole = TaskArrays(training, training, np.ones(len(training.ids), bool), ())
    rows = []
    for fold, arrays in enumerate(folds(whole, task)):
        for shots in task.shots:
            for draw, places in enumerate(few_shot_draws(task, arrays.train, shots)):
                for place in places:
                    case = arrays.train.ids[place]
                    rows.append((task.name, fold, shots, draw, case))
    return pd.DataFrame(rows, columns=["task", "fold", "shots", "draw", "case"])


def without_images(sessions: Sessions, task: Task) -> Cases:
    """Cases with ids, sites and numeric labels alone: draws depend on nothing else."""
    usable = sessions.usable
    n = len(usable)
    labels = np.zeros((n, 0))
    if not kind_of(task).masks:
        labels = np.array([session.label for session in usable], np.float32)
        if labels.shape[1] == 1:
            labels = labels[:, 0]
    ids, sites = [session.id for session in usable], [session.site for session in usable]
    people = [session.person for session in usable]
    nothing = np.zeros((n, 0))
    return Cases(ids, sites, nothing, nothing.astype(bool), labels, people=people)
