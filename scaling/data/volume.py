"""One scan -> one float16 array [D, H, W] on its session's grid.

Axes are RAS, the head is centred, intensities are normalised. A grid is its voxel-to-world matrix
[4, 4]; all files of a session share the grid of its first usable scan.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from scaling.data.head import Background, Head, find_head
from scaling.data.reading import Scan, UnreadableVolume, read_mask, read_scan
from scaling.data.resample import FWHM, apply_weights, axis_weights
from scaling.study.config import BACKGROUND, Volumes

CLIP = (0.5, 99.5)  # percentiles of the foreground
HEAD_HEIGHT = 170.0  # mm; what is further below the vertex is neck (as in FSL's robustfov)
SAMPLE, STRIDE = 161_319, 13  # of more voxels, every 13th is enough for percentiles
FEWEST_VOXELS = 64  # of a head on the grid


@dataclass(frozen=True)
class PreparedScan:
    """A scan on its session's grid: `volume` float16 [D, H, W].

    `covered` is the share of the head's volume that the grid holds, `grid` [4, 4] the
    voxel-to-world matrix in mm, `background` what the head was told from.
    """

    volume: np.ndarray
    covered: float
    grid: np.ndarray
    background: Background


def read_volume(
    path: Path, volumes: Volumes, mask: bool = False, like: np.ndarray | None = None
) -> np.ndarray:
    """float16 [D, H, W] of a scan, or uint8 {0, 1} of a mask, on the grid `like`.

    A scan has its own grid by default. Raises UnreadableVolume.
    """
    if mask:
        if like is None:
            raise ValueError(
                f"{path} is a mask and needs the grid of its scan "
                "(like=session_grid(scan, volumes, inside))"
            )
        return mask_to_grid(read_mask(path), volumes, like)
    return prepare_scan(path, read_scan(path), volumes, like).volume


def session_volume(
    path: Path, scan: Scan, volumes: Volumes, grid: np.ndarray | None
) -> tuple[np.ndarray, float, np.ndarray]:
    """Volume, covered share and grid of `prepare_scan`. Raises UnreadableVolume."""
    prepared = prepare_scan(path, scan, volumes, grid)
    return prepared.volume, prepared.covered, prepared.grid


def prepare_scan(
    path: Path, scan: Scan, volumes: Volumes, grid: np.ndarray | None, brain: Scan | None = None
) -> PreparedScan:
    """Bring a scan to the session's `grid`, or to a grid of its own where the session has none yet.

    Intensities are normalised by the voxels of `brain`, a mask, where it is given. Raises
    UnreadableVolume; a session's first scan has then given it no grid.
    """
    head = find_head(path, scan.voxels, scan.spacing)
    if grid is None:
        grid = session_grid(scan, volumes, head.inside)
    brain_on_grid = mask_to_grid(brain, volumes, grid) > 0 if brain is not None else None
    volume, covered = scan_to_grid(path, scan, volumes, grid, head, brain_on_grid)
    return PreparedScan(volume, covered, grid, head.background)


def session_grid(scan: Scan, volumes: Volumes, inside: np.ndarray) -> np.ndarray:
    """Voxel-to-world matrix [4, 4] (mm) around the middle of the foreground's box.

    Its voxels are the study's, or else the scan's own, of which none is moved by a fraction. Specks
    and the neck are left out of the box.
    """
    low, high = np.zeros(3), np.zeros(3)
    for axis in range(3):
        along = np.cumsum(inside.sum(tuple({0, 1, 2} - {axis})))
        low[axis], high[axis] = np.searchsorted(along, (0.0005 * along[-1], 0.9995 * along[-1]))
    low[2] = max(low[2], high[2] - HEAD_HEIGHT / scan.spacing[2])
    middle = (low + high) / 2
    grid = np.eye(4)
    grid[:3, :3] = scan.affine[:3, :3]
    if volumes.spacing_mm is not None:
        grid[:3, :3] = np.eye(3) * volumes.spacing_mm
    half = (np.asarray(volumes.shape) - 1) / 2
    if on_grid(scan, grid):
        middle = np.round(middle) + (np.asarray(volumes.shape) + 1) % 2 / 2
    centre = np.round(scan.affine[:3, :3] @ middle + scan.affine[:3, 3], 4)
    grid[:3, 3] = centre - grid[:3, :3] @ half
    return grid


def on_grid(scan: Scan, grid: np.ndarray) -> bool:
    """Whether the scan's voxels have the grid's size and axes already."""
    difference = np.abs(scan.affine[:3, :3] - grid[:3, :3]).max()
    return bool(difference < 1e-3 * np.linalg.norm(grid[:3, :3], axis=0).min())


def aligned(scan: Scan, grid: np.ndarray) -> np.ndarray | None:
    """The scan's voxel [3] at the grid's first one; None unless the grid's voxels are the
    scan's.
    """
    start = (np.linalg.inv(scan.affine) @ grid)[:3, 3]
    whole = np.round(start)
    if on_grid(scan, grid) and np.abs(start - whole).max() < 0.01:
        return whole.astype(int)
    return None


def resample(
    scan: Scan, images: list[np.ndarray], shape: tuple[int, int, int], grid: np.ndarray
) -> list[np.ndarray]:
    """Bring float32 images [D, H, W] on the scan's voxels to `shape` voxels of the grid.

    Outside of the scan there are zeros. Interpolation is linear; where the grid is coarser than the
    scan, a Gaussian before it widens the scan's voxel to the grid's (full width at half maximum).
    """
    start = aligned(scan, grid)
    if start is not None:
        return [shifted(image, start, shape) for image in images]
    to_scan = np.linalg.inv(scan.affine) @ grid
    ratio = np.linalg.norm(grid[:3, :3], axis=0) / scan.spacing
    sigma = np.where(ratio > 1.01, np.sqrt(np.maximum(ratio**2 - 1, 0)) / FWHM, 0.0)
    # Only the scan's voxels that the grid reaches are filtered.
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in shape], indexing="ij")).reshape(3, 8)
    reached = to_scan[:3, :3] @ corners + to_scan[:3, 3:]
    margin = np.ceil(4 * sigma) + 2
    first = np.clip(np.floor(reached.min(1) - margin), 0, scan.voxels.shape).astype(int)
    last = np.clip(np.ceil(reached.max(1) + margin) + 1, 0, scan.voxels.shape).astype(int)
    window = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
    offset = to_scan[:3, 3] - first
    matrix = to_scan[:3, :3]
    if np.abs(matrix - np.diag(np.diag(matrix))).max() < 1e-4:
        first_axis, second_axis, third_axis = (
            axis_weights(last[i] - first[i], offset[i], matrix[i, i], shape[i], sigma[i])
            for i in range(3)
        )
        weights = (first_axis, second_axis, third_axis)
        return [apply_weights(image[window], weights) for image in images]
    smooth = [ndimage.gaussian_filter(image[window], sigma, mode="constant") for image in images]
    return [
        ndimage.affine_transform(image, matrix, offset, shape, order=1, mode="grid-constant")
        for image in smooth
    ]


def shifted(image: np.ndarray, start: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """`shape` voxels of `image` from its voxel `start` on, zero outside of it."""
    out = np.zeros(shape, image.dtype)
    begin = np.maximum(start, 0)
    end = np.minimum(start + shape, image.shape)
    if (end > begin).all():
        source = tuple(slice(a, b) for a, b in zip(begin, end, strict=True))
        target = tuple(slice(a, b) for a, b in zip(begin - start, end - start, strict=True))
        out[target] = image[source]
    return out


def scan_to_grid(
    path: Path,
    scan: Scan,
    volumes: Volumes,
    grid: np.ndarray,
    head: Head,
    brain: np.ndarray | None = None,
) -> tuple[np.ndarray, float]:
    """float16 [D, H, W] on the grid, and the share of the head's volume that the grid holds.

    Values are clipped, then have zero mean and unit variance over the head, or over `brain`
    (bool [D, H, W], on the grid) where it is given; outside of the head they are BACKGROUND.
    """
    inside, measured, values = values_on_grid(scan, volumes, grid, head)
    if values.size < FEWEST_VOXELS:
        raise UnreadableVolume(
            f"{path} lies outside its session's grid ({values.size} voxels in it); check its affine"
        )
    low, high = robust_range(values)
    values = values.clip(low, high).astype(np.float32)
    reference = values
    if brain is not None and np.count_nonzero(brain[measured]) >= FEWEST_VOXELS:
        reference = values[brain[measured]]
        reference = reference.clip(*robust_range(reference))
    mean = float(reference.mean(dtype=np.float64))
    deviation = float(reference.std(dtype=np.float64))
    if deviation <= 1e-6 * max(abs(mean), 1e-30):
        raise UnreadableVolume(
            f"{path} is constant inside the head (every voxel is {values[0]:g}); expected a scan"
        )
    out = np.full(volumes.shape, BACKGROUND, np.float16)
    # Holes have the padding's value, which is dark inside a brain; without a number, the mean.
    padding = mean if head.padding is None or np.isnan(head.padding) else head.padding
    out[inside] = (min(max(padding, low), high) - mean) / deviation
    out[measured] = (values - np.float32(mean)) / np.float32(deviation)
    on_grid_mm3 = np.count_nonzero(inside) * abs(np.linalg.det(grid[:3, :3]))
    of_scan_mm3 = np.count_nonzero(head.inside) * abs(np.linalg.det(scan.affine[:3, :3]))
    return out, min(1.0, float(on_grid_mm3 / of_scan_mm3))


def values_on_grid(
    scan: Scan, volumes: Volumes, grid: np.ndarray, head: Head
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """bool [D, H, W] of the head and of its measured voxels on the grid, and their values [n].

    Values are averaged over the measured voxels alone (normalised convolution), so that edges keep
    their contrast.
    """
    start = aligned(scan, grid)
    if start is not None:
        measured = shifted(head.measured, start, volumes.shape)
        values = shifted(scan.voxels, start, volumes.shape)[measured]
        return shifted(head.inside, start, volumes.shape), measured, values
    images = [head.measured.astype(np.float32), np.where(head.measured, scan.voxels, np.float32(0))]
    share, total = resample(scan, images, volumes.shape, grid)
    measured = share > 0.5
    values = total[measured] / share[measured]
    if head.measured is head.inside or np.array_equal(head.measured, head.inside):
        return measured, measured, values
    (whole,) = resample(scan, [head.inside.astype(np.float32)], volumes.shape, grid)
    return (whole > 0.5) | measured, measured, values


def robust_range(values: np.ndarray) -> tuple[float, float]:
    """The 0.5th and 99.5th percentiles."""
    sample = values if values.size <= SAMPLE else values[::STRIDE]
    low, high = np.percentile(sample.astype(np.float64), CLIP)
    return float(low), float(high)


def mask_to_grid(scan: Scan, volumes: Volumes, grid: np.ndarray) -> np.ndarray:
    """uint8 [D, H, W]: a voxel of which at least half is inside takes the label with the largest
    share of it.
    """
    labels = np.unique(scan.voxels)
    labels = labels[labels > 0]
    inside = np.zeros(volumes.shape, np.float32)
    largest = np.zeros(volumes.shape, np.float32)
    out = np.zeros(volumes.shape, np.uint8)
    for label in labels:
        indicator = (scan.voxels == label).astype(np.float32)
        (share,) = resample(scan, [indicator], volumes.shape, grid)
        inside += share
        out[share > largest] = label
        largest = np.maximum(largest, share)
    out[inside < 0.5 - 1e-6] = 0
    return out
