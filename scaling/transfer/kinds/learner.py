"""What a kind of task says of how it is learned: one record of functions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jax import Array


def as_they_are(values: Any) -> Any:
    """The values themselves."""
    return values


@dataclass(frozen=True)
class Learner:
    """How one kind of task, with its number of classes, is learned and scored.

    R networks, n cases, B cases of a batch. "Outputs" are what a head gives: [B] where there is
    one, else [B, outputs]; of masks [B, D, H, W], else [B, outputs, D, H, W].
    """

    outputs: int
    """Numbers a case, or channels a voxel, of a head."""
    loss: Callable[[Array, Array], Array]
    """Outputs and targets of a batch to losses [B]."""
    predict: Callable[[np.ndarray], np.ndarray]
    """Outputs [n, ...] to predictions [n, ...]: what tables and metrics take."""
    columns: Callable[[np.ndarray, np.ndarray, Any], dict[str, Any]]
    """Labels [n, ...], predictions and the `Ruler` to the columns of a table with a row a case; at
    least "label" and "prediction"."""
    score: Callable[[pd.DataFrame], dict[str, float]]
    """Such rows to metrics, the main one first."""
    masks: bool = False
    """Whether labels are masks."""
    standardised: bool = False
    """Whether targets are brought to zero mean and unit variance of the shots."""
    targets: Callable[[Any], Any] = as_they_are
    """Labels [B, ...] to targets, traced; masks [B, D, H, W] to what is moved with the volumes."""
    readout_targets: Callable[[np.ndarray], np.ndarray] = as_they_are
    """Labels [n, ...] to the columns that linear readouts fit: [n] or [n, k], masks [n, ..., k]."""
    from_readout: Callable[[np.ndarray], np.ndarray] = as_they_are
    """What linear readouts and neighbours say of those columns, to predictions."""
    case_scores: Callable[[pd.DataFrame], np.ndarray] | None = None
    """Rows of one model and draw to one value a case, whose mean is the main metric; None where
    the verdict reads the metric's own column, or label and prediction (AUROC, Pearson's r)."""


@dataclass(frozen=True)
class Ruler:
    """What masks are measured by."""

    spacing_mm: float
    """Edge of a voxel in mm."""
    tolerance_mm: float
    """Surfaces closer than this count as equal."""
    emptied: np.ndarray | None = None
    """bool [n, C]: labels that a case's file holds and the grid lost."""
