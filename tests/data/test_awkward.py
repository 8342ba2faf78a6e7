"""Files as clinics have them, beyond those of `test_volume`; and, where SCALING_AWKWARD names its
folder, real ones.
"""

import bz2
import gc
import gzip
import os
import struct
import tracemalloc
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scaling.data.head import find_head
from scaling.data.headers import describe_header
from scaling.data.reading import UnreadableVolume, read_mask, read_scan
from scaling.data.volume import BACKGROUND, read_volume
from scaling.study.config import Volumes

VOLUMES = Volumes(4.0, (16, 18, 14))
SPACING = np.diag([3.0, 2.5, 4.0, 1.0])
REAL = os.environ.get("SCALING_AWKWARD", "")


def stored(brain: np.ndarray, affine: np.ndarray = SPACING) -> bytes:
    return nib.Nifti1Image(brain, affine).to_bytes()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_gzip_of_several_members_and_with_padding_is_read(
    tmp_path: Path, brain: np.ndarray
) -> None:
    content = stored(brain)
    several = gzip.compress(content[:1000]) + gzip.compress(content[1000:]) + bytes(512)
    np.testing.assert_array_equal(read_scan(write(tmp_path / "a.nii.gz", several)).voxels, brain)


@pytest.mark.parametrize("kept", [0.2, 0.9, 0.9999])
def test_gzip_cut_anywhere_is_truncated(tmp_path: Path, brain: np.ndarray, kept: float) -> None:
    content = gzip.compress(stored(brain))
    with pytest.raises(UnreadableVolume, match="truncated"):
        read_scan(write(tmp_path / "a.nii.gz", content[: int(kept * len(content))]))


