"""One scan -> one float16 array [D, H, W] on the study's grid: RAS, isotropic, the head centred, intensities
normalised.
"""

from pathlib import Path

import numpy as np
from scipy import ndimage

from scaling.data.reading import Scan, UnreadableVolume, read_mask, read_scan
from scaling.data.resample import FWHM, apply_weights, axis_weights
from scaling.study.config import Volumes

BACKGROUND = -2.5  # in standard deviations of the foreground: as dark as the darkest tissue of most contrasts
CLIP = (0.5, 99.5)  # percentiles of the foreground
HEAD_HEIGHT = 170.0  # mm; what is further below the vertex is neck (as in FSL's robustfov)

Centre = tuple[float, float, float]


def read_volume(path: Path, volumes: Volumes, mask: bool = False, like: Centre | None = None) -> np.ndarray:
    """float16 [D, H, W] of a scan, or uint8 {0, 1} of a mask, around the world point `like` (default: its own centre).

    All files of a session are read with the `head_centre` of one of its scans. Raises UnreadableVolume.
    """
    if mask:
        if like is None:
            raise ValueError(f"{path} is a mask and needs the centre of its scan (like=head_centre(scan, volumes))")
        return mask_to_grid(read_mask(path), volumes, like)
    scan = read_scan(path)
    return scan_to_grid(path, scan, volumes, head_centre(path, scan, volumes) if like is None else like)


def grid_affine(volumes: Volumes, centre: Centre) -> np.ndarray:
    """Voxel-to-world matrix of the study's grid around a centre."""
    affine = np.diag([volumes.spacing_mm] * 3 + [1.0])
    affine[:3, 3] = np.asarray(centre) - (np.asarray(volumes.shape) - 1) / 2 * volumes.spacing_mm
    return affine


def foreground(path: Path, voxels: np.ndarray) -> np.ndarray:
    """bool [D, H, W]: head or brain. Differs from a constant background, else lies above Otsu's threshold."""
    finite = np.isfinite(voxels)
    if finite.mean() < 0.01:
        raise UnreadableVolume(f"{path} has no finite voxels to speak of ({finite.mean():.1%}); expected a scan")
    low, high = np.percentile(voxels[finite], (0.0, 99.9))
    if high - low <= 1e-6 * max(abs(high), abs(low)):
        low, high = float(voxels[finite].min()), float(voxels[finite].max())
    if high == low:
        raise UnreadableVolume(f"{path} is constant (every voxel is {low:g}); expected a scan")
    faces = [np.take(voxels, [0, -1], axis).ravel() for axis in range(3)]
    border = np.nan_to_num(np.concatenate(faces), nan=np.nan)
    values, counts = np.unique(border[np.isfinite(border)], return_counts=True)
    if np.isnan(border).mean() > 0.5:
        inside = finite
    elif counts.max() > 0.5 * border.size:
        inside = finite & (np.abs(voxels - values[counts.argmax()]) > 1e-4 * (high - low))
    else:
        inside = finite & (voxels > otsu(voxels[finite], low, high))
    if inside.mean() < 1e-3:
        raise UnreadableVolume(f"{path} is empty ({inside.sum()} voxels differ from the background); expected a scan")
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


def head_centre(path: Path, scan: Scan, volumes: Volumes) -> Centre:
    """World point (mm) in the middle of the foreground's box, specks and neck left out. Raises UnreadableVolume."""
    inside = foreground(path, scan.voxels)
    low, high = np.zeros(3), np.zeros(3)
    for axis in range(3):
        along = np.cumsum(inside.sum(tuple({0, 1, 2} - {axis})))
        low[axis], high[axis] = np.searchsorted(along, (0.0005 * along[-1], 0.9995 * along[-1]))
    low[2] = max(low[2], high[2] - HEAD_HEIGHT / scan.spacing[2])
    middle = (low + high) / 2
    if on_grid(scan, volumes):
        # No resampling: the grid's voxels are the scan's own.
        middle = np.round(middle) + (np.asarray(volumes.shape) + 1) % 2 / 2
    x, y, z = np.round(scan.affine[:3, :3] @ middle + scan.affine[:3, 3], 4)
    return float(x), float(y), float(z)


