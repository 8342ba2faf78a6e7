"""Classification: two classes by one logit, more by one each."""

from functools import lru_cache, partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, softmax

from scaling.study.classes import class_names
from scaling.transfer import metrics
from scaling.transfer.kinds.learner import Learner
from scaling.transfer.losses import classes_loss, classification_loss

SCORE = "score_"  # begins the columns of the classes' scores


@lru_cache
def classification(classes: tuple[str | int, ...]) -> Learner:
    """Cross-entropy; AUROC of two classes, macro AUROC and macro F1 of more."""
    if len(classes) <= 2:
        return Learner(
            outputs=1,
            loss=classification_loss,
            predict=probability,
            columns=binary_columns,
            score=binary_scores,
        )
    names = class_names(classes)
    return Learner(
        outputs=len(names),
        loss=classes_loss,
        predict=probabilities,
        columns=partial(class_columns, names),
        score=partial(class_scores, names),
        readout_targets=partial(one_hot, len(names)),
        case_scores=partial(class_case_scores, names),
    )


def probability(logits: np.ndarray) -> np.ndarray:
    """Probability of the second class [n]."""
    return expit(logits.astype(np.float64))


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Probability of every class [n, C]."""
    return softmax(logits.astype(np.float64), axis=-1)


def one_hot(classes: int, labels: np.ndarray) -> np.ndarray:
    """Class numbers [n] as columns of 0 and 1 [n, C]."""
    return np.eye(classes)[labels.astype(np.int64)]


def binary_columns(labels: np.ndarray, predictions: np.ndarray, ruler: Any) -> dict[str, Any]:
    """Label (0 or 1) and score of every case."""
    return {"label": labels.astype(np.float64), "prediction": predictions.astype(np.float64)}


def binary_scores(cases: pd.DataFrame) -> dict[str, float]:
    """AUROC."""
    return {"auroc": metrics.auroc(cases["label"].to_numpy(), cases["prediction"].to_numpy())}


def class_columns(
    names: tuple[str, ...], labels: np.ndarray, predictions: np.ndarray, ruler: Any
) -> dict[str, Any]:
    """Class number, that of the largest score, and all scores of every case."""
    scores = {SCORE + name: predictions[:, place] for place, name in enumerate(names)}
    chosen = predictions.argmax(1).astype(np.float64)
    return {"label": labels.astype(np.float64), "prediction": chosen, **scores}


def score_columns(names: tuple[str, ...], cases: pd.DataFrame) -> np.ndarray:
    """The classes' scores [n, C]."""
    return cases[[SCORE + name for name in names]].to_numpy()


def class_scores(names: tuple[str, ...], cases: pd.DataFrame) -> dict[str, float]:
    """Macro AUROC of each class against the rest, and macro F1 of the largest score."""
    labels, scores = cases["label"].to_numpy(), score_columns(names, cases)
    return {
        "macro_auroc": metrics.macro_auroc(labels, scores),
        "macro_f1": metrics.macro_f1(labels, scores),
    }


def class_case_scores(names: tuple[str, ...], cases: pd.DataFrame) -> np.ndarray:
    """One value a case [n] whose mean is the macro AUROC."""
    return metrics.macro_auroc_of_cases(cases["label"].to_numpy(), score_columns(names, cases))


def confusion(cases: pd.DataFrame, names: tuple[str, ...]) -> pd.DataFrame:
    """Counts of cases by true class (rows) and predicted class (columns); of two classes the second
    is predicted from a score of 0.5 on.
    """
    predicted = cases["prediction"] >= 0.5 if len(names) == 2 else cases["prediction"]
    counts = np.zeros((len(names), len(names)), np.int64)
    np.add.at(counts, (cases["label"].astype(int), predicted.astype(int)), 1)
    return pd.DataFrame(counts, pd.Index(names, name="true"), pd.Index(names, name="predicted"))
