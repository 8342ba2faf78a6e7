"""Any file nibabel reads -> one float32 volume in canonical (RAS) axis order, or one sentence
saying why not.
"""

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
from isal import isal_zlib
from nibabel.spatialimages import SpatialImage
from nibabel.tripwire import TripWireError

logging.getLogger("nibabel.global").setLevel(logging.ERROR)  # it narrates every header it mends
EXTENSIONS = (
    ".nii.gz",
    ".nii",
    ".nii.bz2",
    ".mgz",
    ".mgh",
    ".mnc",
    ".img",
    ".img.gz",
    ".head",
    ".par",
)  # in any case
GZIP = b"\x1f\x8b"
FEWEST_SLICES = 4
# What nibabel, zlib and numpy raise on files that are not what they claim to be.
BROKEN = (
    nib.filebasedimages.ImageFileError,
    nib.spatialimages.HeaderDataError,
    nib.wrapstruct.WrapStructError,
    nib.brikhead.AFNIHeaderError,
    nib.minc1.MincError,
    nib.freesurfer.mghformat.MGHError,
    nib.parrec.PARRECError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    OSError,
    OverflowError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
    cast(type[Exception], isal_zlib.error),
    TripWireError,  # a format that needs a package which is not installed
)
VOXEL_MM = (0.05, 50.0)  # outside of it a voxel size is in other units, or wrong


class UnreadableVolume(ValueError):  # noqa: N818 (it names what the file is)
    """A file that holds no usable 3D scan; the message says why, in one sentence."""


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


def open_image(path: Path, whole: bool = False) -> SpatialImage:
    """Open a file by what it holds, whatever its extension claims; `whole` reads a compressed NIfTI
    at once, which is several times faster than nibabel's stream. Raises UnreadableVolume.
    """
    try:
        with path.open("rb") as file:
            start = file.read(2)
        if not start:
            raise UnreadableVolume(f"{path} is empty (0 bytes); copy or convert it again")
        name = path.name.lower()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if name.endswith((".nii", ".nii.gz")) and (
                (start == GZIP) != name.endswith(".gz") or (whole and start == GZIP)
            ):
                content = path.read_bytes()
                content = gunzip(content) if start == GZIP else content
                kind = nib.Nifti2Image if content[4:7] == b"n+2" else nib.Nifti1Image
                return kind.from_bytes(content)
            return cast(SpatialImage, nib.load(path))
    except UnreadableVolume:
        raise
    except BROKEN as error:
        raise unreadable(path, error) from error


def gunzip(content: bytes) -> bytes:
    """Decompress all members of a gzip file; zeros behind them are padding.

    Raises isal_zlib.error or EOFError.
    """
    members = []
    while content:
        member = isal_zlib.decompressobj(31)
        members.append(member.decompress(content))
        if not member.eof:
            raise EOFError("compressed file ended before the end-of-stream marker was reached")
        content = member.unused_data.lstrip(b"\0")
    return members[0] if len(members) == 1 else b"".join(members)


def unreadable(path: Path, error: Exception) -> UnreadableVolume:
    """The one sentence for a file that nibabel or zlib gave up on."""
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        return UnreadableVolume(
            f"{path} is a link to {path.readlink()}, which does not exist (not downloaded yet?)"
        )
    if isinstance(error, FileNotFoundError):
        return UnreadableVolume(
            f"{path} does not "
            f"exist{'' if not path.exists() else f' as a whole: {error.filename} is missing'}"
        )
    if isinstance(error, PermissionError):
        return UnreadableVolume(f"{path} may not be read (permission denied)")
    if isinstance(error, TripWireError):
        return UnreadableVolume(
            f"{path} cannot be read here ({str(error).splitlines()[0]}); install the package or "
            "convert it to NIfTI"
        )
    return UnreadableVolume(
        f"{path} is corrupt or truncated "
        f"({str(error).splitlines()[0] if str(error) else type(error).__name__})"
    )


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


def scan_affine(path: Path, image: SpatialImage) -> np.ndarray:
    """Voxel-to-world matrix, the first usable of nibabel's choice, sform and qform.

    Raises UnreadableVolume.
    """
    candidates = [image.affine]
    if isinstance(image, nib.Nifti1Image):
        candidates += [
            image.get_sform(),
            image.header.get_qform() if image.header["qform_code"] > 0 else None,
        ]
    for affine in candidates:
        if affine is not None and np.all(np.isfinite(affine)):
            affine = np.asarray(affine, np.float64)
            axes = np.linalg.norm(affine[:3, :3], axis=0)
            if axes.min() > 0 and abs(np.linalg.det(affine[:3, :3] / axes)) > 0.1:
                affine = in_mm(affine, image)
                axes = np.linalg.norm(affine[:3, :3], axis=0)
                if axes.min() > VOXEL_MM[0] and axes.max() < VOXEL_MM[1]:
                    return affine
    raise UnreadableVolume(
        f"{path} has no usable voxel size or orientation (pixdim "
        f"{tuple(float(size) for size in image.header.get_zooms()[:3])} and its "
        f"affine; expected {VOXEL_MM[0]:g} to {VOXEL_MM[1]:g} mm); convert it again"
    )


def in_mm(affine: np.ndarray, image: SpatialImage) -> np.ndarray:
    """The affine in mm. NIfTI may say metres or micrometres; that is believed only where mm would
    be impossible, as many tools write mm and another unit.
    """
    unit = image.header.get_xyzt_units()[0] if isinstance(image, nib.Nifti1Image) else "mm"
    size = np.linalg.norm(affine[:3, :3], axis=0).max()
    factor = (
        1000.0
        if unit == "meter" and size < VOXEL_MM[0]
        else 0.001
        if unit == "micron" and size > VOXEL_MM[1]
        else 1.0
    )
    return np.diag([factor, factor, factor, 1.0]) @ affine


def read_scan(path: Path) -> Scan:
    """Read a file into RAS order, stored scaling applied, magnitude of complex values.

    Raises UnreadableVolume.
    """
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
    """Read a {0, 1} mask, however scaled on disk, as float32 0 and 1.

    Raises UnreadableVolume if it is none.
    """
    scan = read_scan(path)
    largest = float(np.nanmax(scan.voxels, initial=0.0))
    if 1e-3 < largest < 0.5 or float(np.nanmin(scan.voxels, initial=0.0)) < -0.5:
        raise UnreadableVolume(
            f"{path} is no mask: its largest value is {largest:g}; expected 0 outside and 1 inside"
        )
    return Scan((scan.voxels > 0.5).astype(np.float32), scan.affine)
