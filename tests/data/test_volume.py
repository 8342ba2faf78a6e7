import gzip
import itertools
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from scaling.data.head import find_head
from scaling.data.reading import UnreadableVolume, read_mask, read_scan
from scaling.data.resample import apply_weights, axis_weights
from scaling.data.volume import BACKGROUND, read_volume, session_grid
from scaling.study.config import Volumes

VOLUMES = Volumes(4.0, (16, 18, 14))
SPACING = np.diag([3.0, 2.5, 4.0, 1.0])
ORIENTATIONS = [
    "".join(codes)
    for order in itertools.permutations(("RL", "AP", "SI"))
    for codes in itertools.product(*order)
]


def save(path: Path, voxels: np.ndarray, affine: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return path


def grid_of(path: Path, volumes: Volumes) -> np.ndarray:
    scan = read_scan(path)
    return session_grid(scan, volumes, find_head(path, scan.voxels, scan.spacing).inside)


@pytest.mark.parametrize("stored_as", ORIENTATIONS)
def test_volume_stored_in_any_orientation_is_the_same(
    tmp_path: Path, brain: np.ndarray, stored_as: str
) -> None:
    affine = SPACING.copy()
    affine[:3, 3] = (-41.3, 12.7, 5.1)
    change = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(tuple(stored_as))
    )
    turned = nib.orientations.apply_orientation(brain, change)
    path = save(
        tmp_path / "a.nii.gz", turned, affine @ nib.orientations.inv_ornt_aff(change, brain.shape)
    )
    expected = read_volume(save(tmp_path / "ras.nii.gz", brain, affine), VOLUMES)
    np.testing.assert_array_equal(read_volume(path, VOLUMES), expected)


def test_volume_foreground_has_zero_mean_and_unit_variance_around_a_constant(
    tmp_path: Path, brain: np.ndarray
) -> None:
    volume = read_volume(save(tmp_path / "a.nii.gz", brain, SPACING), VOLUMES).astype(float)
    inside = volume != BACKGROUND
    assert volume.shape == VOLUMES.shape
    assert abs(volume[inside].mean()) < 1e-3
    assert abs(volume[inside].std() - 1) < 1e-3
    middle = np.argwhere(inside).mean(0)
    np.testing.assert_allclose(middle, (np.array(VOLUMES.shape) - 1) / 2, atol=0.6)


@pytest.mark.parametrize(("scale", "shift"), [(0.01, 0.0), (37.0, 0.0), (1.0, -500.0)])
def test_volume_with_other_intensity_units_is_the_same(
    tmp_path: Path, brain: np.ndarray, scale: float, shift: float
) -> None:
    one = read_volume(save(tmp_path / "a.nii.gz", brain, SPACING), VOLUMES)
    other = read_volume(save(tmp_path / "b.nii.gz", brain * scale + shift, SPACING), VOLUMES)
    np.testing.assert_allclose(other.astype(float), one.astype(float), atol=5e-3)


def test_resampling_agrees_with_scipy() -> None:
    image = np.random.default_rng(0).random((13, 17, 11), dtype=np.float32)
    start, step, shape, sigma = (0.7, -2.0, 1.2), (1.3, 0.8, 2.0), (7, 20, 6), (0.5, 0.0, 0.9)
    smooth = ndimage.gaussian_filter(image.astype(float), sigma, mode="constant")
    expected = ndimage.affine_transform(smooth, step, start, shape, order=1, mode="grid-constant")
    weights = [
        axis_weights(n, a, b, m, s)
        for n, a, b, m, s in zip(image.shape, start, step, shape, sigma, strict=True)
    ]
    np.testing.assert_allclose(apply_weights(image, tuple(weights)), expected, atol=1e-5)


def test_downsampling_a_checkerboard_leaves_no_pattern(tmp_path: Path) -> None:
    checks = (np.indices((48, 48, 48)).sum(0) % 2).astype(np.float32) * 100 + 50
    checks[24:] += 60
    checks[[0, -1]] = checks[:, [0, -1]] = checks[:, :, [0, -1]] = 0
    volume = read_volume(
        save(tmp_path / "a.nii.gz", checks, np.eye(4)), Volumes(4.0, (12, 12, 12))
    ).astype(float)
    assert volume[2:5, 2:-2, 2:-2].std() < 0.05
    assert volume[7:10, 2:-2, 2:-2].std() < 0.05


