"""One scan -> one float16 array [D, H, W] on its session's grid: RAS, the head centred, intensities
normalised. A grid is its voxel-to-world matrix [4, 4]; all files of a session share the one of its
first usable scan.
"""

from pathlib import Path

import numpy as np
from scipy import ndimage

from scaling.data.reading import Scan, UnreadableVolume, read_mask, read_scan
from scaling.data.resample import FWHM, apply_weights, axis_weights
from scaling.study.config import BACKGROUND, Volumes

CLIP = (0.5, 99.5)  # percentiles of the foreground
HEAD_HEIGHT = 170.0  # mm; what is further below the vertex is neck (as in FSL's robustfov)
SAMPLE, STRIDE = (
    2**21,
    13,
)  # of more voxels than that, every 13th is enough for percentiles and histograms


def read_volume(
    path: Path, volumes: Volumes, mask: bool = False, like: np.ndarray | None = None
) -> np.ndarray:
    """float16 [D, H, W] of a scan, or uint8 {0, 1} of a mask, on the grid `like` (default: the
    scan's own). Raises UnreadableVolume.
    """
    if mask:
        if like is None:
            raise ValueError(
                f"{path} is a mask and needs the grid of its scan (like=session_grid(scan, "
                "volumes, inside))"
            )
        return mask_to_grid(read_mask(path), volumes, like)
    return session_volume(path, read_scan(path), volumes, like)[0]


def session_volume(
    path: Path, scan: Scan, volumes: Volumes, grid: np.ndarray | None
) -> tuple[np.ndarray, float, np.ndarray]:
    """A scan as `scan_to_grid` brings it to the session's `grid`, or, where the session has none
    yet, to the scan's own; and that grid.

    Raises UnreadableVolume; a session's first scan has then given it no grid.
    """
    inside = foreground(path, scan.voxels)
    grid = session_grid(scan, volumes, inside) if grid is None else grid
    volume, held = scan_to_grid(path, scan, volumes, grid, inside)
    return volume, held, grid


def foreground(path: Path, voxels: np.ndarray) -> np.ndarray:
    """bool [D, H, W]: head or brain.

    Differs from a constant background, else lies above Otsu's threshold.
    """
    finite = np.isfinite(voxels)
    count = np.count_nonzero(finite)
    if count < 0.01 * voxels.size:
        raise UnreadableVolume(
            f"{path} has no finite voxels to speak of ({count / voxels.size:.1%}); expected a scan"
        )
    values = voxels.ravel() if count == voxels.size else voxels[finite]
    low, high = float(values.min()), float(values.max())
    if high == low:
        raise UnreadableVolume(f"{path} is constant (every voxel is {low:g}); expected a scan")
    values = values if values.size <= SAMPLE else values[::STRIDE]
    bright = float(np.percentile(values, 99.9))
    high = bright if bright - low > 1e-6 * max(abs(bright), abs(low)) else high
    border = np.concatenate([np.take(voxels, [0, -1], axis).ravel() for axis in range(3)])
    numbers, counts = np.unique(border[np.isfinite(border)], return_counts=True)
    if np.isnan(border).mean() > 0.5:
        inside = finite
    elif counts.max() > 0.5 * border.size:
        inside = np.abs(voxels - numbers[counts.argmax()]) > 1e-4 * (high - low)
    else:
        inside = voxels > otsu(values, low, high)
    if np.count_nonzero(inside) < 1e-3 * voxels.size:
        raise UnreadableVolume(
            f"{path} is empty ({inside.sum()} voxels differ from the background); expected a scan"
        )
    return inside


def otsu(values: np.ndarray, low: float, high: float) -> float:
    """Threshold that best separates two classes of values (Otsu 1979), from 256 bins."""
    counts, edges = np.histogram(values, 256, (low, high))
    middle = (edges[:-1] + edges[1:]) / 2
    weight = np.cumsum(counts)[:-1]
    total = np.cumsum(counts * middle)
    with np.errstate(divide="ignore", invalid="ignore"):
        below, above = total[:-1] / weight, (total[-1] - total[:-1]) / (counts.sum() - weight)
        between = weight * (counts.sum() - weight) * (below - above) ** 2
    return float(edges[1:-1][np.nanargmax(between)])


def session_grid(scan: Scan, volumes: Volumes, inside: np.ndarray) -> np.ndarray:
    """Voxel-to-world matrix [4, 4] (mm) of the study's voxels, or of the scan's own, around the
    middle of the foreground's box, specks and neck left out. Where the voxels are the scan's own,
    none is moved by a fraction.
    """
    low, high = np.zeros(3), np.zeros(3)
    for axis in range(3):
        along = np.cumsum(inside.sum(tuple({0, 1, 2} - {axis})))
        low[axis], high[axis] = np.searchsorted(along, (0.0005 * along[-1], 0.9995 * along[-1]))
    low[2] = max(low[2], high[2] - HEAD_HEIGHT / scan.spacing[2])
    middle = (low + high) / 2
    grid = np.eye(4)
    grid[:3, :3] = (
        scan.affine[:3, :3] if volumes.spacing_mm is None else np.eye(3) * volumes.spacing_mm
    )
    half = (np.asarray(volumes.shape) - 1) / 2
    if on_grid(scan, grid):
        middle = np.round(middle) + (np.asarray(volumes.shape) + 1) % 2 / 2
    centre = np.round(scan.affine[:3, :3] @ middle + scan.affine[:3, 3], 4)
    grid[:3, 3] = centre - grid[:3, :3] @ half
    return grid


