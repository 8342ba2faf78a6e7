"""The simplest classical controls: linear models on smoothed voxels, no network. On brain age they are hard to beat."""

from collections.abc import Iterator

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

from scaling.data.tasks import Cases, TaskArrays, few_shot_draws
from scaling.study.config import Classical, Task
from scaling.transfer.predictions import Predicted
from scaling.transfer.probe import ridge_masks, ridge_scores

SCALES_MM = (0.0, 6.0, 12.0)


def classical(
    arrays: TaskArrays, task: Task, recipe: Classical, spacing_mm: float
) -> Iterator[Predicted]:
    """Fit every draw on smoothed voxels, and predict the test cases."""
    both = (arrays.train, arrays.test)
    if task.kind == "segmentation":
        train, test = (local_intensities(cases, spacing_mm) for cases in both)
    else:
        train, test = (smoothed_voxels(cases, spacing_mm, recipe.smoothing_mm) for cases in both)
    for shots in task.shots:
        for draw, chosen in enumerate(few_shot_draws(task, arrays.train, shots)):
            labels = arrays.train.labels[chosen]
            if task.kind == "segmentation":
                masks = labels.reshape(shots, -1, 1).astype(np.float32)
                scores, threshold = ridge_masks(train[chosen], masks, test, recipe.mask_penalty)
                outputs = scores.reshape(arrays.test.labels.shape) > threshold
            else:
                outputs = ridge_scores([(train[chosen], test)], labels, recipe.penalties)
            yield Predicted("ridge", shots, draw, 0.0, outputs)


def smoothed_voxels(cases: Cases, spacing_mm: float, smoothing_mm: float) -> np.ndarray:
    """Voxels smoothed to a full width at half maximum of `smoothing_mm` and sampled that finely: float32 [n, F]."""
    sigma = smoothing_mm / spacing_mm / 2.355
    factor = min(1.0, spacing_mm / smoothing_mm)
    return np.stack(
        [
            np.concatenate(
                [
                    zoom(gaussian_filter(np.float32(image), sigma), factor, order=1).ravel()
                    for image in images
                ]
            )
            for images in cases.images
        ]
    )


def local_intensities(cases: Cases, spacing_mm: float) -> np.ndarray:
    """Each voxel's intensities at several scales, all sequences: float32 [n, D*H*W, F]."""
    return np.stack(
        [
            np.stack(
                [
                    gaussian_filter(np.float32(image), scale / spacing_mm / 2.355).ravel()
                    for image in images
                    for scale in SCALES_MM
                ],
                axis=-1,
            )
            for images in cases.images
        ]
    )
