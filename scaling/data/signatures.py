"""A small digest of a prepared volume that survives defacing, noise and another normalisation.

A signature is what a head shows between 4 and 10 mm (a difference of Gaussians), away from its
edge, on a grid of 10 mm below its vertex: there is no face, and no rim of half empty voxels.
Signatures of one sequence are compared by their correlation where both show tissue, after their
mean is taken away.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from scaling.data.resample import apply_weights
from scaling.study.config import BACKGROUND

FINE_MM, COARSE_MM = 4.0, 10.0  # standard deviations of the two Gaussians
STEP_MM = 10.0  # of the signature's grid
REACH_MM = (60.0, 80.0, 30.0)  # from its middle, along each axis
DEPTH_MM = 80.0  # below the vertex; the grid's middle is halfway
EDGE_MM = 8.0  # of the head that are left out: resampling mixes them with the background
VOXEL_MM = 4.0  # finer volumes are averaged to about this
DARKEST = 0.005  # share of the head's voxels
VERTEX_SHARE = 0.5  # of the largest slice; higher up, a rim of mixed voxels shifts the vertex
FEWEST = 500  # voxels of tissue


@dataclass(frozen=True)
class Pattern:
    """What a signature is sampled from: float32 `values` and `inside` (0 or 1) [D, H, W], the
    `centre` [3] in voxels, and the voxels' `spacing` [3] in mm.
    """

    values: np.ndarray
    inside: np.ndarray
    centre: np.ndarray
    spacing: np.ndarray


def pattern_of(volume: np.ndarray, spacing: np.ndarray) -> Pattern | None:
    """The pattern of a prepared volume [D, H, W]; None where it holds too little of a head."""
    values, head, spacing = averaged(np.asarray(volume, np.float32), np.asarray(spacing, float))
    if np.count_nonzero(head) < FEWEST:
        return None
    # Voxels at the edge that resampling has mixed with the background are dark, and the more of
    # them there are, the larger is the head: tissue is nearer to the median than to the darkest.
    darkest, median = np.quantile(values[head], [DARKEST, 0.5])
    tissue = largest_piece(head & (values > (darkest + median) / 2))
    if np.count_nonzero(tissue) < FEWEST:
        return None
    reach = 2 * np.rint(EDGE_MM / spacing).astype(int) + 1  # voxels across, of what is eroded
    inside = ndimage.minimum_filter(tissue.view(np.uint8), tuple(reach), mode="constant")
    inside = inside.astype(np.float32)
    return Pattern(values * inside, inside, centre_below_vertex(tissue, spacing), spacing)


def averaged(volume: np.ndarray, spacing: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Volume and head (bool) in blocks of about 4 mm, and the spacing of these."""
    head = volume != np.float32(BACKGROUND)
    for axis in range(3):
        factor = max(1, int(VOXEL_MM / spacing[axis] + 1e-3))
        if factor == 1:
            continue
        size = volume.shape[axis] // factor * factor
        shape = list(volume.shape)
        shape[axis : axis + 1] = [size // factor, factor]
        kept = np.take(volume, np.arange(size), axis), np.take(head, np.arange(size), axis)
        volume = kept[0].reshape(shape).mean(axis + 1)  # [.., n, factor, ..] -> [.., n, ..]
        head = kept[1].reshape(shape).mean(axis + 1) > 0.5
        spacing = np.where(np.arange(3) == axis, spacing * factor, spacing)
    return volume, head, spacing


def largest_piece(mask: np.ndarray) -> np.ndarray:
    """The largest connected piece of an opened mask, with its holes."""
    pieces, count = ndimage.label(ndimage.binary_opening(mask))
    if count == 0:
        return np.zeros_like(mask)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    largest = ndimage.binary_closing(np.pad(pieces == sizes.argmax(), 2), iterations=2)
    return ndimage.binary_fill_holes(largest[2:-2, 2:-2, 2:-2])


def centre_below_vertex(tissue: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Middle [3], in voxels, of the 80 mm below the vertex; the third axis points up."""
    area = tissue.sum((0, 1)).astype(np.float64)
    limit = VERTEX_SHARE * area.max()
    top = int(np.flatnonzero(area > limit)[-1])
    above = area[top + 1] if top + 1 < len(area) else 0.0
    vertex = top + (area[top] - limit) / (area[top] - above)
    lowest = max(0, int(np.ceil(vertex - DEPTH_MM / spacing[2])))
    slab = tissue[:, :, lowest : top + 1]
    x = np.average(np.arange(slab.shape[0]), weights=slab.sum((1, 2)))
    y = np.average(np.arange(slab.shape[1]), weights=slab.sum((0, 2)))
    return np.array([x, y, vertex - DEPTH_MM / 2 / spacing[2]])


def signature(pattern: Pattern, shift_mm: np.ndarray | None = None) -> np.ndarray:
    """float32 [K]: the pattern on its grid, whose middle may be shifted by some mm; 0 where there
    is no tissue.
    """
    centre = pattern.centre + (0 if shift_mm is None else shift_mm / pattern.spacing)
    levels = []
    for sigma in (FINE_MM, COARSE_MM):
        first, second, third = (
            gaussian_weights(
                pattern.values.shape[axis],
                float(centre[axis]),
                REACH_MM[axis],
                float(pattern.spacing[axis]),
                sigma,
            )
            for axis in range(3)
        )
        weights = (first, second, third)
        share = apply_weights(pattern.inside, weights)
        total = apply_weights(pattern.values, weights)
        levels.append((total / np.maximum(share, 1e-3), share))
    (fine, share), (coarse, _) = levels
    bumps = np.where(share > 0.5, fine - coarse, 0).astype(np.float32).ravel()
    # Intensities were normalised by the whole head, rim and face included: here the pattern alone.
    shown = bumps != 0
    if not shown.any():
        return bumps
    return bumps / max(float(bumps[shown].std()), 1e-6)


def gaussian_weights(
    size: int, middle: float, reach: float, spacing: float, sigma: float
) -> np.ndarray:
    """float32 [n, size]: Gaussians of `sigma` mm around the grid's places along one axis."""
    places = np.arange(-reach, reach + 1e-6, STEP_MM)  # mm from the middle
    distance = (places[:, None] - (np.arange(size) - middle) * spacing) / sigma
    weights = np.exp(-0.5 * distance**2)
    return (weights * spacing / (sigma * np.sqrt(2 * np.pi))).astype(np.float32)
