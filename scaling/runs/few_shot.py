"""The tasks of a study as its transfers see them: one for each number of shots."""

import dataclasses
from dataclasses import dataclass

from scaling.study.config import Study, Task
from scaling.study.protocols import Transfer


@dataclass(frozen=True)
class FewShot:
    """A task at one number of shots, and its recipes, as transfers hold them: what it is compared
    by, and whose recipes it takes, is no part of a transfer's identity.

    All transfers of a plan share these objects, so that their text is made once for thousands of
    steps.
    """

    task: Task
    recipes: Transfer
    folder: str  # the end of the name of its transfers


def few_shot_tasks(study: Study) -> list[FewShot]:
    """Every task once for each of its numbers of shots: each is a transfer of its own, so that one
    can be added to a finished study.
    """
    tasks = []
    for task in study.tasks:
        recipes = task.transfer or study.transfer
        for shots in task.shots:
            bare = dataclasses.replace(task, shots=(shots,), groups=(), transfer=None)
            if shots == task.shots[0]:
                tasks.append(FewShot(bare, recipes, task.name))
                continue
            # The controls that learn from every labelled case belong to the first number of shots.
            few = dataclasses.replace(recipes, supervised=None)
            tasks.append(FewShot(bare, few, f"{task.name}-{shots}shots"))
    return tasks