def on_grid(scan: Scan, volumes: Volumes) -> bool:
    """Whether the scan's voxels have the study's size and axes already."""
    return bool(np.abs(scan.affine[:3, :3] - np.eye(3) * volumes.spacing_mm).max() < 1e-3 * volumes.spacing_mm)


def resample(scan: Scan, images: list[np.ndarray], volumes: Volumes, centre: Centre) -> list[np.ndarray]:
    """Bring float32 images [D, H, W] on the scan's voxels to the grid, zero outside: Gaussian, then linear
    interpolation.

    Where the grid is coarser than the scan, a Gaussian widens the scan's voxel to the grid's (full width at half
    maximum).
    """
    to_scan = np.linalg.inv(scan.affine) @ grid_affine(volumes, centre)
    ratio = volumes.spacing_mm / scan.spacing
    sigma = np.where(ratio > 1.01, np.sqrt(np.maximum(ratio**2 - 1, 0)) / FWHM, 0.0)
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in volumes.shape], indexing="ij")).reshape(3, 8)
    reached = to_scan[:3, :3] @ corners + to_scan[:3, 3:]
    margin = np.ceil(4 * sigma) + 2
    first = np.clip(np.floor(reached.min(1) - margin), 0, scan.voxels.shape).astype(int)
    last = np.clip(np.ceil(reached.max(1) + margin) + 1, 0, scan.voxels.shape).astype(int)
    part = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
    offset = to_scan[:3, 3] - first
    if on_grid(scan, volumes) and np.abs(offset - np.round(offset)).max() < 0.01:
        return [_shifted(image[part], np.round(offset).astype(int), volumes.shape) for image in images]
    matrix = to_scan[:3, :3]
    if np.abs(matrix - np.diag(np.diag(matrix))).max() < 1e-4:
        first_axis, second_axis, third_axis = (
            axis_weights(part[i].stop - part[i].start, offset[i], matrix[i, i], volumes.shape[i], sigma[i]) for i in range(3)
        )
        return [apply_weights(image[part], (first_axis, second_axis, third_axis)) for image in images]
    smooth = [ndimage.gaussian_filter(image[part], sigma, mode="constant") for image in images]
    return [ndimage.affine_transform(image, matrix, offset, volumes.shape, order=1, mode="grid-constant") for image in smooth]


def _shifted(image: np.ndarray, offset: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Copy `image` into zeros of `shape`, whose voxel 0 is the image's voxel `offset`."""
    out = np.zeros(shape, np.float32)
    begin = np.maximum(offset, 0)
    end = np.minimum(offset + shape, image.shape)
    if (end > begin).all():
        source = tuple(slice(a, b) for a, b in zip(begin, end, strict=True))
        target = tuple(slice(a, b) for a, b in zip(begin - offset, end - offset, strict=True))
        out[target] = image[source]
    return out


def scan_to_grid(path: Path, scan: Scan, volumes: Volumes, centre: Centre) -> np.ndarray:
    """float16 [D, H, W]: zero mean and unit variance in the foreground after clipping, BACKGROUND elsewhere.

    Voxels are averaged over the foreground alone (normalised convolution), so that edges keep their contrast.
    """
    inside = foreground(path, scan.voxels)
    share, total = resample(scan, [inside.astype(np.float32), np.where(inside, scan.voxels, np.float32(0))], volumes, centre)
    kept = share > 0.5
    if kept.sum() < 64:
        raise UnreadableVolume(f"{path} lies outside its session's grid ({kept.sum()} voxels in it); check its affine")
    values = (total[kept] / share[kept]).astype(np.float64)
    values = values.clip(*np.percentile(values, CLIP))
    if values.std() <= 1e-6 * max(abs(values.mean()), 1e-30):
        raise UnreadableVolume(f"{path} is constant inside the head (every voxel is {values[0]:g}); expected a scan")
    out = np.full(volumes.shape, BACKGROUND, np.float16)
    out[kept] = (values - values.mean()) / values.std()
    return out


def mask_to_grid(scan: Scan, volumes: Volumes, centre: Centre) -> np.ndarray:
    """uint8 [D, H, W]: 1 where at least half of a voxel is inside."""
    (share,) = resample(scan, [scan.voxels], volumes, centre)
    return (share >= 0.5 - 1e-6).astype(np.uint8)