def test_thick_slices_agree_with_thin_ones(tmp_path: Path) -> None:
    z = np.arange(140)
    index = np.indices((60, 60, 140)).astype(np.float32)
    body = ((index[0] - 30) / 26) ** 2 + ((index[1] - 30) / 26) ** 2 + (
        (index[2] - 70) / 60
    ) ** 2 < 1
    thin = np.where(body, 100 + 40 * np.sin(index[2] / 15) + index[0], 0).astype(np.float32)
    thick = thin.reshape(60, 60, 20, 7).mean(3)
    affine = np.diag([2.0, 2.0, 7.0, 1.0])
    affine[2, 3] = z[:7].mean()
    volumes = Volumes(4.0, (30, 30, 36))
    grid = np.diag([4.0, 4.0, 4.0, 1.0])
    grid[:3, 3] = np.array((60.0, 60.0, 70.0)) - (np.array(volumes.shape) - 1) / 2 * 4.0
    one = read_volume(
        save(tmp_path / "thin.nii.gz", thin, np.diag([2.0, 2.0, 1.0, 1.0])), volumes, like=grid
    )
    other = read_volume(save(tmp_path / "thick.nii.gz", thick, affine), volumes, like=grid)
    # Within a slice's thickness of the surface, thick slices mix head and air.
    inside = ndimage.binary_erosion((one > BACKGROUND) & (other > BACKGROUND), iterations=2)
    assert inside.sum() > 5000
    assert np.corrcoef(one[inside].astype(float), other[inside].astype(float))[0, 1] > 0.999


@pytest.mark.parametrize("kind", ["oblique", "sheared"])
def test_volume_with_tilted_axes_lies_where_its_affine_says(tmp_path: Path, kind: str) -> None:
    turn = np.array([[1, 0, 0], [0, np.cos(0.3), -np.sin(0.3)], [0, np.sin(0.3), np.cos(0.3)]])
    axes = turn if kind == "oblique" else np.array([[1, 0.3, 0], [0, 1, 0.2], [0, 0, 1.0]])
    affine = np.eye(4)
    affine[:3, :3] = axes * 2.0
    affine[:3, 3] = (-40, -50, -30)
    index = np.indices((44, 46, 42)).astype(float)
    world = np.einsum("ij,j...->i...", affine[:3, :3], index) + affine[:3, 3][:, None, None, None]
    middle = affine[:3, :3] @ np.array([22, 23, 21.0]) + affine[:3, 3]
    away = ((world - middle[:, None, None, None]) ** 2).sum(0)
    ball = np.where(away < 30**2, 500 + world[0] + 2 * world[1], 0)
    path = save(tmp_path / "a.nii.gz", ball.astype(np.float32), affine)
    volumes = Volumes(3.0, (24, 24, 24))
    grid = grid_of(path, volumes)
    np.testing.assert_allclose(grid[:3, 3] + 11.5 * 3.0, middle, atol=1.5)
    volume = read_volume(path, volumes).astype(float)
    x, y, z = np.indices(volumes.shape) * 3.0 + grid[:3, 3][:, None, None, None]
    distance = np.sqrt((x - middle[0]) ** 2 + (y - middle[1]) ** 2 + (z - middle[2]) ** 2)
    inside = volume > BACKGROUND
    assert inside[distance < 27].all()
    assert not inside[distance > 33].any()
    assert np.corrcoef(volume[distance < 26], (x + 2 * y)[distance < 26])[0, 1] > 0.999


def test_volume_on_the_grid_already_is_copied(tmp_path: Path, brain: np.ndarray) -> None:
    path = save(tmp_path / "a.nii.gz", brain, np.diag([4.0, 4.0, 4.0, 1.0]))
    volume = read_volume(path, Volumes(4.0, (30, 34, 28))).astype(float)
    inside, kept = brain > 0, volume > BACKGROUND
    assert kept.sum() == inside.sum()
    low, high = np.percentile(brain[inside], (0.5, 99.5))
    expected = brain[inside].clip(low, high)
    np.testing.assert_allclose(
        volume[kept], (expected - expected.mean()) / expected.std(), atol=2e-3
    )


