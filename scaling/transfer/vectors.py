"""Ridge regression on one vector of features a case, whatever made it."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from scaling.data.tasks import TaskArrays, draws_of
from scaling.study.config import Task
from scaling.transfer.features import absent_as_average
from scaling.transfer.kinds import learner_of
from scaling.transfer.predictions import Predicted
from scaling.transfer.readouts import ridge_scores


def ridge_of_vectors(
    protocol: str,
    train: Float[np.ndarray, "n 1 F"],
    test: Float[np.ndarray, "m 1 F"],
    arrays: TaskArrays,
    task: Task,
    penalties: tuple[float, ...],
) -> Iterator[Predicted]:
    """Fit ridge on the shots of every draw, and predict the test cases. Features of an absent
    sequence are not a number.
    """
    learner = learner_of(task)
    for shots in task.shots:
        for draw, chosen in draws_of(task, arrays, shots):
            targets = learner.readout_targets(arrays.train.labels[chosen])
            of_shots, of_test = absent_as_average(train[chosen], test)
            pair = (of_shots[:, 0], of_test[:, 0])
            outputs = ridge_scores([pair], targets, penalties)
            yield Predicted(protocol, shots, draw, 0.0, learner.from_readout(outputs))
