"""Is a mask in its scan's place, does it survive the grid, and is a scan rather a label map?"""

from pathlib import Path

import nibabel as nib
import numpy as np

from scaling.data.forms import is_usable, nifti_forms, scan_affine
from scaling.data.opening import open_image
from scaling.data.reading import WHOLE, Scan, scan_shape
from scaling.data.volume import mask_to_grid
from scaling.study.config import Volumes

SAME_GRID = 0.1  # voxels; corners of two grids that lie closer are the same
IN_PLACE = 0.95  # of a mask's voxels must lie in their place
IN_HEAD = 0.5  # of a mask's voxels must lie in the head; a lesion may reach beyond a stripped brain
MOST_MARKED = 0.5  # of the field of view; a mask that marks more may be inverted
SURVIVES = 0.5  # of a mask's volume must be left on the grid
DEFAULT_MM = 4.0  # spacing of the default grid
SAMPLED = 20_000  # voxels of a mask that are looked at
FLAT = 0.6  # of neighbours are equal in a label map at 2 mm (.76); in scans noise makes them differ
FEW_VALUES, SMALL_VALUES = 15, 60  # a scan of few flat tissues has other values than labels


def misplacement(path: Path, scan: Path) -> str:
    """How a mask lies wrong on its scan, in one sentence; "" where it lies right.

    Other axes, rounding, a crop or a finer grid are harmless: what counts is where voxels lie.
    Raises UnreadableVolume.
    """
    image, reference = open_image(path, whole=True), open_image(scan)
    affine, scan_to_world = scan_affine(path, image), scan_affine(scan, reference)
    shape, scan_size = scan_shape(path, image), scan_shape(scan, reference)
    if same_box(affine, shape, scan_to_world, scan_size):
        return ""
    stored = np.nan_to_num(np.asanyarray(image.dataobj).reshape(shape)) > 0.5
    voxels = np.argwhere(stored)
    if not len(voxels):
        return ""
    voxels = voxels[:: max(1, len(voxels) // SAMPLED)]
    on_scan = affine_applied(np.linalg.inv(scan_to_world) @ affine, voxels)
    inside = ((on_scan > -0.5) & (on_scan < np.array(scan_size) - 0.5)).all(1)
    if shape == scan_size:
        # Voxel for voxel, the mask would lie on the scan: how much of it does by its own affine?
        nearest = np.rint(on_scan[inside]).astype(int)
        in_place = stored[tuple(nearest.T)].sum() / len(voxels)
        if in_place < IN_PLACE:
            what = lost_affine(affine, shape, scan_to_world, scan)
            return (
                f"{path} has its scan's shape and {what}: {in_place:.0%} of it lies where the "
                f"scan's own affine would put it ({inside.mean():.0%} inside the scan)"
            )
        return ""
    if sorted(shape) == sorted(scan_size):
        return (
            f"{path} has its scan's shape with its axes in another order ({shape}, the scan "
            f"{scan_size}), and does not fill the same box: its axes or its affine are wrong"
        )
    if inside.mean() < IN_PLACE:
        return (
            f"{path} lies outside its scan: {inside.mean():.0%} of it is in the field of view of "
            f"{scan.name}"
        )
    return ""


def lost_affine(
    affine: np.ndarray, shape: tuple[int, ...], scan_to_world: np.ndarray, scan: Path
) -> str:
    """What has become of the affine of a mask that has its scan's shape."""
    if np.allclose(np.abs(affine), np.eye(4), atol=1e-3):
        return "no affine of its own (the identity)"
    image = open_image(scan)
    if isinstance(image, nib.Nifti1Pair):
        for name, form in zip(("sform", "qform"), nifti_forms(image), strict=True):
            if form is not None and is_usable(form) and same_box(affine, shape, form, shape):
                return f"the scan's {name}, while the scan is read by its other form"
    sizes, own = (np.linalg.norm(a[:3, :3], axis=0) for a in (scan_to_world, affine))
    if np.allclose(np.abs(affine[:3, :3]), np.diag(own), atol=1e-3) and np.allclose(
        sizes, own, rtol=1e-2
    ):
        return "its voxel size alone, another origin or other axes"
    return "another affine"


def same_box(
    one: np.ndarray, shape: tuple[int, ...], other: np.ndarray, other_shape: tuple[int, ...]
) -> bool:
    """Whether two grids fill one box with voxels of one size, whatever the order of their axes."""
    if sorted(shape) != sorted(other_shape):
        return False
    ends = []
    for affine, size in ((one, shape), (other, other_shape)):
        corners = np.stack(np.meshgrid(*[(0, n - 1) for n in size], indexing="ij")).reshape(3, 8).T
        ends.append(affine_applied(affine, corners))
    distance = np.linalg.norm(ends[0][:, None] - ends[1][None], axis=-1)
    smallest = np.linalg.norm(one[:3, :3], axis=0).min()
    return bool(distance.min(1).max() < SAME_GRID * smallest)


def affine_applied(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points [n, 3] moved by a matrix [4, 4]."""
    return points @ affine[:3, :3].T + affine[:3, 3]


def loss(path: Path, mask: Scan, on_grid: np.ndarray, grid: np.ndarray) -> str:
    """What a grid takes from a mask, in one sentence; "" where at least half of it is left."""
    before = np.count_nonzero(mask.voxels) * abs(np.linalg.det(mask.affine[:3, :3]))
    after = np.count_nonzero(on_grid) * abs(np.linalg.det(grid[:3, :3]))
    if before == 0 or after >= SURVIVES * before:
        return ""
    spacing = " x ".join(f"{size:.3g}" for size in np.linalg.norm(grid[:3, :3], axis=0))
    if after == 0:
        return (
            f"{path} vanishes on the grid of {spacing} mm: nothing of its {before:.0f} mm3 is left"
        )
    return f"{path} keeps {after / before:.0%} of its {before:.0f} mm3 on the grid of {spacing} mm"


def outside_head(path: Path, on_grid: np.ndarray, head: np.ndarray) -> str:
    """A sentence on a mask of which most lies outside of the head; both [D, H, W] on one grid."""
    marked = on_grid > 0
    if not marked.any():
        return ""
    share = float(head[marked].mean())
    if share >= IN_HEAD:
        return ""
    return f"{path} lies outside of the head: {share:.0%} of it is inside (misplaced, or inverted?)"


def oddly_full(path: Path, mask: Scan) -> str:
    """A sentence on a mask that marks nothing, or most of the field of view."""
    share = np.count_nonzero(mask.voxels) / mask.voxels.size
    if share == 0:
        return f"{path} marks nothing: every voxel is 0"
    if share > MOST_MARKED:
        return f"{path} marks {share:.0%} of its field of view: is it inverted?"
    return ""


def loss_on_default_grid(path: Path, mask: Scan) -> str:
    """What the default grid of 4 mm, around the mask, takes from it; "" for half of it or less."""
    marked = np.argwhere(mask.voxels)
    if not len(marked):
        return ""
    ends = affine_applied(mask.affine, np.stack([marked.min(0), marked.max(0)]))
    low, high = ends.min(0) - DEFAULT_MM, ends.max(0) + DEFAULT_MM
    shape = np.ceil((high - low) / DEFAULT_MM).astype(int) + 1
    if int(np.prod(shape)) > 2**24:
        return ""
    grid = np.diag([DEFAULT_MM] * 3 + [1.0])
    grid[:3, 3] = low
    volumes = Volumes(DEFAULT_MM, (int(shape[0]), int(shape[1]), int(shape[2])))
    return loss(path, mask, mask_to_grid(mask, volumes, grid), grid)


def flat_values(voxels: np.ndarray) -> np.ndarray:
    """The distinct values of a volume in flat regions; none of one whose neighbours differ."""
    middle = voxels[voxels.shape[0] // 4 : -(voxels.shape[0] // 4) or None]
    one, other = middle[..., 1:], middle[..., :-1]
    both = (one > WHOLE) & (other > WHOLE)
    if both.sum() < 64 or (np.abs(one - other) <= WHOLE)[both].mean() < FLAT:
        return np.zeros(0, voxels.dtype)
    return np.unique(voxels)


def are_labels(values: np.ndarray) -> bool:
    """Whether distinct values are those of a label map: whole numbers, many of them or small."""
    if not len(values) or not np.all(np.isfinite(values)):
        return False
    labels = np.unique(np.rint(values))  # a map that is scaled on disk is a little off
    if labels[0] < 0 or np.abs(values - np.rint(values)).max() > WHOLE:
        return False
    return bool(
        3 <= len(labels) <= 300 and (labels[-1] <= SMALL_VALUES or len(labels) > FEW_VALUES)
    )


def may_be_labels(values: np.ndarray) -> bool:
    """Whether flat values that are no labels for sure are as few: of a map, or of a phantom."""
    return 3 <= len(values) <= FEW_VALUES