def on_grid(scan: Scan, grid: np.ndarray) -> bool:
    """Whether the scan's voxels have the grid's size and axes already."""
    return bool(
        np.abs(scan.affine[:3, :3] - grid[:3, :3]).max()
        < 1e-3 * np.linalg.norm(grid[:3, :3], axis=0).min()
    )


def aligned(scan: Scan, grid: np.ndarray) -> np.ndarray | None:
    """The scan's voxel [3] where the grid's first one lies, if the grid's voxels are the scan's
    own.
    """
    start = (np.linalg.inv(scan.affine) @ grid)[:3, 3]
    whole = np.round(start)
    return whole.astype(int) if on_grid(scan, grid) and np.abs(start - whole).max() < 0.01 else None


def resample(
    scan: Scan, images: list[np.ndarray], shape: tuple[int, int, int], grid: np.ndarray
) -> list[np.ndarray]:
    """Bring float32 images [D, H, W] on the scan's voxels to `shape` voxels of the grid, zero
    outside: Gaussian, then linear interpolation.

    Where the grid is coarser than the scan, a Gaussian widens the scan's voxel to the grid's (full
    width at half maximum).
    """
    start = aligned(scan, grid)
    if start is not None:
        return [shifted(image, start, shape) for image in images]
    to_scan = np.linalg.inv(scan.affine) @ grid
    ratio = np.linalg.norm(grid[:3, :3], axis=0) / scan.spacing
    sigma = np.where(ratio > 1.01, np.sqrt(np.maximum(ratio**2 - 1, 0)) / FWHM, 0.0)
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in shape], indexing="ij")).reshape(3, 8)
    reached = to_scan[:3, :3] @ corners + to_scan[:3, 3:]
    margin = np.ceil(4 * sigma) + 2
    first = np.clip(np.floor(reached.min(1) - margin), 0, scan.voxels.shape).astype(int)
    last = np.clip(np.ceil(reached.max(1) + margin) + 1, 0, scan.voxels.shape).astype(int)
    part = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
    offset = to_scan[:3, 3] - first
    matrix = to_scan[:3, :3]
    if np.abs(matrix - np.diag(np.diag(matrix))).max() < 1e-4:
        first_axis, second_axis, third_axis = (
            axis_weights(part[i].stop - part[i].start, offset[i], matrix[i, i], shape[i], sigma[i])
            for i in range(3)
        )
        return [
            apply_weights(image[part], (first_axis, second_axis, third_axis)) for image in images
        ]
    smooth = [ndimage.gaussian_filter(image[part], sigma, mode="constant") for image in images]
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
    path: Path, scan: Scan, volumes: Volumes, grid: np.ndarray, inside: np.ndarray
) -> tuple[np.ndarray, float]:
    """float16 [D, H, W]: zero mean and unit variance in the foreground after clipping, BACKGROUND
    elsewhere; and the share of the foreground's volume that the grid holds.

    Voxels are averaged over the foreground alone (normalised convolution), so that edges keep their
    contrast.
    """
    start = aligned(scan, grid)
    if start is not None:
        kept = shifted(inside, start, volumes.shape)
        values = shifted(scan.voxels, start, volumes.shape)[kept]
    else:
        share, total = resample(
            scan,
            [inside.astype(np.float32), np.where(inside, scan.voxels, np.float32(0))],
            volumes.shape,
            grid,
        )
        kept = share > 0.5
        values = total[kept] / share[kept]
    if values.size < 64:
        raise UnreadableVolume(
            f"{path} lies outside its session's grid ({values.size} voxels in it); check its affine"
        )
    sample = values if values.size <= SAMPLE // STRIDE else values[::STRIDE]
    values = values.clip(*np.percentile(sample.astype(np.float64), CLIP)).astype(np.float32)
    mean, deviation = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    if deviation <= 1e-6 * max(abs(mean), 1e-30):
        raise UnreadableVolume(
            f"{path} is constant inside the head (every voxel is {values[0]:g}); expected a scan"
        )
    out = np.full(volumes.shape, BACKGROUND, np.float16)
    out[kept] = (values - np.float32(mean)) / np.float32(deviation)
    held = (
        values.size
        * abs(np.linalg.det(grid[:3, :3]))
        / (np.count_nonzero(inside) * abs(np.linalg.det(scan.affine[:3, :3])))
    )
    return out, min(1.0, float(held))


def mask_to_grid(scan: Scan, volumes: Volumes, grid: np.ndarray) -> np.ndarray:
    """uint8 [D, H, W]: 1 where at least half of a voxel is inside."""
    (share,) = resample(scan, [scan.voxels], volumes.shape, grid)
    return (share >= 0.5 - 1e-6).astype(np.uint8)
