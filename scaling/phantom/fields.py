"""Numerical pieces of the synthetic brains: random fields, interpolation, rotation, thresholds."""

import numpy as np
from scipy import sparse

from scaling.data.resample import apply_weights, spline_weights


def smooth_noise(
    shape: tuple[int, ...], spacing: float, scale_mm: float, rng: np.random.Generator
) -> np.ndarray:
    """Gaussian random field [D, H, W] of unit variance that varies over `scale_mm`.

    It is a sum of cubic B-splines with random coefficients, `scale_mm` apart.
    """
    step = max(1.0, scale_mm / spacing)
    sizes = [int(np.ceil(n / step)) + 4 for n in shape]
    coefficients = rng.standard_normal(sizes, dtype=np.float32)
    start = 1 + rng.random(3)
    first, second, third = (
        spline_weights(m, s, 1 / step, n) for m, s, n in zip(sizes, start, shape, strict=True)
    )
    field = apply_weights(coefficients, (first, second, third))
    return field / (field.std() + 1e-6)


def rotation(angles: np.ndarray) -> np.ndarray:
    """Rotation matrix [3, 3] about the three axes in turn; radians."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = [i for i in range(3) if i != axis]
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def interpolation(shape: tuple[int, ...], places: np.ndarray) -> sparse.csr_array:
    """Matrix [n, D H W] of linear interpolation at voxel coordinates [3, n].

    Beyond the border, the border's value holds. Times maps [D H W, C] it interpolates all of
    them, several times faster than one call of scipy.ndimage for each.
    """
    places = np.clip(places, 0, np.asarray(shape, np.float32)[:, None] - np.float32(1.001))
    lower = places.astype(np.int32)
    upper = places - lower.astype(np.float32)
    weights = (1 - upper, upper)
    strides = (shape[1] * shape[2], shape[2], 1)
    first = lower[0] * strides[0] + lower[1] * strides[1] + lower[2]
    # Each of the n rows has eight entries: the corners of the cube around its place.
    columns = np.empty((len(first), 8), np.int32)
    shares = np.empty((len(first), 8), np.float32)
    for corner, (a, b, c) in enumerate(np.ndindex(2, 2, 2)):
        columns[:, corner] = first + (a * strides[0] + b * strides[1] + c)
        shares[:, corner] = weights[a][0] * weights[b][1] * weights[c][2]
    row_starts = np.arange(0, columns.size + 1, 8, dtype=np.int32)
    return sparse.csr_array(
        (shares.ravel(), columns.ravel(), row_starts), (len(first), int(np.prod(shape)))
    )


def ramp(value: np.ndarray) -> np.ndarray:
    """Share of a voxel beyond an edge: 0 below -1/2, 1 above 1/2, a straight line between."""
    return np.clip(value + 0.5, 0, 1)


def largest_values(score: np.ndarray, millilitres: float, spacing: float) -> np.ndarray:
    """Mask float32 [D, H, W] of the voxels with the highest finite scores, of a given volume."""
    finite = np.isfinite(score)
    count = min(round(millilitres * 1000 / spacing**3), int(finite.sum()))
    if count < 1:
        return np.zeros(score.shape, np.float32)
    threshold = np.partition(score[finite], -count)[-count]
    return (finite & (score >= threshold)).astype(np.float32)