def test_gzip_with_a_flipped_byte_is_corrupt(tmp_path: Path, brain: np.ndarray) -> None:
    content = bytearray(gzip.compress(stored(brain)))
    content[len(content) // 2] ^= 255
    with pytest.raises(UnreadableVolume, match="corrupt"):
        read_scan(write(tmp_path / "a.nii.gz", bytes(content)))


@pytest.mark.parametrize(
    "name", ["A.NII.GZ", "a.nii.bz2", "pair.img", "a.mgh", "nifti2.nii.gz", "big.nii"]
)
def test_other_containers_hold_the_same_scan(tmp_path: Path, brain: np.ndarray, name: str) -> None:
    path = tmp_path / name
    if name == "A.NII.GZ":
        write(path, gzip.compress(stored(brain)))
    elif name == "a.nii.bz2":
        write(path, bz2.compress(stored(brain)))
    elif name == "pair.img":
        nib.save(nib.Nifti1Pair(brain, SPACING), path)
    elif name == "a.mgh":
        nib.save(nib.freesurfer.MGHImage(brain, SPACING), path)
    elif name == "nifti2.nii.gz":
        nib.save(nib.Nifti2Image(brain, SPACING), path)
    else:
        image = nib.Nifti1Image(brain.astype(">f4"), SPACING, nib.Nifti1Header(endianness=">"))
        nib.save(image, path)
    scan = read_scan(path)
    np.testing.assert_array_equal(scan.voxels, brain)
    np.testing.assert_allclose(scan.affine, SPACING)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i4", "u4", "i8", "f8"])
def test_every_number_type_gives_its_values(tmp_path: Path, brain: np.ndarray, dtype: str) -> None:
    values = np.rint(brain / 2).astype(dtype)
    image = nib.Nifti1Image(values, SPACING, dtype=np.dtype(dtype))
    nib.save(image, tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(
        read_scan(tmp_path / "a.nii.gz").voxels, values.astype(np.float32)
    )


def test_values_beyond_float32_are_no_numbers(tmp_path: Path, brain: np.ndarray) -> None:
    huge = brain.astype(np.float64)
    huge[15, 17, 13] = 1e300
    nib.save(nib.Nifti1Image(huge, SPACING), tmp_path / "a.nii.gz")
    assert np.isnan(read_scan(tmp_path / "a.nii.gz").voxels[15, 17, 13])
    assert np.isfinite(read_volume(tmp_path / "a.nii.gz", VOLUMES)).all()


def test_slope_of_zero_or_nan_means_none(tmp_path: Path, brain: np.ndarray) -> None:
    for slope in (0.0, float("nan")):
        content = bytearray(nib.Nifti1Image(brain.astype(np.int16), SPACING).to_bytes())
        content[112:120] = struct.pack("<ff", slope, 0.0)
        path = write(tmp_path / "a.nii", bytes(content))
        np.testing.assert_array_equal(read_scan(path).voxels, brain.astype(np.int16))


@pytest.mark.parametrize(
    ("unit", "factor"), [("meter", 1e-3), ("micron", 1e3), ("meter", 1.0), ("unknown", 1.0)]
)
def test_voxel_sizes_in_other_units_are_brought_to_mm(
    tmp_path: Path, brain: np.ndarray, unit: str, factor: float
) -> None:
    image = nib.Nifti1Image(brain, np.diag([3 * factor, 2.5 * factor, 4 * factor, 1]))
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "a.nii.gz")
    np.testing.assert_allclose(read_scan(tmp_path / "a.nii.gz").spacing, (3.0, 2.5, 4.0), rtol=1e-3)


def test_impossible_voxel_size_is_refused(tmp_path: Path, brain: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(brain, np.diag([0.001, 1, 1, 1])), tmp_path / "a.nii.gz")
    with pytest.raises(UnreadableVolume, match=r"expected 0.05 to 50 mm"):
        read_scan(tmp_path / "a.nii.gz")


def test_background_other_than_zero_is_background(tmp_path: Path, brain: np.ndarray) -> None:
    padded = np.where(brain > 0, brain, -1024).astype(np.float32)
    head = find_head(tmp_path, padded, np.array([3.0, 2.5, 4.0]))
    np.testing.assert_array_equal(head.inside, brain > 0)
    assert head.background == "constant"


@pytest.mark.parametrize(
    "shape", [(30, 34, 2), (30, 34), (1, 30, 34, 28), (30, 34, 28, 1, 3), (0, 34, 28)]
)
def test_shape_that_is_no_volume_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    nib.save(nib.Nifti1Image(np.zeros(shape, np.float32), SPACING), tmp_path / "a.nii.gz")
    with pytest.raises(UnreadableVolume, match="shape"):
        read_scan(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("channels", ["RGB", "RGBA"])
def test_colours_are_refused(tmp_path: Path, channels: str) -> None:
    colours = np.zeros((30, 34, 28), [(channel, "u1") for channel in channels])
    nib.save(nib.Nifti1Image(colours, SPACING), tmp_path / "a.nii.gz")
    with pytest.raises(UnreadableVolume, match="colours"):
        read_scan(tmp_path / "a.nii.gz")


def test_mask_of_255_is_a_mask_and_a_probability_map_below_a_half_is_none(
    tmp_path: Path, brain: np.ndarray
) -> None:
    nib.save(nib.Nifti1Image((brain > 120).astype(np.uint8) * 255, SPACING), tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.nii.gz").voxels, brain > 120)
    nib.save(
        nib.Nifti1Image((brain > 120).astype(np.float32) * 0.3, SPACING), tmp_path / "b.nii.gz"
    )
    with pytest.raises(UnreadableVolume, match="no mask"):
        read_mask(tmp_path / "b.nii.gz")


@pytest.mark.parametrize(
    "name",
    ["a.nii.gz", "a.nii", "a.mgz", "a.mgh", "a.mnc", "a.img", "a.par", "a.head", "a.nii.bz2"],
)
@pytest.mark.parametrize(
    "content", [b"", b"x", b"no image at all\n" * 99, bytes(5000), b"\x1f\x8b" + bytes(300)]
)
def test_rubbish_under_any_name_ends_in_one_sentence(
    tmp_path: Path, name: str, content: bytes
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # nibabel leaves a broken MGH file open
        with pytest.raises(UnreadableVolume) as error:
            read_scan(write(tmp_path / name, content))
        sentence = str(error.value)
        del error
        gc.collect()
    assert str(tmp_path / name) in sentence
    assert "\n" not in sentence


def test_link_to_nothing_says_where_it_points(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").symlink_to("annex/a")
    with pytest.raises(UnreadableVolume, match="link to annex/a"):
        read_scan(tmp_path / "a.nii.gz")


@pytest.mark.skipif(not REAL, reason="SCALING_AWKWARD does not name the folder of real files")
def test_real_brain_in_twelve_orientations_is_the_same() -> None:
    volumes = [
        read_volume(path, Volumes(4.0, (48, 56, 48))).astype(float)
        for path in sorted(Path(REAL).glob("orientations/*.nii.gz"))
    ]
    for volume in volumes[1:]:
        np.testing.assert_allclose(volume, volumes[0], atol=2e-2)


@pytest.mark.skipif(not REAL, reason="SCALING_AWKWARD does not name the folder of real files")
def test_real_awkward_files_are_read_or_refused_in_one_sentence() -> None:
    refused = {}
    for path in sorted(
        path for path in Path(REAL).rglob("*") if path.name.endswith((".nii", ".nii.gz"))
    ):
        try:
            volume = read_volume(path, VOLUMES).astype(float)
        except UnreadableVolume as error:
            refused[path.name] = str(error)
            continue
        inside = volume != BACKGROUND
        assert abs(volume[inside].mean()) < 0.01
        assert abs(volume[inside].std() - 1) < 0.01
    assert not any("\n" in sentence for sentence in refused.values())
    assert set(refused) >= {"asl_4d.nii.gz", "multi_echo_4d.nii"}
    assert not {path for path in refused if path.startswith(("oblique", "shear"))}


def nifti_bytes(brain: np.ndarray, **fields: object) -> bytes:
    """A NIfTI file with fields of its header set as no library would write them."""
    image = nib.Nifti1Image(brain, SPACING)
    image.set_qform(SPACING, 1)
    image.set_sform(SPACING, 2)
    content = bytearray(image.to_bytes())
    header = nib.Nifti1Header(bytes(content[:348]), check=False)
    for name, value in fields.items():
        header[name] = value
    content[:348] = header.binaryblock
    return bytes(content)


QUATERNION = (0.5773505, 0.5773505, 0.5773505)  # of length 1 + 9e-7, rounded


def test_quaternion_rounded_past_one_beside_a_good_sform_is_harmless(
    tmp_path: Path, brain: np.ndarray
) -> None:
    fields = dict(zip(("quatern_b", "quatern_c", "quatern_d"), QUATERNION, strict=True))
    path = write(tmp_path / "a.nii.gz", gzip.compress(nifti_bytes(brain, **fields)))
    np.testing.assert_allclose(read_scan(path).affine, SPACING)


def test_quaternion_rounded_past_one_alone_is_brought_to_one(
    tmp_path: Path, brain: np.ndarray
) -> None:
    fields = dict(zip(("quatern_b", "quatern_c", "quatern_d"), QUATERNION, strict=True))
    content = nifti_bytes(brain, sform_code=0, **fields)
    scan = read_scan(write(tmp_path / "a.nii.gz", gzip.compress(content)))
    # b = c = d, a = 0: half a turn about the diagonal of the axes.
    turn = np.full((3, 3), 2 / 3) - np.eye(3)
    spacing = np.abs(turn @ np.diag([3.0, 2.5, 4.0]))
    np.testing.assert_allclose(
        sorted(np.abs(scan.affine[:3, :3]).ravel()), sorted(spacing.ravel()), atol=1e-3
    )


@pytest.mark.parametrize("broken", ["srow_x", "quatern_b"])
def test_form_with_nan_gives_way_to_the_other(
    tmp_path: Path, brain: np.ndarray, broken: str
) -> None:
    path = write(tmp_path / "a.nii", nifti_bytes(brain, **{broken: np.nan}))
    np.testing.assert_allclose(read_scan(path).affine, SPACING, atol=1e-4)
    assert describe_header(path)["unreadable"] == ""


@pytest.mark.parametrize("offset", [0, 100, 347])
def test_voxels_inside_the_header_are_refused(
    tmp_path: Path, brain: np.ndarray, offset: int
) -> None:
    path = write(tmp_path / "a.nii.gz", gzip.compress(nifti_bytes(brain, vox_offset=offset)))
    with pytest.raises(UnreadableVolume, match="inside its header"):
        read_scan(path)


@pytest.mark.parametrize("pixdim", [0.0, np.nan])
def test_file_without_form_and_voxel_size_is_refused(
    tmp_path: Path, brain: np.ndarray, pixdim: float
) -> None:
    sizes = [1, 3.0, pixdim, 4.0, 1, 1, 1, 1]
    content = nifti_bytes(brain, sform_code=0, qform_code=0, pixdim=sizes)
    with pytest.raises(UnreadableVolume, match="no sform, no qform"):
        read_scan(write(tmp_path / "a.nii", content))


@pytest.mark.parametrize("ending", [".img", ".hdr"])
@pytest.mark.parametrize("zipped", [False, True])
def test_nifti_pair_is_read_by_either_name(
    tmp_path: Path, brain: np.ndarray, ending: str, zipped: bool
) -> None:
    nib.save(nib.Nifti1Pair(brain, SPACING), tmp_path / "pair.img")
    if zipped:
        for file in (tmp_path / "pair.img", tmp_path / "pair.hdr"):
            write(file.with_name(f"{file.name}.gz"), gzip.compress(file.read_bytes()))
            file.unlink()
    path = tmp_path / f"pair{ending}{'.gz' if zipped else ''}"
    np.testing.assert_array_equal(read_scan(path).voxels, brain)
    described = describe_header(path)
    assert (described["remark"], described["unreadable"]) == ("", "")


def test_half_of_a_pair_says_which_half_is_missing(tmp_path: Path, brain: np.ndarray) -> None:
    nib.save(nib.Nifti1Pair(brain, SPACING), tmp_path / "pair.img")
    (tmp_path / "pair.hdr").unlink()
    with pytest.raises(UnreadableVolume, match=r"pair.hdr is missing"):
        read_scan(tmp_path / "pair.img")


def test_bytes_after_the_last_gzip_member_are_ignored(tmp_path: Path, brain: np.ndarray) -> None:
    content = gzip.compress(stored(brain)) + b"rsync: connection closed"
    np.testing.assert_array_equal(read_scan(write(tmp_path / "a.nii.gz", content)).voxels, brain)


@pytest.mark.parametrize("name", ["a.mgh", "a.mgz"])
def test_freesurfer_file_under_the_other_name_is_read(
    tmp_path: Path, brain: np.ndarray, name: str
) -> None:
    content = nib.freesurfer.MGHImage(brain, SPACING).to_bytes()
    path = write(tmp_path / name, gzip.compress(content) if name == "a.mgh" else content)
    np.testing.assert_array_equal(read_scan(path).voxels, brain)


def test_gzip_that_inflates_beyond_its_header_stops_there(
    tmp_path: Path, brain: np.ndarray
) -> None:
    bomb = gzip.compress(stored(brain) + bytes(2**28), 9)
    path = write(tmp_path / "a.nii.gz", bomb)
    tracemalloc.start()
    np.testing.assert_array_equal(read_scan(path).voxels, brain)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


def test_folder_under_the_name_of_a_scan_is_called_one(tmp_path: Path) -> None:
    (tmp_path / "t1.nii.gz").mkdir()
    with pytest.raises(UnreadableVolume, match="is a folder under a scan's name"):
        read_scan(tmp_path / "t1.nii.gz")


def test_pipe_under_the_name_of_a_scan_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t1.nii.gz")
    with pytest.raises(UnreadableVolume, match="no file but a pipe"):
        read_scan(tmp_path / "t1.nii.gz")


def test_web_page_that_is_compressed_says_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(UnreadableVolume, match="web page"):
        read_scan(write(tmp_path / "t1.nii.gz", gzip.compress(b"<!DOCTYPE html><html>")))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer"),
        (b"\n<!DOCTYPE html>\n<html><body>Log in</body></html>", "web page"),
        (b"/annex/objects/MD5E-s1--0.nii.gz\n", "not downloaded yet"),
        (b"PK\x03\x04" + bytes(400), "zip file"),
        (bytes(128) + b"DICM" + bytes(400), "DICOM"),
    ],
)
@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.mgz"])
def test_file_that_is_something_else_says_what_it_is(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    with pytest.raises(UnreadableVolume, match=words):
        read_scan(write(tmp_path / name, content))


def test_remarks_of_headers_say_which_form_is_used(tmp_path: Path, brain: np.ndarray) -> None:
    zero = {f"srow_{axis}": 0 for axis in "xyz"}
    path = write(tmp_path / "a.nii", nifti_bytes(brain, **zero))
    assert describe_header(path)["remark"].endswith("its qform is used")
    path = write(tmp_path / "b.nii", nifti_bytes(brain, qoffset_x=18.0))
    assert "18 mm apart; the sform is used" in describe_header(path)["remark"]
    turned = {"quatern_d": np.sin(np.radians(6))}  # 12 degrees about the third axis
    path = write(tmp_path / "c.nii", nifti_bytes(brain, **turned))
    assert "turned by 12 degrees" in describe_header(path)["remark"]
    path = write(tmp_path / "d.nii", nifti_bytes(brain, qoffset_x=1e-3))
    assert describe_header(path)["remark"] == ""


def test_header_with_an_unknown_unit_is_read_in_mm(tmp_path: Path, brain: np.ndarray) -> None:
    path = write(tmp_path / "a.nii", nifti_bytes(brain, xyzt_units=77))
    np.testing.assert_allclose(read_scan(path).affine, SPACING)


def test_form_far_from_any_scanner_gives_way_to_the_other(
    tmp_path: Path, brain: np.ndarray
) -> None:
    far = {"srow_x": [3.0, 0, 0, 1e20]}
    path = write(tmp_path / "a.nii", nifti_bytes(brain, **far))
    np.testing.assert_allclose(read_scan(path).affine, SPACING, atol=1e-4)
    path = write(tmp_path / "b.nii", nifti_bytes(brain, qform_code=0, **far))
    with pytest.raises(UnreadableVolume, match="no usable voxel size or orientation"):
        read_scan(path)


def test_header_without_dimensions_says_so(tmp_path: Path, brain: np.ndarray) -> None:
    path = write(tmp_path / "a.nii", nifti_bytes(brain, dim=[8, *brain.shape, 1, 1, 1, 1]))
    with pytest.raises(UnreadableVolume, match="valid number of dimensions"):
        read_scan(path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("fields", [{"dim": [3, 30, 34, 20, 1, 1, 1, 1]}, {"datatype": 512}])
def test_voxels_behind_those_announced_are_remarked_on(
    tmp_path: Path, brain: np.ndarray, name: str, fields: dict[str, object]
) -> None:
    content = nifti_bytes(brain, **fields)
    path = write(tmp_path / name, gzip.compress(content) if name.endswith("gz") else content)
    assert "bytes behind the voxels that its header announces" in describe_header(path)["remark"]


@pytest.mark.parametrize("code", [0, 1, 255, 9999])
def test_type_that_is_not_read_is_named(tmp_path: Path, code: int) -> None:
    file = tmp_path / "t1.nii"
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), file)
    content = bytearray(file.read_bytes())
    content[70:72] = code.to_bytes(2, "little")  # the header's field datatype
    file.write_bytes(content)
    with pytest.raises(UnreadableVolume, match=f"t1.nii has voxels of NIfTI's data type {code},"):
        read_scan(file)
