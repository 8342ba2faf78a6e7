"""Separable resampling: one small matrix per axis, applied as matrix products.

Much faster than scipy.ndimage. SciPy is imported where it is used: the import takes half a second,
and pretraining mostly needs none of it.
"""

import numpy as np
from threadpoolctl import ThreadpoolController

BLAS = ThreadpoolController()
FWHM = 2.3548  # full width at half maximum of a Gaussian, in standard deviations


def axis_weights(
    size: int, start: float, step: float, count: int, sigma: float = 0.0
) -> np.ndarray:
    """float32 [count, size]: linear interpolation at start + step * i of `size` samples.

    A Gaussian of `sigma` samples is applied first; outside of the samples there are zeros.
    """
    places = start + step * np.arange(count)
    weights = np.maximum(1 - np.abs(places[:, None] - np.arange(size)), 0)
    if sigma > 0:
        from scipy import ndimage

        weights = ndimage.gaussian_filter1d(weights, sigma, axis=1, mode="constant")
    return weights.astype(np.float32)


def spline_weights(size: int, start: float, step: float, count: int) -> np.ndarray:
    """float32 [count, size]: cubic B-splines at start + step * i, coefficients one sample apart.

    They are smooth and do not interpolate.
    """
    from scipy.interpolate import BSpline

    places = start + step * np.arange(count)
    bump = BSpline.basis_element(np.arange(-2.0, 3.0), extrapolate=False)
    return np.nan_to_num(bump(places[:, None] - np.arange(size))).astype(np.float32)


def apply_weights(
    image: np.ndarray, weights: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> np.ndarray:
    """float32 image [D, H, W] resampled along every axis by its matrix. On one thread: on several,
    sums end in other bits, and a scan must give the same array in every process.
    """
    first, second, third = weights
    with BLAS.limit(limits=1):
        out = np.matmul(np.asarray(image, np.float32), third.T)  # [d, h, W]
        out = np.matmul(second, out)  # [d, H, W]
        flat = out.reshape(out.shape[0], -1)  # [d, H, W] -> [d, H*W]
        return (first @ flat).reshape(first.shape[0], *out.shape[1:])  # [D, H*W] -> [D, H, W]
