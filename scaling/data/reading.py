"""Any file nibabel reads -> one float32 volume in RAS axis order, or one sentence saying why
not.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.spatialimages import SpatialImage

from scaling.data.forms import scan_affine
from scaling.data.opening import BROKEN, EXTENSIONS, UnreadableVolume, open_image, unreadable

__all__ = [
    "EXTENSIONS",
    "Scan",
    "UnreadableVolume",
    "open_image",
    "read_mask",
    "read_scan",
    "scan_affine",
]
FEWEST_SLICES = 4
LARGE = 20 * 2**20  # bytes of a file, above which its header is judged before the file is read
WHOLE = 1e-3  # a mask's values lie no further from a whole number
LARGEST = 255  # label of a mask: they are stored as bytes


@dataclass(frozen=True)
class Scan:
    """One volume in RAS order: float32 `voxels` [D, H, W], NaN where there is no number; `affine`
    to world mm.
    """

    voxels: np.ndarray
    affine: np.ndarray

    @property
    def spacing(self) -> np.ndarray:
        """Voxel size along the three axes, mm."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    def content_hash(self) -> str:
        """Hash of the voxels themselves: the same for one scan stored in any orientation, data type
        or compression.
        """
        digest = hashlib.sha1(repr(self.voxels.shape).encode(), usedforsecurity=False)
        digest.update(np.ascontiguousarray(self.voxels).view(np.uint8).data)
        return digest.hexdigest()[:32]


def scan_shape(path: Path, image: SpatialImage) -> tuple[int, int, int]:
    """The 3D shape, without axes of length one behind it.

    Raises UnreadableVolume if the file is no single volume.
    """
    if image.get_data_dtype().names:
        raise UnreadableVolume(
            f"{path} holds colours ({image.get_data_dtype()}); expected one number per voxel"
        )
    shape = tuple(image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        what = f"{np.prod(shape[3:])} volumes" if len(shape) > 3 else f"{len(shape)} dimensions"
        raise UnreadableVolume(
            f"{path} has shape {shape}, {what}; expected one 3D volume (split it into files first)"
        )
    if min(shape) < FEWEST_SLICES:
        raise UnreadableVolume(
            f"{path} has shape {shape}; expected at least {FEWEST_SLICES} slices along every axis"
        )
    return shape


def size_of(path: Path) -> int:
    """Bytes of a file, 0 where it cannot be asked: opening it says why."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def read_scan(path: Path) -> Scan:
    """Read a file into RAS order, stored scaling applied, magnitude of complex values.

    Raises UnreadableVolume.
    """
    if size_of(path) > LARGE:
        scan_shape(path, open_image(path))  # what is no single volume is not read at all
    image = open_image(path, whole=True)
    shape, affine = scan_shape(path, image), scan_affine(path, image)
    try:
        stored = np.asanyarray(image.dataobj).reshape(shape)
    except BROKEN as error:
        raise unreadable(path, error) from error
    orientation = nib.orientations.io_orientation(affine)
    affine = affine @ nib.orientations.inv_ornt_aff(orientation, shape)
    with np.errstate(over="ignore", invalid="ignore"):
        stored = np.abs(stored) if np.iscomplexobj(stored) else stored
        voxels = np.ascontiguousarray(
            nib.orientations.apply_orientation(stored, orientation), np.float32
        )
    if stored.dtype.kind == "f":
        voxels = np.where(np.isfinite(voxels), voxels, np.float32(np.nan))
    # Rounded, so that one brain stored in any of the 48 orientations gives the same bits.
    return Scan(voxels, np.round(affine, 4) + 0.0)


def read_mask(path: Path) -> Scan:
    """Read a mask as float32 labels: whole numbers from 0 to 255, 0 outside.

    Values within 1e-3 of a whole number are that number (a mask scaled on disk), NaN is 0, and a
    mask of 0 and 255 alone is one of 0 and 1. Raises UnreadableVolume, naming the values, for
    anything else: a mask is never thresholded.
    """
    scan = read_scan(path)
    voxels = np.where(np.isnan(scan.voxels), np.float32(0), scan.voxels)
    labels = np.rint(voxels)
    fits = (np.abs(voxels - labels) <= WHOLE) & (labels >= 0) & (labels <= LARGEST)
    if not fits.all():
        odd = np.unique(voxels[~fits])
        values = ", ".join(f"{value:g}" for value in odd[:5])
        raise UnreadableVolume(
            f"{path} is no mask: {np.count_nonzero(~fits)} of its voxels hold {values}"
            f"{' ...' if len(odd) > 5 else ''}; expected whole numbers from 0 to {LARGEST}, 0 "
            "outside"
        )
    if labels.max() == LARGEST and np.isin(labels, (0, LARGEST)).all():
        labels = labels / LARGEST
    return Scan(labels.astype(np.float32) + 0.0, scan.affine)
