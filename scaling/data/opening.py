"""A file opened by what it holds, whatever its name claims; or one sentence saying why not."""

import bz2
import io
import logging
import re
import stat
import struct
import warnings
import zlib
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
from isal import isal_zlib
from nibabel.arrayproxy import ArrayProxy
from nibabel.spatialimages import SpatialImage
from nibabel.tripwire import TripWireError

logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)  # it narrates every header it mends
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
GZIP, BZIP2 = b"\x1f\x8b", b"BZh"
MGH_VERSION = b"\x00\x00\x00\x01"  # the first field of FreeSurfer's header, big-endian
SURPLUS_BYTES = 2**28  # behind the last voxel that are still read to compare a checksum
START_BYTES = 2**16  # of a file, of which the header is read
# What nibabel, zlib and numpy raise on files that are not what they claim to be.
BROKEN = (
    nib.filebasedimages.ImageFileError,
    nib.spatialimages.HeaderDataError,
    nib.wrapstruct.WrapStructError,
    nib.brikhead.AFNIHeaderError,
    nib.minc1.MincError,
    nib.freesurfer.mghformat.MGHError,
    nib.parrec.PARRECError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
    cast(type[Exception], isal_zlib.error),
    TripWireError,  # a format that needs a package which is not installed
)
# How files begin that are no images, and what to do about them.
OTHERS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself; run `git lfs pull`"),
    (b"/annex/objects/", "an annex pointer, not the file itself (not downloaded yet?)"),
    (b"<!doctype html", "a web page, not an image (a failed download?); download it again"),
    (b"<html", "a web page, not an image (a failed download?); download it again"),
    (b"<?xml", "an XML document, not an image (a failed download?); download it again"),
    (b"pk\x03\x04", "a zip file; unpack it"),
    (b"<error>", "an error message, not an image (a failed download?); download it again"),
    (b"\x89png", "a PNG picture, not a volume"),
    (b"\xff\xd8\xff", "a JPEG picture, not a volume"),
    (b"%pdf", "a PDF document, not an image"),
    (b"nrrd000", "an NRRD file; convert it to NIfTI"),
    (b"\x93numpy", "a NumPy array, which has no place in the world; write it as NIfTI"),
    (b"matlab", "a MATLAB file; write it as NIfTI"),
    (b"\xfd7zxz", "compressed by xz, which is not read; compress it by gzip"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it"),
    (b"rar!", "a RAR archive; unpack it"),
    (b"\x28\xb5\x2f\xfd", "compressed by Zstandard, which is not read; compress it by gzip"),
)


class UnreadableVolume(ValueError):  # noqa: N818 (it names what the file is)
    """A file that holds no usable 3D scan; the message says why, in one sentence."""


