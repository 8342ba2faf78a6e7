"""What a file's header, and the last bytes of its compression, say about a scan, without reading its voxels."""

import struct
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import SpatialImage

from scaling.data.reading import GZIP, UnreadableVolume, open_image, read_scan, scan_affine, scan_shape


def describe_header(path: Path) -> dict[str, Any]:
    """Shape, spacing (mm), orientation, type, content hash, and `reason` if the file cannot be used ("" if it can)."""
    out: dict[str, Any] = {
        "shape": "",
        "spacing": "",
        "orientation": "",
        "type": "",
        "affine": "",
        "content_hash": "",
        "reason": "",
    }
    try:
        image = open_image(path)
        shape, affine = scan_shape(path, image), scan_affine(path, image)
        out |= {
            "shape": " x ".join(str(n) for n in shape),
            "spacing": " x ".join(f"{size:.3g}" for size in np.linalg.norm(affine[:3, :3], axis=0)),
            "orientation": "".join(str(code) for code in nib.orientations.aff2axcodes(affine)),
            "type": str(image.get_data_dtype()),
            "affine": " ".join(f"{value:.2f}" for value in affine[:3].ravel()),
            "content_hash": stored_hash(path, image),
        }
    except UnreadableVolume as error:
        out["reason"] = str(error)
    return out


def stored_hash(path: Path, image: SpatialImage) -> str:
    """Checksum of the uncompressed file: from gzip's trailer where it fits the header, else by reading all of it.

    Raises UnreadableVolume when the file is truncated.
    """
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
        read_scan(path)  # says what is wrong, if something is (several gzip members are fine)
    checksum = 0
    with nib.openers.Opener(str(path)) if start == GZIP else path.open("rb") as file:
        while block := file.read(2**20):
            checksum = zlib.crc32(block, checksum)
    return f"{checksum:08x}-{size}"


def expected_bytes(image: SpatialImage) -> int:
    """Size of the uncompressed file, as far as the header tells (0 if it does not)."""
    if not isinstance(image, nib.Nifti1Image):
        return 0
    offset = int(image.dataobj.offset) if hasattr(image.dataobj, "offset") else 352
    return offset + int(np.prod(image.shape)) * image.get_data_dtype().itemsize
