"""Where a mask lies on its scan, and what a grid leaves of it, against a placement by SciPy."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scaling.data.headers import describe_mask
from scaling.data.masks import (
    are_labels,
    flat_values,
    loss,
    may_be_labels,
    misplacement,
    outside_head,
)
from scaling.data.reading import read_mask
from scaling.data.volume import mask_to_grid
from scaling.study.config import Volumes

SHAPE = (40, 44, 36)
AFFINE = np.array([[-2.0, 0, 0, 41], [0, 2, 0, -50], [0, 0, 2.5, -30], [0, 0, 0, 1]])


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A scan in LAS order; its sform lies 18 mm from its qform."""
    image = nib.Nifti1Image(np.random.default_rng(0).random(SHAPE, np.float32), AFFINE)
    image.set_sform(AFFINE, 2)
    moved = AFFINE.copy()
    moved[1, 3] += 18
    image.set_qform(moved, 1)
    nib.save(image, tmp_path / "t1.nii.gz")
    return tmp_path / "t1.nii.gz"


def lesion() -> np.ndarray:
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[26:31, 30:35, 20:24] = 1
    return voxels


def saved(tmp_path: Path, voxels: np.ndarray, affine: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(voxels, affine), tmp_path / "seg.nii.gz")
    return tmp_path / "seg.nii.gz"


MISPLACED = {
    "identity": (np.eye(4), "no affine of its own"),
    "flipped identity": (np.diag([-1.0, -1, 1, 1]), "no affine of its own"),
    "spacing alone": (np.diag([2.0, 2, 2.5, 1]), "its voxel size alone"),
    "qform": (AFFINE + np.eye(4, k=3)[[1, 0, 2, 3]] * 18, "the scan's qform"),
    "shifted": (AFFINE + np.array([[0, 0, 0, 9.0]] + [[0] * 4] * 3), "another origin"),
}


@pytest.mark.parametrize("name", MISPLACED)
def test_mask_in_another_place_is_named_with_the_share_that_is_right(
    tmp_path: Path, scan: Path, name: str
) -> None:
    affine, words = MISPLACED[name]
    path = saved(tmp_path, lesion(), affine)
    sentence = misplacement(path, scan)
    assert words in sentence
    # Independently: which of the mask's voxels lie on the lesion by their own affine?
    voxels = np.argwhere(lesion())
    on_scan = nib.affines.apply_affine(np.linalg.inv(AFFINE) @ affine, voxels)
    nearest = np.rint(on_scan).astype(int)
    inside = ((nearest >= 0) & (nearest < SHAPE)).all(1)
    right = lesion()[tuple(nearest[inside].T)].sum() / len(voxels)
    assert f"{right:.0%} of it lies where" in sentence
    assert describe_mask(path, scan)["remark"] == sentence


def test_harmless_differences_of_a_mask_are_no_finding(tmp_path: Path, scan: Path) -> None:
    flips = nib.orientations.axcodes2ornt("LPS")
    image = nib.Nifti1Image(lesion(), AFFINE)
    start = nib.orientations.io_orientation(AFFINE)
    turned = image.as_reoriented(nib.orientations.ornt_transform(start, flips))
    finer = np.repeat(np.repeat(lesion(), 2, 0), 2, 1)
    finer_affine = AFFINE @ np.diag([0.5, 0.5, 1, 1])
    finer_affine[:3, 3] += AFFINE[:3, :3] @ [-0.25, -0.25, 0]
    cropped = AFFINE.copy()
    cropped[:3, 3] = nib.affines.apply_affine(AFFINE, (20, 25, 15))
    rounded = AFFINE.copy()
    rounded[:3, 3] += 1e-3
    skewed = AFFINE.copy()
    skewed[0, 1] += 1e-4
    masks = {
        "LPS": (np.asarray(turned.dataobj), turned.affine),
        "finer": (finer, finer_affine),
        "cropped": (lesion()[20:38, 25:40, 15:30], cropped),
        "1e-3 mm": (lesion(), rounded),
        "1e-4 off the diagonal": (lesion(), skewed),
    }
    for name, (voxels, affine) in masks.items():
        assert misplacement(saved(tmp_path, voxels, affine), scan) == "", name


