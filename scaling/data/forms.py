"""Where the voxels of a file lie in the world: NIfTI's sform and qform, and what to make of
them.
"""

from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.spatialimages import SpatialImage

from scaling.data.opening import UnreadableVolume

VOXEL_MM = (0.05, 50.0)  # outside of it a voxel size is in other units, or wrong
FARTHEST = 1e5  # mm from the world's origin: no scanner is that large
FLAT = 0.1  # determinant of the axes' directions below which they span no volume


def scan_affine(path: Path, image: SpatialImage) -> np.ndarray:
    """Voxel-to-world matrix [4, 4] in mm. Raises UnreadableVolume without a usable one.

    Of a NIfTI file the coded sform, the coded qform, or else what its voxel size says.
    """
    for affine in candidates(image):
        if affine is None or not is_usable(affine):
            continue
        affine = in_mm(np.asarray(affine, np.float64), image)
        axes = np.linalg.norm(affine[:3, :3], axis=0)
        is_near = np.abs(affine[:3, 3]).max() < FARTHEST
        if axes.min() > VOXEL_MM[0] and axes.max() < VOXEL_MM[1] and is_near:
            return affine
    raise UnreadableVolume(
        f"{path} has no usable voxel size or orientation (pixdim "
        f"{tuple(float(size) for size in image.header.get_zooms()[:3])} and its affine; expected "
        f"{VOXEL_MM[0]:g} to {VOXEL_MM[1]:g} mm near the origin); convert it again"
    )


def candidates(image: SpatialImage) -> list[np.ndarray | None]:
    """Affines of an image, the first choice first."""
    if not isinstance(image, nib.Nifti1Pair):
        return [image.affine]
    sform, qform = nifti_forms(image)
    if sform is None and qform is None:
        return [image.header.get_base_affine()]
    return [sform, qform]


def nifti_forms(image: nib.Nifti1Pair) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The coded sform and qform as the header has them, in its units; None for one without a
    code.
    """
    header = image.header
    sform = header.get_sform() if header["sform_code"] > 0 else None
    qform = qform_matrix(header) if header["qform_code"] > 0 else None
    return sform, qform


def qform_matrix(header: nib.Nifti1Header) -> np.ndarray:
    """The qform; a quaternion longer than 1 by rounding is brought to length 1.

    As NIfTI's reference code does (nifti_quatern_to_mat44). NaN where the quaternion is far from
    one, or there is no voxel size.
    """
    vector = np.array([header[f"quatern_{name}"] for name in "bcd"], np.float64)
    length = float(vector @ vector)
    sizes = np.abs(header["pixdim"][1:4].astype(np.float64))
    if not (np.isfinite(length) and length < 1.01 and np.all(sizes > 0)):
        return np.full((4, 4), np.nan)
    if length <= 1.0:
        return header.get_qform()
    matrix = np.eye(4)
    turn = nib.quaternions.quat2mat([0.0, *(vector / np.sqrt(length))])
    flip = -1.0 if header["pixdim"][0] < 0 else 1.0
    matrix[:3, :3] = turn * (sizes * [1.0, 1.0, flip])
    matrix[:3, 3] = [header[f"qoffset_{name}"] for name in "xyz"]
    return matrix


def mended_header(image: nib.Nifti1Pair) -> nib.Nifti1Header:
    """A copy of the header whose forms are usable: others lose their code, a rounded quaternion is
    brought to length 1.
    """
    header = image.header.copy()
    sform, qform = nifti_forms(image)
    if sform is not None and not is_usable(sform):
        header["sform_code"] = 0
    if qform is not None and not is_usable(qform):
        header["qform_code"] = 0
    elif qform is not None:
        vector = np.array([header[f"quatern_{name}"] for name in "bcd"], np.float64)
        length = float(np.linalg.norm(vector))
        if length > 1.0:
            # A little shorter than 1: rounded to float32 it must not be longer again.
            for name, value in zip("bcd", vector / length * (1 - 1e-7), strict=True):
                header[f"quatern_{name}"] = value
    return header


def is_usable(affine: np.ndarray) -> bool:
    """Whether a matrix is finite and its axes span a volume."""
    if not np.all(np.isfinite(affine)):
        return False
    axes = np.linalg.norm(affine[:3, :3], axis=0)
    return bool(axes.min() > 0 and abs(np.linalg.det(affine[:3, :3] / axes)) > FLAT)


def in_mm(affine: np.ndarray, image: SpatialImage) -> np.ndarray:
    """The affine in mm.

    NIfTI may say metres or micrometres; that is believed only where mm would be impossible, as many
    tools write mm and another unit.
    """
    # The lower three bits are the unit of space; those of rubbish are no unit at all.
    code = int(image.header["xyzt_units"]) % 8 if isinstance(image, nib.Nifti1Pair) else 2
    unit = {1: "meter", 3: "micron"}.get(code, "mm")
    size = np.linalg.norm(affine[:3, :3], axis=0).max()
    factor = 1.0
    if unit == "meter" and size < VOXEL_MM[0]:
        factor = 1000.0
    elif unit == "micron" and size > VOXEL_MM[1]:
        factor = 0.001
    return np.diag([factor, factor, factor, 1.0]) @ affine


def disagreement(image: nib.Nifti1Pair, shape: tuple[int, int, int]) -> str:
    """How far sform and qform lie apart, as "12 degrees and 18 mm"; "" where they agree.

    They agree when no voxel moves by more than a voxel's smallest side, nor an axis by a degree.
    """
    sform, qform = nifti_forms(image)
    if sform is None or qform is None or not (is_usable(sform) and is_usable(qform)):
        return ""
    one, other = in_mm(sform, image), in_mm(qform, image)
    middle = np.array([*[(size - 1) / 2 for size in shape], 1.0])
    shift = float(np.linalg.norm((one @ middle - other @ middle)[:3]))
    directions = [form[:3, :3] / np.linalg.norm(form[:3, :3], axis=0) for form in (one, other)]
    cosines = np.clip((directions[0] * directions[1]).sum(0), -1, 1)
    degrees = float(np.degrees(np.arccos(cosines)).max())
    smallest = float(np.linalg.norm(one[:3, :3], axis=0).min())
    if shift <= max(1.0, smallest) and degrees <= 1.0:
        return ""
    parts = [f"turned by {degrees:.0f} degrees"] if degrees > 1.0 else []
    parts += [f"{shift:.0f} mm apart"] if shift > max(1.0, smallest) else []
    return " and ".join(parts)
