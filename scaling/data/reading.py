"""Any file nibabel reads -> one float32 volume in canonical (RAS) axis order, or one sentence saying why not."""

import gzip
import hashlib
import logging
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
from nibabel.spatialimages import SpatialImage

logging.getLogger("nibabel.global").setLevel(logging.ERROR)  # it narrates every header it mends
EXTENSIONS = (".nii.gz", ".nii", ".mgz", ".mgh", ".mnc")
GZIP = b"\x1f\x8b"
FEWEST_SLICES = 4
# What nibabel, zlib and numpy raise on files that are not what they claim to be.
BROKEN = (
    nib.filebasedimages.ImageFileError,
    nib.spatialimages.HeaderDataError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    OSError,
    OverflowError,
    ValueError,
    struct.error,
    zlib.error,
)


class UnreadableVolume(ValueError):  # noqa: N818 (it names what the file is)
    """A file that holds no usable 3D scan; the message says why, in one sentence."""


@dataclass(frozen=True)
class Scan:
    """One volume in RAS order: float32 `voxels` [D, H, W], NaN where there is no number; `affine` to world mm."""

    voxels: np.ndarray
    affine: np.ndarray

    @property
    def spacing(self) -> np.ndarray:
        """Voxel size along the three axes, mm."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    def content_hash(self) -> str:
        """Hash of the voxels themselves: the same for one scan stored in any orientation, data type or compression."""
        digest = hashlib.blake2b(repr(self.voxels.shape).encode(), digest_size=16)
        digest.update(np.ascontiguousarray(self.voxels).view(np.uint8).data)
        return digest.hexdigest()


def open_image(path: Path) -> SpatialImage:
    """Open a file by what it holds, whatever its extension claims. Raises UnreadableVolume."""
    try:
        with path.open("rb") as file:
            start = file.read(2)
        if not start:
            raise UnreadableVolume(f"{path} is empty (0 bytes); copy or convert it again")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if path.name.endswith((".nii", ".nii.gz")) and (start == GZIP) != path.name.endswith(".gz"):
                content = path.read_bytes()
                content = gzip.decompress(content) if start == GZIP else content
                kind = nib.Nifti2Image if content[4:7] == b"n+2" else nib.Nifti1Image
                return kind.from_bytes(content)
            return cast(SpatialImage, nib.load(path))
    except UnreadableVolume:
        raise
    except BROKEN as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> UnreadableVolume:
    """The one sentence for a file that nibabel or zlib gave up on."""
    if isinstance(error, FileNotFoundError):
        return UnreadableVolume(f"{path} does not exist")
    return UnreadableVolume(f"{path} is corrupt or truncated ({str(error).splitlines()[0] if str(error) else type(error).__name__})")


def scan_shape(path: Path, image: SpatialImage) -> tuple[int, int, int]:
    """The 3D shape, without axes of length one behind it. Raises UnreadableVolume if the file is no single volume."""
    if image.get_data_dtype().names:
        raise UnreadableVolume(f"{path} holds colours ({image.get_data_dtype()}); expected one number per voxel")
    shape = tuple(image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        what = f"{np.prod(shape[3:])} volumes" if len(shape) > 3 else f"{len(shape)} dimensions"
        raise UnreadableVolume(f"{path} has shape {shape}, {what}; expected one 3D volume (split it into files first)")
    if min(shape) < FEWEST_SLICES:
        raise UnreadableVolume(f"{path} has shape {shape}; expected at least {FEWEST_SLICES} slices along every axis")
    return shape


def scan_affine(path: Path, image: SpatialImage) -> np.ndarray:
    """Voxel-to-world matrix, the first usable of nibabel's choice, sform and qform. Raises UnreadableVolume."""
    candidates = [image.affine]
    if isinstance(image, nib.Nifti1Image):
        candidates += [image.get_sform(), image.header.get_qform() if image.header["qform_code"] > 0 else None]
    for affine in candidates:
        if affine is not None and np.all(np.isfinite(affine)):
            axes = np.linalg.norm(affine[:3, :3], axis=0)
            if axes.min() > 1e-3 and abs(np.linalg.det(affine[:3, :3] / axes)) > 0.1:
                return np.asarray(affine, np.float64)
    raise UnreadableVolume(f"{path} has no usable voxel size or orientation (pixdim {image.header.get_zooms()[:3]}, no sform or qform)")


def read_scan(path: Path) -> Scan:
    """Read a file into RAS order, stored scaling applied, magnitude of complex values. Raises UnreadableVolume."""
    image = open_image(path)
    shape, affine = scan_shape(path, image), scan_affine(path, image)
    try:
        stored = np.asanyarray(image.dataobj).reshape(shape)
    except BROKEN as error:
        raise unreadable(path, error) from error
    with np.errstate(over="ignore", invalid="ignore"):
        voxels = np.abs(stored) if np.iscomplexobj(stored) else stored
        voxels = voxels.astype(np.float32)
    voxels[~np.isfinite(voxels)] = np.nan
    orientation = nib.orientations.io_orientation(affine)
    affine = affine @ nib.orientations.inv_ornt_aff(orientation, shape)
    # Rounded, so that one brain stored in any of the 48 orientations gives the same bits.
    return Scan(np.ascontiguousarray(nib.orientations.apply_orientation(voxels, orientation)), np.round(affine, 4) + 0.0)


def read_mask(path: Path) -> Scan:
    """Read a {0, 1} mask, however scaled on disk, as float32 0 and 1. Raises UnreadableVolume if it is none."""
    scan = read_scan(path)
    largest = float(np.nanmax(scan.voxels, initial=0.0))
    if 1e-3 < largest < 0.5 or float(np.nanmin(scan.voxels, initial=0.0)) < -0.5:
        raise UnreadableVolume(f"{path} is no mask: its largest value is {largest:g}; expected 0 outside and 1 inside")
    return Scan((scan.voxels > 0.5).astype(np.float32), scan.affine)