def open_image(path: Path, whole: bool = False) -> SpatialImage:
    """Open a file by what it holds.

    `whole` reads a compressed NIfTI at once, which is several times faster than nibabel's stream;
    an image opened without it is for its header alone. Raises UnreadableVolume.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UnreadableVolume(f"{path} is a folder under a scan's name; rename it")
        if not stat.S_ISREG(mode):  # opening a pipe would wait for ever
            raise UnreadableVolume(f"{path} is no file but a pipe, socket or device; take it out")
        with path.open("rb") as file:
            start = file.read(START_BYTES)
        if not start:
            raise UnreadableVolume(f"{path} is empty (0 bytes); copy or convert it again")
        refuse_others(path, start)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return open_by_content(path, start, whole)
    except UnreadableVolume:
        raise
    except BROKEN as error:
        raise unreadable(path, error) from error


def refuse_others(path: Path, start: bytes) -> None:
    """Raise UnreadableVolume for a file that is no image, saying what it is."""
    beginning = start[:64].lstrip().lower()
    for magic, what in OTHERS:
        if beginning.startswith(magic):
            raise UnreadableVolume(f"{path} is {what}")
    if start[128:132] == b"DICM":
        raise UnreadableVolume(f"{path} is a DICOM file; convert its series to NIfTI")


def open_by_content(path: Path, start: bytes, whole: bool) -> SpatialImage:
    """An image by the first bytes of its file: NIfTI, FreeSurfer, or what nibabel makes of its
    name.
    """
    compressed = start.startswith((GZIP, BZIP2))
    first = decompressed(start, 1024, complete=False) if compressed else start
    if compressed:
        refuse_others(path, first)
    name = path.name.lower()
    if name.endswith((".img", ".img.gz", ".hdr", ".hdr.gz")):
        return open_pair(path)
    if first[344:348] == b"n+1\0" or first[4:8] == b"n+2\0":
        header = nifti_header(path, first)
        gzip_by_name = name.endswith((".gz", ".bz2"))
        if not compressed and not gzip_by_name:
            return nifti_image(header, path)
        if not whole:
            return nifti_image(header, io.BytesIO())
        length = int(header.get_data_offset()) + data_bytes(header)
        content = path.read_bytes()
        content = decompressed(content, length) if compressed else content
        return nifti_image(header, io.BytesIO(content))
    if first.startswith(MGH_VERSION) and compressed != name.endswith((".mgz", ".gz")):
        content = path.read_bytes()
        content = decompressed(content, 2**40) if compressed else content
        return nib.MGHImage.from_bytes(content)
    return cast(SpatialImage, nib.load(path))


def nifti_header(path: Path, block: bytes) -> nib.Nifti1Header:
    """The checked header at the beginning of `block`, without its extensions.

    Raises UnreadableVolume where the header cannot be right, though nibabel would accept it.
    """
    kind: type[nib.Nifti1Header]
    if block[4:6] in (b"n+", b"ni"):
        single = block[4:6] == b"n+"
        kind = nib.Nifti2Header if single else nib.nifti2.Nifti2PairHeader
    else:
        single = block[344:346] == b"n+"
        kind = nib.Nifti1Header if single else nib.nifti1.Nifti1PairHeader
    size = kind.template_dtype.itemsize
    raw = kind(block[:size], check=False)
    if not 1 <= raw["dim"][0] <= 7:
        raise UnreadableVolume(
            f"{path} has a header without a valid number of dimensions (dim[0] is none of 1 to 7); "
            "convert it again"
        )
    if single and 0 <= raw["vox_offset"] < size:
        raise UnreadableVolume(
            f"{path} says that its voxels begin at byte {int(raw['vox_offset'])}, inside its "
            f"header of {size} bytes; convert it again"
        )
    sizes = np.abs(raw["pixdim"][1:4].astype(np.float64))
    formless = raw["sform_code"] == 0 and raw["qform_code"] == 0
    if formless and not (np.all(np.isfinite(sizes)) and np.all(sizes > 0)):
        raise UnreadableVolume(
            f"{path} has no usable voxel size or orientation (pixdim "
            f"{tuple(float(value) for value in sizes)}, no sform, no qform); convert it again"
        )
    return kind(block[:size])


def nifti_image(header: nib.Nifti1Header, source: Path | io.BytesIO) -> nib.Nifti1Pair:
    """The image of a header: its voxels lie in a file or in memory. Its affine is left to
    `forms.voxel_to_world`, as nibabel's own fails on quaternions that are rounded.
    """
    kinds = {
        nib.Nifti1Header: nib.Nifti1Image,
        nib.Nifti2Header: nib.Nifti2Image,
        nib.nifti1.Nifti1PairHeader: nib.Nifti1Pair,
        nib.nifti2.Nifti2PairHeader: nib.Nifti2Pair,
    }
    kind = kinds[type(header)]
    file = str(source) if isinstance(source, Path) else source
    return kind(ArrayProxy(file, header), None, header)


def open_pair(path: Path) -> SpatialImage:
    """A header and an image in two files, named by either; Analyze where the header is no NIfTI."""
    name = path.name
    stem = name[: name.lower().rfind(".img" if ".img" in name.lower() else ".hdr")]
    beside = {file.name.lower(): file for file in path.parent.glob(f"{glob_escaped(stem)}.*")}
    files = []
    for ending in (".hdr", ".img"):
        choices = [beside.get(f"{stem}{ending}{zipped}".lower()) for zipped in ("", ".gz")]
        present = [file for file in choices if file is not None]
        if not present:
            raise UnreadableVolume(
                f"{path} is half of a pair: {path.with_name(stem + ending)} is missing"
            )
        files.append(path if path in present else present[0])
    start = files[0].read_bytes()
    block = decompressed(start, 1024, complete=False) if start.startswith(GZIP) else start
    if block[344:347] != b"ni1" and block[4:7] != b"ni2":
        return cast(SpatialImage, nib.load(path))
    return nifti_image(nifti_header(path, block), files[1])


def glob_escaped(name: str) -> str:
    """The name with the characters escaped that have a meaning in a pattern."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def data_bytes(header: nib.Nifti1Header) -> int:
    """Bytes of the voxels that a header announces."""
    voxels = 1
    for size in header.get_data_shape():
        voxels *= int(size)  # in Python's integers, which do not overflow
    return voxels * header.get_data_dtype().itemsize


