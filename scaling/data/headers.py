"""What a file's header, and the last bytes of its compression, say about a scan, without reading
its voxels.
"""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import SpatialImage

from scaling.data.forms import disagreement, is_usable, nifti_forms, scan_affine
from scaling.data.head import find_head
from scaling.data.masks import (
    are_labels,
    flat_values,
    loss_on_default_grid,
    misplacement,
    oddly_full,
)
from scaling.data.opening import GZIP, UnreadableVolume, open_image
from scaling.data.reading import read_mask, read_scan, scan_shape

SCANNER = (
    "Manufacturer",
    "ManufacturersModelName",
    "MagneticFieldStrength",
    "SliceThickness",
    "RepetitionTime",
    "EchoTime",
    "InversionTime",
    "FlipAngle",
)
MOST_VALUES = 50  # of a mask are written down
TEXTS = (
    "shape",
    "spacing",
    "orientation",
    "type",
    "affine",
    "content_hash",
    "unreadable",
    "remark",
    "values",
    *(name.lower() for name in SCANNER),
)


def describe_header(path: Path) -> dict[str, Any]:
    """Shape, spacing (mm), orientation, type, content hash, scanner fields of a BIDS sidecar, size
    and time of the file; `unreadable` if it cannot be used, `remark` if it can but should be looked
    at ("" if not).
    """
    out: dict[str, Any] = dict.fromkeys(TEXTS, "") | {"bytes": -1, "modified": -1}
    try:
        status = path.stat()
        out |= {"bytes": status.st_size, "modified": status.st_mtime_ns}
    except OSError:
        pass  # opening it says why, in one sentence
    try:
        image = open_image(path)
        shape, affine = scan_shape(path, image), scan_affine(path, image)
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        out |= {
            "shape": " x ".join(str(n) for n in shape),
            "spacing": " x ".join(f"{size:.3g}" for size in spacing),
            "orientation": "".join(str(code) for code in nib.orientations.aff2axcodes(affine)),
            "type": str(image.get_data_dtype()),
            "affine": " ".join(f"{value:.2f}" for value in affine[:3].ravel()),
            "remark": remark(path, image, spacing) or surplus(path, image, shape),
            "content_hash": stored_hash(path, image),
        }
    except UnreadableVolume as error:
        out["unreadable"] = str(error)
    return out | sidecar(path)


def describe_mask(path: Path, scan: Path) -> dict[str, Any]:
    """The same of a segmentation of `scan`, which is read altogether, and the values it holds.

    What is no mask cannot be used; one that is empty, lies wrong on its scan, or is too small for
    the default grid should be looked at.
    """
    out = describe_header(path)
    if out["unreadable"]:
        return out
    try:
        mask = read_mask(path)
    except UnreadableVolume as error:
        return out | {"unreadable": str(error)}
    out["values"] = " ".join(f"{value:g}" for value in np.unique(mask.voxels)[:MOST_VALUES])
    if odd := oddly_full(path, mask):
        return out | {"remark": odd}
    try:
        wrong = misplacement(path, scan)
    except UnreadableVolume:
        wrong = ""  # the scan's own row says what is wrong with it
    wrong = wrong or loss_on_default_grid(path, mask)
    return out | {"remark": wrong or out["remark"]}


def describe_content(path: Path) -> dict[str, str]:
    """What the voxels of a scan say: whether they are labels, and what background it has."""
    try:
        scan = read_scan(path)
        if are_labels(flat_values(scan.voxels)):
            return {"content": "labels"}
        return {"content": find_head(path, scan.voxels, scan.spacing).background}
    except UnreadableVolume as error:
        return {"content": "", "unreadable": str(error)}


