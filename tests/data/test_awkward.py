"""Files as clinics have them, beyond those of `test_volume`; and, where SCALING_AWKWARD names its
folder, real ones.
"""

import bz2
import gc
import gzip
import os
import struct
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scaling.data.head import find_head
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
