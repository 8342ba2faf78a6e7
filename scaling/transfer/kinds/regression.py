"""Regression: one number a case."""

from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from scaling.transfer import metrics
from scaling.transfer.kinds.learner import Learner, as_they_are
from scaling.transfer.losses import regression_loss


@lru_cache
def regression(classes: tuple[str | int, ...]) -> Learner:
    """Squared error of the standardised target; mean absolute error and Pearson's r."""
    return Learner(
        outputs=1,
        loss=regression_loss,
        predict=as_they_are,
        columns=number_columns,
        score=number_scores,
        standardised=True,
    )


def number_columns(labels: np.ndarray, predictions: np.ndarray, ruler: Any) -> dict[str, Any]:
    """Label, prediction and absolute error of every case."""
    label, prediction = labels.astype(np.float64), predictions.astype(np.float64)
    return {"label": label, "prediction": prediction, "mae": np.abs(prediction - label)}


def number_scores(cases: pd.DataFrame) -> dict[str, float]:
    """Mean absolute error and Pearson's r."""
    labels, outputs = cases["label"].to_numpy(), cases["prediction"].to_numpy()
    return {"mae": metrics.mae(labels, outputs), "pearson": metrics.pearson(labels, outputs)}