def test_volume_of_a_head_in_noise_is_centred_on_the_head(
    tmp_path: Path, brain: np.ndarray
) -> None:
    rng = np.random.default_rng(0)
    noisy = np.pad(brain, 12)
    noisy = np.roll(noisy, (5, -4, 3), (0, 1, 2)) + np.abs(rng.normal(0, 4, noisy.shape))
    volume = read_volume(
        save(tmp_path / "a.nii.gz", noisy.astype(np.float32), SPACING), Volumes(4.0, (24, 24, 30))
    )
    np.testing.assert_allclose(
        np.argwhere(volume > BACKGROUND).mean(0), (11.5, 11.5, 14.5), atol=1.0
    )


def test_scan_with_nan_and_infinite_voxels_ignores_them(tmp_path: Path, brain: np.ndarray) -> None:
    spoiled = brain.copy()
    spoiled[brain == 0] = np.nan
    spoiled[14, 17, 13], spoiled[15, 17, 13] = np.inf, -np.inf
    clean = read_volume(save(tmp_path / "a.nii.gz", brain, SPACING), VOLUMES)
    volume = read_volume(save(tmp_path / "b.nii.gz", spoiled, SPACING), VOLUMES)
    assert np.isfinite(volume).all()
    assert np.median(np.abs(volume.astype(float) - clean)) < 0.01


def test_scan_of_complex_values_gives_their_magnitude(tmp_path: Path, brain: np.ndarray) -> None:
    phase = np.exp(1j * np.indices(brain.shape).sum(0))
    one = read_volume(save(tmp_path / "a.nii.gz", brain, SPACING), VOLUMES)
    other = read_volume(
        save(tmp_path / "b.nii.gz", (brain * phase).astype(np.complex64), SPACING), VOLUMES
    )
    np.testing.assert_allclose(other.astype(float), one.astype(float), atol=2e-2)


def test_scan_stored_as_int16_with_slope_and_intercept_is_scaled(
    tmp_path: Path, brain: np.ndarray
) -> None:
    content = bytearray(
        nib.Nifti1Image(np.rint((brain - 5) / 0.01).astype(np.int16), SPACING).to_bytes()
    )
    content[112:120] = struct.pack("<ff", 0.01, 5.0)  # scl_slope, scl_inter
    (tmp_path / "a.nii").write_bytes(content)
    np.testing.assert_allclose(read_scan(tmp_path / "a.nii").voxels, brain, atol=0.006)


def test_scan_without_sform_and_qform_uses_its_voxel_size(
    tmp_path: Path, brain: np.ndarray
) -> None:
    image = nib.Nifti1Image(brain, None)
    image.header.set_zooms((3.0, 2.5, 4.0))
    nib.save(image, tmp_path / "a.nii.gz")
    np.testing.assert_allclose(sorted(read_scan(tmp_path / "a.nii.gz").spacing), (2.5, 3.0, 4.0))


def test_scan_with_zero_pixdim_uses_its_sform(tmp_path: Path, brain: np.ndarray) -> None:
    image = nib.Nifti1Image(brain, SPACING)
    content = bytearray(image.to_bytes())
    content[80:92] = bytes(12)  # pixdim[1:4]
    (tmp_path / "a.nii").write_bytes(content)
    np.testing.assert_allclose(read_scan(tmp_path / "a.nii").spacing, (3.0, 2.5, 4.0))


def test_scan_with_zero_sform_uses_its_qform(tmp_path: Path, brain: np.ndarray) -> None:
    image = nib.Nifti1Image(brain, SPACING)
    image.set_qform(SPACING, 1)
    content = bytearray(image.to_bytes())
    content[280:328] = bytes(48)
    (tmp_path / "a.nii").write_bytes(content)
    np.testing.assert_allclose(read_scan(tmp_path / "a.nii").spacing, (3.0, 2.5, 4.0))