def remark(path: Path, image: SpatialImage, spacing: np.ndarray) -> str:
    """What makes a readable header doubtful, in one sentence; "" if nothing does."""
    if not isinstance(image, nib.Nifti1Pair):
        if not isinstance(image, nib.AnalyzeImage):
            return ""
        return (
            f"{path} is in Analyze format, which does not know left from right; convert it from "
            "the original"
        )
    sform, qform = nifti_forms(image)
    if sform is None and qform is None:
        return f"{path} has neither sform nor qform: left and right, and its place, are a guess"
    if sform is not None and not is_usable(sform):
        return f"{path} has an sform that spans no volume; its qform is used"
    if qform is not None and not is_usable(qform):
        return "" if sform is not None else f"{path} has a qform that spans no volume"
    if sform is not None and qform is not None:
        one, other = ("".join(map(str, nib.aff2axcodes(form))) for form in (sform, qform))
        if one != other:
            forms = f"an sform of orientation {one} and a qform of {other}"
            return f"{path} has {forms}; the sform is used"
        apart = disagreement(image, scan_shape(path, image))
        if apart:
            return f"{path} has an sform and a qform that are {apart}; the sform is used"
    zooms = np.asarray(image.header.get_zooms()[:3], np.float64)
    if np.all(zooms > 0) and not np.allclose(zooms, spacing, rtol=0.05):
        by_pixdim = " x ".join(f"{size:.3g}" for size in zooms)
        by_affine = " x ".join(f"{size:.3g}" for size in spacing)
        return (
            f"{path} has voxels of {by_pixdim} mm by its pixdim and of {by_affine} mm by its "
            "affine, which is used"
        )
    return ""


def surplus(path: Path, image: SpatialImage, shape: tuple[int, int, int]) -> str:
    """A sentence on voxels behind those that the header announces, "" where there is less than a
    slice of them: its shape or its data type may be wrong.
    """
    expected = expected_bytes(image)
    try:
        with path.open("rb") as file:
            start = file.read(2)
            length = file.seek(0, 2)
            if start == GZIP and length > 18:
                file.seek(-4, 2)
                (length,) = struct.unpack("<I", file.read(4))
    except OSError:
        return ""  # `stored_hash` says why
    slice_bytes = shape[0] * shape[1] * image.get_data_dtype().itemsize
    behind = length - expected
    if expected == 0 or behind < slice_bytes:
        return ""
    return (
        f"{path} holds {behind:,} bytes behind the voxels that its header announces ({shape} of "
        f"{image.get_data_dtype()}), which are not read; compare its shape and data type"
    )


def sidecar(path: Path) -> dict[str, str]:
    """Scanner fields of the JSON file beside a BIDS scan, by their names in lower case."""
    file = path.with_name(path.name.split(".")[0] + ".json")
    if not path.name.startswith("sub-") or not file.is_file():
        return {}
    try:
        fields = json.loads(file.read_text(errors="replace"))
    except json.JSONDecodeError:
        return {"remark": f"{file} is no JSON; its scanner fields are unknown"}
    return {
        name.lower(): str(fields[name])
        for name in SCANNER
        if isinstance(fields, dict) and name in fields
    }


def stored_hash(path: Path, image: SpatialImage) -> str:
    """Checksum of the uncompressed file: from gzip's trailer where it fits the header, else by
    reading all of it.

    Two files with one checksum need not be one scan: `check` compares their voxels. Raises
    UnreadableVolume when the file is truncated.
    """
    try:
        with path.open("rb") as file:
            start = file.read(2)
            file.seek(0, 2)
            size = file.tell()
            if start == GZIP and size > 18:
                file.seek(-8, 2)
                checksum, length = struct.unpack("<II", file.read(8))
                if length == expected_bytes(image) % 2**32:
                    return f"{checksum:08x}-{length}"
        if start == GZIP or size < expected_bytes(image):
            # Says what is wrong, if something is: files of several gzip members, and padded ones,
            # are fine.
            return read_scan(path).content_hash()
        checksum = 0
        with path.open("rb") as file:
            while block := file.read(2**20):
                checksum = zlib.crc32(block, checksum)
    except OSError as error:
        raise UnreadableVolume(f"{path} cannot be read ({error.strerror})") from error
    return f"{checksum:08x}-{size}"


def expected_bytes(image: SpatialImage) -> int:
    """Size of the uncompressed file, as far as the header tells (0 if it does not)."""
    if not isinstance(image, nib.Nifti1Image):
        return 0  # two files, or no NIfTI
    offset = int(image.dataobj.offset) if hasattr(image.dataobj, "offset") else 352
    return offset + int(np.prod(image.shape)) * image.get_data_dtype().itemsize
