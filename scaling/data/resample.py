"""Separable resampling: one small matrix per axis, applied as matrix products (much faster than scipy.ndimage).

SciPy is imported where it is used: that takes half a second, and pretraining mostly needs none of it.
"""

import numpy as np

FWHM = 2.3548  # full width at half maximum of a Gaussian, in standard deviations


def axis_weights(
    size: int, start: float, step: float, count: int, sigma: float = 0.0
) -> np.ndarray:
    """float32 [count, size]: linear interpolation at start + step * i of `size` samples, after a Gaussian of `sigma`;
    zero outside.
    """
    places = start + step * np.arange(count)
    weights = np.maximum(1 - np.abs(places[:, None] - np.arange(size)), 0)
    if sigma > 0:
        from scipy import ndimage

        weights = ndimage.gaussian_filter1d(weights, sigma, axis=1, mode="constant")
    return weights.astype(np.float32)


def spline_weights(size: int, start: float, step: float, count: int) -> np.ndarray:
    """float32 [count, size]: cubic B-splines with unit coefficients spacing, at start + step * i (smooth, not
    interpolating).
    """
    from scipy.interpolate import BSpline

    places = start + step * np.arange(count)
    bump = BSpline.basis_element(np.arange(-2.0, 3.0), extrapolate=False)
    return np.nan_to_num(bump(places[:, None] - np.arange(size))).astype(np.float32)


def apply_weights(
    image: np.ndarray, weights: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> np.ndarray:
    """float32 image [D, H, W] resampled along every axis by its matrix."""
    first, second, third = weights
    out = np.matmul(np.asarray(image, np.float32), third.T)
    out = np.matmul(second, out)
    return (first @ out.reshape(out.shape[0], -1)).reshape(first.shape[0], *out.shape[1:])