def test_scan_with_a_wrong_extension_is_read(tmp_path: Path, brain: np.ndarray) -> None:
    plain = nib.Nifti1Image(brain, SPACING).to_bytes()
    (tmp_path / "a.nii.gz").write_bytes(plain)
    (tmp_path / "b.nii").write_bytes(gzip.compress(plain))
    for name in ("a.nii.gz", "b.nii"):
        np.testing.assert_array_equal(read_scan(tmp_path / name).voxels, brain)


def test_scan_in_freesurfer_format_is_read(tmp_path: Path, brain: np.ndarray) -> None:
    nib.save(nib.freesurfer.MGHImage(brain, SPACING), tmp_path / "a.mgz")
    np.testing.assert_array_equal(read_scan(tmp_path / "a.mgz").voxels, brain)


def test_mask_stored_with_a_slope_is_zero_and_one(tmp_path: Path, brain: np.ndarray) -> None:
    image = nib.Nifti1Image((brain > 120).astype(np.float32), SPACING)
    image.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "a.nii.gz")
    assert nib.load(tmp_path / "a.nii.gz").dataobj.slope < 1e-4
    np.testing.assert_array_equal(read_mask(tmp_path / "a.nii.gz").voxels, brain > 120)


def test_mask_lies_on_its_scan(tmp_path: Path, brain: np.ndarray) -> None:
    path = save(tmp_path / "a.nii.gz", brain, SPACING)
    mask = save(tmp_path / "m.nii.gz", (brain > 0).astype(np.uint8), SPACING)
    np.testing.assert_array_equal(
        read_volume(mask, VOLUMES, mask=True, like=grid_of(path, VOLUMES)),
        read_volume(path, VOLUMES) > BACKGROUND,
    )


def _unreadable(tmp_path: Path, brain: np.ndarray) -> dict[str, tuple[Path, str]]:
    def write(name: str, content: bytes) -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    good = gzip.compress(nib.Nifti1Image(brain, SPACING).to_bytes())
    colours = np.zeros(brain.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    flat = np.where(brain > 0, 7, 0).astype(np.float32)
    singular = bytearray(nib.Nifti1Image(brain, SPACING).to_bytes())
    singular[252:254], singular[280:328] = bytes(2), bytes(48)  # qform_code, sform
    return {
        "empty": (write("empty.nii.gz", b""), "empty"),
        "truncated": (write("cut.nii.gz", good[: len(good) // 2]), "truncated"),
        "text": (write("text.nii.gz", b"not an image at all" * 50), "corrupt"),
        "short": (write("short.nii", gzip.decompress(good)[:5000]), "truncated"),
        "colours": (save(tmp_path / "rgb.nii.gz", colours, SPACING), "colours"),
        "four dimensions": (
            save(tmp_path / "4d.nii.gz", np.stack([brain] * 3, -1), SPACING),
            "3 volumes",
        ),
        "two slices": (save(tmp_path / "slices.nii.gz", brain[:, :, :2], SPACING), "slices"),
        "constant": (save(tmp_path / "constant.nii.gz", brain * 0 + 3, SPACING), "constant"),
        "flat": (save(tmp_path / "flat.nii.gz", flat, SPACING), "constant"),
        "no number": (save(tmp_path / "nan.nii.gz", brain * np.nan, SPACING), "finite"),
        "no size": (write("singular.nii", bytes(singular)), "voxel size"),
        "absent": (tmp_path / "absent.nii.gz", "does not exist"),
    }


@pytest.mark.parametrize(
    "case",
    [
        "empty",
        "truncated",
        "text",
        "short",
        "colours",
        "four dimensions",
        "two slices",
        "constant",
        "flat",
        "no number",
        "no size",
        "absent",
    ],
)
def test_unusable_file_ends_in_one_sentence(tmp_path: Path, brain: np.ndarray, case: str) -> None:
    path, word = _unreadable(tmp_path, brain)[case]
    with pytest.raises(UnreadableVolume, match=word) as error:
        read_volume(path, VOLUMES)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_4d_file_with_one_volume_is_read(tmp_path: Path, brain: np.ndarray) -> None:
    path = save(tmp_path / "a.nii.gz", brain[..., None], SPACING)
    np.testing.assert_array_equal(read_scan(path).voxels, brain)