def decompressed(content: bytes, length: int, complete: bool = True) -> bytes:
    """The first `length` bytes of compressed content, and not much more.

    All members of a gzip file are read; what follows the last one is ignored. Raises EOFError where
    `complete` content ends too early, and isal_zlib.error where it is damaged.
    """
    members: list[bytes] = []
    missing = length
    while missing > 0 and (not members or content.startswith((GZIP, BZIP2))):
        if content.startswith(BZIP2):
            bzip2 = bz2.BZ2Decompressor()
            members.append(bzip2.decompress(content, missing))
            content = bzip2.unused_data
        else:
            gzip = isal_zlib.decompressobj(31)
            members.append(gzip.decompress(content, missing))
            if complete:
                compare_checksum(gzip)
            content = gzip.unused_data.lstrip(b"\0")
        missing -= len(members[-1])
    return members[0] if len(members) == 1 else b"".join(members)


def compare_checksum(member: "isal_zlib.Decompress") -> None:
    """Read a gzip member to its end, where its checksum is, and forget what is read.

    At most SURPLUS_BYTES: a member that announces little and inflates without end stops there.
    Raises EOFError for a member cut short, and isal_zlib.error where the checksum does not fit.
    """
    surplus = 0
    while not member.eof and surplus < SURPLUS_BYTES:
        piece = member.decompress(member.unconsumed_tail, START_BYTES)
        if not piece and not member.eof:
            raise EOFError("compressed file ended before the end of its last member")
        surplus += len(piece)


def gunzip(content: bytes) -> bytes:
    """All of a gzip file. Raises isal_zlib.error or EOFError."""
    return decompressed(content, 2**48)


def unreadable(path: Path, error: Exception) -> UnreadableVolume:
    """The one sentence for a file that nibabel or zlib gave up on."""
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        return UnreadableVolume(
            f"{path} is a link to {path.readlink()}, which does not exist (not downloaded yet?)"
        )
    if isinstance(error, FileNotFoundError):
        whole = f" as a whole: {error.filename} is missing" if path.exists() else ""
        return UnreadableVolume(f"{path} does not exist{whole}")
    if isinstance(error, PermissionError):
        return UnreadableVolume(f"{path} may not be read (permission denied)")
    if isinstance(error, MemoryError):
        return UnreadableVolume(
            f"{path} announces more voxels than fit into memory; it is corrupt, or too large"
        )
    if isinstance(error, TripWireError):
        return UnreadableVolume(
            f"{path} cannot be read here ({first_line(error)}); install the package or convert it "
            "to NIfTI"
        )
    unread = re.fullmatch(r"data code (-?\d+) not (supported|recognized)", str(error))
    if unread:
        return UnreadableVolume(
            f"{path} has voxels of NIfTI's data type {unread[1]}, which is not read (1: one bit a "
            "voxel); convert it to integers or floats"
        )
    if "Binary block is wrong size" in str(error):
        return UnreadableVolume(f"{path} is corrupt or truncated (it holds no image's header)")
    return UnreadableVolume(f"{path} is corrupt or truncated ({first_line(error)})")


def first_line(error: Exception) -> str:
    """The first line of an exception's message, or the name of its kind."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
