"""Segmentation: a logit a voxel for one label, logits of the background and every label for
more.
"""

from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from scaling.study.classes import named
from scaling.transfer import metrics
from scaling.transfer.kinds.learner import Learner, Ruler
from scaling.transfer.losses import labels_loss, segmentation_loss


@lru_cache
def segmentation(classes: tuple[str | int, ...]) -> Learner:
    """Soft Dice and cross-entropy; Dice and normalised surface distance, mean over labels."""
    names = tuple(name for name, _ in named(classes))
    if len(names) == 1:
        return Learner(
            outputs=1,
            loss=segmentation_loss,
            predict=positive,
            columns=partial(mask_columns, names),
            score=partial(mask_scores, names),
            masks=True,
            readout_targets=one_channel,
            from_readout=largest_label,
        )
    return Learner(
        outputs=len(names) + 1,
        loss=labels_loss,
        predict=most_probable,
        columns=partial(mask_columns, names),
        score=partial(mask_scores, names),
        masks=True,
        targets=partial(label_channels, len(names)),
        readout_targets=partial(label_voxels, len(names)),
        from_readout=largest_label,
    )


def positive(logits: np.ndarray) -> np.ndarray:
    """bool [n, D, H, W]: more probable than not."""
    return logits > 0


def most_probable(logits: np.ndarray) -> np.ndarray:
    """uint8 [n, D, H, W]: the most probable label, from logits [n, 1 + C, D, H, W]."""
    return logits.argmax(-4).astype(np.uint8)


def label_channels(labels: int, masks: jax.Array) -> jax.Array:
    """Masks [B, D, H, W] of label numbers as one channel of 0 and 1 a label: [B, C, D, H, W]."""
    numbers = jnp.arange(1, labels + 1)[:, None, None, None]
    return (masks[:, None] == numbers).astype(jnp.float32)


def one_channel(masks: np.ndarray) -> np.ndarray:
    """Masks [n, ...] of one label as float32 [n, ..., 1]."""
    return masks.astype(np.float32)[..., None]


def label_voxels(labels: int, masks: np.ndarray) -> np.ndarray:
    """Masks [n, ...] of label numbers as float32 [n, ..., C]."""
    return (masks[..., None] == np.arange(1, labels + 1)).astype(np.float32)


def largest_label(above: np.ndarray) -> np.ndarray:
    """From scores above their thresholds [n, D, H, W, C] to the mask: bool for one label, else the
    label that is highest above its own, 0 where none is.
    """
    if above.shape[-1] == 1:
        return above[..., 0] > 0
    return np.where(above.max(-1) > 0, above.argmax(-1) + 1, 0).astype(np.uint8)


def mask_columns(
    names: tuple[str, ...], labels: np.ndarray, predictions: np.ndarray, ruler: Ruler
) -> dict[str, Any]:
    """Volumes in ml, Dice and surface distance of every case: mean over labels, and each label's.

    A label that the grid has lost scores 0, whatever is predicted: its truth is not empty.
    """
    voxel_ml = ruler.spacing_mm**3 / 1000
    columns: dict[str, Any] = {
        "label": voxel_ml * (labels > 0).sum((1, 2, 3), dtype=np.float64),
        "prediction": voxel_ml * (predictions > 0).sum((1, 2, 3), dtype=np.float64),
    }
    dices = np.zeros((len(labels), len(names)))
    distances = np.zeros((len(labels), len(names)))
    for case in range(len(labels)):
        for place in range(len(names)):
            truth, predicted = labels[case] == place + 1, predictions[case] == place + 1
            if ruler.emptied is not None and ruler.emptied[case, place]:
                continue
            dices[case, place] = metrics.dice(truth, predicted)
            distances[case, place] = metrics.nsd(
                truth, predicted, ruler.spacing_mm, ruler.tolerance_mm
            )
    columns["dice"], columns["nsd"] = dices.mean(1), distances.mean(1)
    if len(names) > 1:
        columns |= {f"dice_{name}": dices[:, place] for place, name in enumerate(names)}
        columns |= {f"nsd_{name}": distances[:, place] for place, name in enumerate(names)}
    return columns


def mask_scores(names: tuple[str, ...], cases: pd.DataFrame) -> dict[str, float]:
    """Means over cases: of all labels first, then of each."""
    columns = ["dice", "nsd"]
    if len(names) > 1:
        columns += [f"{metric}_{name}" for name in names for metric in ("dice", "nsd")]
    return {column: float(cases[column].mean()) for column in columns}