def test_mask_outside_of_its_scan_says_how_much_is_inside(tmp_path: Path, scan: Path) -> None:
    voxels = np.ones((10, 10, 10), np.uint8)
    affine = np.diag([2.0, 2, 2.5, 1])
    affine[:3, 3] = nib.affines.apply_affine(AFFINE, (0, 20, 10))  # nine tenths beyond the edge
    sentence = misplacement(saved(tmp_path, voxels, affine), scan)
    assert "lies outside its scan: 10% of it" in sentence


def test_lesion_below_a_voxel_vanishes_and_is_named(tmp_path: Path, scan: Path) -> None:
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[20, 20, 20] = 1
    path = saved(tmp_path, voxels, AFFINE)
    grid = np.diag([6.0, 6, 6, 1])
    grid[:3, 3] = (-60, -60, -40)
    mask = read_mask(path)
    on_grid = mask_to_grid(mask, Volumes(6.0, (20, 20, 20)), grid)
    assert "vanishes on the grid of 6 x 6 x 6 mm: nothing of its 10 mm3" in loss(
        path, mask, on_grid, grid
    )
    assert "vanishes on the grid of 4 x 4 x 4 mm" in describe_mask(path, scan)["remark"]
    whole = saved(tmp_path, lesion(), AFFINE)
    assert describe_mask(whole, scan)["remark"] == ""


def test_label_maps_are_told_from_scans_by_their_voxels() -> None:
    rng = np.random.default_rng(0)
    blocks = np.repeat(np.repeat(np.repeat(np.arange(27).reshape(3, 3, 3), 8, 0), 8, 1), 8, 2)
    tissues = np.array([0, 200, 600, 1000, 2500])[blocks % 5].astype(np.float32)
    scans = {
        "tissues of a phantom": tissues,
        "the same in noise": tissues + rng.normal(0, 20, tissues.shape).astype(np.float32),
        "integers in noise": np.rint(tissues / 20 + rng.normal(0, 2, tissues.shape)).clip(0),
        "a mask": (blocks > 13).astype(np.float32),
        "labels of a few regions": np.array([0, 1011, 2011, 1022, 2022])[blocks % 5],
    }
    maps = {
        "few labels": (blocks % 5).astype(np.float32),
        "scaled on disk": (blocks % 5).astype(np.float32) * np.float32(1 - 1e-5),
        "with errors of interpolation": (blocks % 5) + rng.normal(0, 1e-5, blocks.shape),
        "many labels": blocks.astype(np.float32) * 75,
    }
    values = {name: flat_values(voxels.astype(np.float32)) for name, voxels in scans.items()}
    assert not any(map(are_labels, values.values()))
    # Few values that are no small numbers are left in, and remarked upon.
    doubtful = [name for name in values if may_be_labels(values[name])]
    assert doubtful == ["tissues of a phantom", "labels of a few regions"]
    assert all(are_labels(flat_values(voxels.astype(np.float32))) for voxels in maps.values())


@pytest.mark.parametrize("order", [(2, 1, 0), (1, 0, 2)])
def test_mask_with_its_axes_in_another_order_and_no_affine_for_it_is_named(
    tmp_path: Path, scan: Path, order: tuple[int, int, int]
) -> None:
    path = saved(tmp_path, np.ascontiguousarray(lesion().transpose(order)), AFFINE)
    assert "axes in another order" in misplacement(path, scan)
    # The same array with the affine that belongs to it is right.
    right = AFFINE @ np.eye(4)[:, [*order, 3]]
    path = saved(tmp_path, np.ascontiguousarray(lesion().transpose(order)), right)
    assert misplacement(path, scan) == ""


def test_mask_outside_of_the_head_is_named_with_the_share_inside() -> None:
    head = np.zeros((8, 8, 8), bool)
    head[2:6, 2:6, 2:6] = True
    on_grid = np.zeros((8, 8, 8), np.uint8)
    on_grid[4:8, 2:6, 2:6] = 1
    on_grid[7, 0, 0] = 1
    assert "49% of it is inside" in outside_head(Path("seg.nii"), on_grid, head)
    on_grid[6:, 2:6, 2:6] = 0
    assert outside_head(Path("seg.nii"), on_grid, head) == ""


def test_mask_of_nothing_and_of_nearly_all_are_named(tmp_path: Path, scan: Path) -> None:
    path = saved(tmp_path, 1 - lesion(), AFFINE)
    assert "is it inverted?" in describe_mask(path, scan)["remark"]
    path = saved(tmp_path, lesion() * 0, AFFINE)
    assert "marks nothing" in describe_mask(path, scan)["remark"]
