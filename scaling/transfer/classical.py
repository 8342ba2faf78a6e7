"""The simplest classical controls: linear models on smoothed voxels, no network; for regression
also on a histogram of the intensities.

On brain age they are hard to beat.
"""

from collections.abc import Iterator

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

from scaling.data.tasks import Cases, TaskArrays, draws_of
from scaling.study.config import BACKGROUND, Classical, Task
from scaling.transfer.kinds import learner_of
from scaling.transfer.predictions import Predicted
from scaling.transfer.readouts import ridge_masks, ridge_scores
from scaling.transfer.vectors import ridge_of_vectors

SCALES_MM = (0.0, 6.0, 12.0)
FWHM = 2.355  # of a Gaussian, in standard deviations


def classical(
    arrays: TaskArrays, task: Task, recipe: Classical, spacing_mm: float
) -> Iterator[Predicted]:
    """Fit every draw on smoothed voxels, and predict the test cases."""
    learner = learner_of(task)
    both = (arrays.train, arrays.test)
    if learner.masks:
        train, test = (local_intensities(cases, spacing_mm) for cases in both)
    else:
        train, test = (smoothed_voxels(cases, spacing_mm, recipe.smoothing_mm) for cases in both)
    for shots in task.shots:
        for draw, chosen in draws_of(task, arrays, shots):
            targets = learner.readout_targets(arrays.train.labels[chosen])
            if learner.masks:
                shape = arrays.test.labels.shape
                above = voxel_readouts(train[chosen], targets, test, recipe.mask_penalty)
                outputs = above.reshape(*shape, targets.shape[-1])
            else:
                outputs = ridge_scores([(train[chosen], test)], targets, recipe.penalties)
            yield Predicted("ridge", shots, draw, 0.0, learner.from_readout(outputs))
    if task.kind == "regression":
        yield from histogram_ridge(arrays, task, recipe)


def histogram_ridge(arrays: TaskArrays, task: Task, recipe: Classical) -> Iterator[Predicted]:
    """Fit every draw on the shares of voxels in each bin of intensity, and predict the test cases:
    what a number owes to contrast and tissue volume alone, wherever in the head.
    """
    edges = bin_edges(arrays.train, recipe.bins)
    train, test = (histograms(cases, edges) for cases in (arrays.train, arrays.test))
    return ridge_of_vectors("histogram", train, test, arrays, task, recipe.penalties)


def bin_edges(cases: Cases, bins: int) -> np.ndarray:
    """Edges between the bins of every sequence, float64 [S, bins-1]: the cases' quantiles of the
    intensities inside the head, averaged over the cases that have the sequence.

    `cases` are all training cases, those beyond a draw's shots as well: no label is seen.
    """
    shares = np.arange(1, bins) / bins
    edges = np.zeros((cases.images.shape[1], bins - 1))
    for sequence in range(len(edges)):
        quantiles = []
        for case in np.flatnonzero(cases.present[:, sequence]):
            inside = head_intensities(cases.images[case, sequence])
            if inside.size:
                quantiles.append(np.quantile(inside, shares))
        if quantiles:
            edges[sequence] = np.mean(quantiles, axis=0)
    return edges


def histograms(cases: Cases, edges: np.ndarray) -> np.ndarray:
    """Shares of the voxels inside the head in each bin, sequences side by side: float64
    [n, 1, S*bins], not a number where a sequence is absent.
    """
    n, sequences = cases.present.shape
    bins = edges.shape[1] + 1
    shares = np.full((n, sequences, bins), np.nan)
    for case, sequence in np.argwhere(cases.present):
        inside = head_intensities(cases.images[case, sequence])
        if inside.size:
            places = np.searchsorted(edges[sequence], inside, side="right")
            shares[case, sequence] = np.bincount(places, minlength=bins) / inside.size
    return shares.reshape(n, 1, sequences * bins)


def head_intensities(image: np.ndarray) -> np.ndarray:
    """The voxels [K] of a prepared volume [D, H, W] that are inside the head."""
    return image[image != np.float16(BACKGROUND)].astype(np.float32)


def voxel_readouts(
    train: np.ndarray, targets: np.ndarray, test: np.ndarray, penalty: float
) -> np.ndarray:
    """Scores of every voxel above their threshold, for each label: [m, D*H*W, C]."""
    above = []
    for label in range(targets.shape[-1]):
        masks = targets[..., label].reshape(len(targets), -1, 1)  # [n, D*H*W, 1]
        scores, threshold = ridge_masks(train, masks, test, penalty)
        above.append(scores[..., 0] - threshold)
    return np.stack(above, axis=-1)


def smoothed_voxels(cases: Cases, spacing_mm: float, smoothing_mm: float) -> np.ndarray:
    """Voxels smoothed to a full width at half maximum of `smoothing_mm` and sampled that finely:
    float32 [n, F].
    """
    sigma = smoothing_mm / spacing_mm / FWHM
    factor = min(1.0, spacing_mm / smoothing_mm)

    def features(images: np.ndarray) -> np.ndarray:
        smooth = [gaussian_filter(np.float32(image), sigma) for image in images]
        return np.concatenate([zoom(image, factor, order=1).ravel() for image in smooth])

    return np.stack([features(images) for images in cases.images])


def local_intensities(cases: Cases, spacing_mm: float) -> np.ndarray:
    """Each voxel's intensities at several scales, all sequences: float32 [n, D*H*W, F]."""

    def features(images: np.ndarray) -> np.ndarray:
        columns = []
        for image in images:
            for scale in SCALES_MM:
                sigma = scale / spacing_mm / FWHM
                columns.append(gaussian_filter(np.float32(image), sigma).ravel())
        return np.stack(columns, axis=-1)

    return np.stack([features(images) for images in cases.images])
