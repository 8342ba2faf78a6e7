"""Whole heads keep their brain and lose their air, whatever the background is made of."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import synthetic_head
from scipy import ndimage
from synthetic_head import SPACING, Head, defaced, in_noise, make_head, turned, with_border

from scaling.data.head import find_head
from scaling.data.reading import Scan
from scaling.data.volume import prepare_scan, resample
from scaling.study.config import Volumes

MM = np.full(3, SPACING)
VOLUMES = Volumes(4.0, (48, 56, 56))
GRID = np.diag([4.0, 4.0, 4.0, 1.0])
GRID[:3, 3] = (9.0, 8.0, -2.0)  # around the middle of the synthetic head
HERE = Path("t1.nii.gz")


@pytest.fixture(scope="module")
def head() -> Head:
    return make_head()


BACKGROUNDS: dict[str, Callable[[Head], np.ndarray]] = {
    "no noise": lambda head: head.signal,
    "faint noise": lambda head: in_noise(head, 3),
    "noise": lambda head: in_noise(head, 20),
    "strong noise": lambda head: in_noise(head, 45),
    "noise in integers": lambda head: np.rint(in_noise(head, 2)),
    "noise in 8 bits": lambda head: np.rint(in_noise(head, 20) / 4),
    "noise, zero border": lambda head: with_border(in_noise(head, 20), 0, 1),
    "noise, border of -1024": lambda head: with_border(in_noise(head, 20), -1024, 1),
    "noise, border of NaN": lambda head: with_border(in_noise(head, 20), np.nan, 1),
    "noise around -1024": lambda head: in_noise(head, 20) - 1024,
    "-1024, no noise": lambda head: np.where(head.signal > 0, head.signal, -1024),
    "NaN, no noise": lambda head: np.where(head.signal > 0, head.signal, np.nan),
    "noise, zeros on one side": lambda head: np.where(
        np.indices(head.head.shape)[0] < 8, 0, in_noise(head, 20)
    ),
    "noise partly set to zero": lambda head: np.where(
        in_noise(head, 20) < 15, 0, in_noise(head, 20)
    ),
}


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_whole_head_in_any_background_keeps_its_brain_and_loses_its_air(
    head: Head, name: str
) -> None:
    voxels = BACKGROUNDS[name](head).astype(np.float32)
    inside = find_head(HERE, voxels, MM).inside
    assert inside[head.brain].mean() > 0.999
    assert inside[head.ventricles].all()
    assert inside[head.head].mean() > 0.99
    far_air = ndimage.distance_transform_edt(~head.head, sampling=MM) > 6
    assert inside[far_air].mean() < 0.001


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_the_same_head_in_any_background_gives_nearly_the_same_volume(
    head: Head, name: str
) -> None:
    def prepared(voxels: np.ndarray) -> np.ndarray:
        scan = Scan(voxels.astype(np.float32), np.diag([SPACING] * 3 + [1.0]))
        return prepare_scan(HERE, scan, VOLUMES, GRID).volume.astype(float)

    reference = Scan(head.head.astype(np.float32), np.diag([SPACING] * 3 + [1.0]))
    (share,) = resample(reference, [reference.voxels], VOLUMES.shape, GRID)
    inside = ndimage.binary_erosion(share > 0.99)  # one voxel of the zeroed border touches the head
    difference = np.abs(prepared(BACKGROUNDS[name](head)) - prepared(head.signal))[inside]
    assert np.median(difference) <= (0.08 if name == "strong noise" else 0.05)
    assert np.percentile(difference, 99) <= 0.3


@pytest.mark.parametrize("value", [0.0, np.nan, -1024.0])
def test_defaced_head_in_noise_loses_its_face_alone(head: Head, value: float) -> None:
    inside = find_head(HERE, defaced(in_noise(head, 20), value), MM).inside
    assert inside[head.brain].mean() > 0.999
    assert inside[:, 84:, :36].mean() < 0.02


def test_head_turned_in_its_field_of_view_keeps_its_brain(head: Head) -> None:
    inside = find_head(HERE, turned(in_noise(head, 20)), MM).inside
    assert inside[turned(head.brain.astype(np.float32)) > 0.5].all()


@pytest.mark.parametrize("window", [np.s_[:, :, 30:60], np.s_[8:76, 6:90, 8:86], np.s_[:42]])
def test_head_cut_by_its_field_of_view_keeps_its_brain(
    head: Head, window: tuple[slice, ...]
) -> None:
    inside = find_head(HERE, in_noise(head, 20)[window], MM).inside
    assert inside[head.brain[window]].all()


@pytest.mark.parametrize("contrast", ["t2", "flair", "dwi", "adc", "fat-suppressed"])
@pytest.mark.parametrize("border", [False, True])
def test_whole_heads_of_other_contrasts_keep_their_brain(
    monkeypatch: pytest.MonkeyPatch, contrast: str, border: bool
) -> None:
    levels = {  # of scalp, skull, cortex, white matter, ventricles
        "t2": (0.35, 0.05, 0.55, 0.4, 1.0),
        "flair": (0.5, 0.05, 0.6, 0.5, 0.1),
        "dwi": (0.12, 0.03, 0.5, 0.55, 0.12),
        "adc": (0.3, 0.1, 0.3, 0.25, 1.0),
        "fat-suppressed": (0.1, 0.04, 0.6, 0.9, 0.15),
    }
    names = ("scalp", "skull", "cortex", "white", "ventricle")
    monkeypatch.setattr(synthetic_head, "LEVELS", dict(zip(names, levels[contrast], strict=True)))
    head = make_head(level=1000.0)
    voxels = in_noise(head, 20)
    found = find_head(HERE, with_border(voxels, 0, 1) if border else voxels, MM)
    assert found.background == "noise"
    assert found.inside[head.brain].all()
    far_air = ndimage.distance_transform_edt(~head.head, sampling=MM) > 6
    assert found.inside[far_air].mean() < 0.001
    # The brain alone, on zeros, is all of what is not zero.
    stripped = find_head(HERE, np.where(head.brain, voxels, 0).astype(np.float32), MM)
    assert stripped.background == "constant"
    np.testing.assert_array_equal(stripped.measured, head.brain & (voxels > 0))


def test_hole_of_a_stripped_brain_is_inside_and_does_not_count(head: Head) -> None:
    voxels = np.where(head.brain & ~head.ventricles, head.signal, 0).astype(np.float32)
    found = find_head(HERE, voxels, MM)
    np.testing.assert_array_equal(found.inside, head.brain)
    np.testing.assert_array_equal(found.measured, voxels > 0)
    volume = prepare_scan(
        HERE, Scan(voxels, np.diag([SPACING] * 3 + [1.0])), Volumes(None, voxels.shape), None
    ).volume.astype(float)
    stripped = volume[volume != volume[0, 0, 0]]
    # Ventricles are the darkest of the brain, no background.
    assert len(stripped) == head.brain.sum()
    assert np.isclose(stripped, stripped.min()).sum() >= head.ventricles.sum()


@pytest.mark.parametrize("millilitres", [60.0, 200.0, 400.0])
@pytest.mark.parametrize("contrast", [2.0, 3.0, 4.0, 8.0, 20.0])
@pytest.mark.parametrize("brain_millilitres", [1400.0, 2600.0])
def test_stripped_brain_with_a_bright_lesion_is_no_head_in_air(
    head: Head, contrast: float, millilitres: float, brain_millilitres: float
) -> None:
    # As on diffusion weighting: fluid is dark, the brain even, an infarct far brighter. Thick
    # slices with a wide rim make a brain large.
    spacing = (brain_millilitres * 1000 / head.brain.sum()) ** (1 / 3)
    rng = np.random.default_rng(0)
    levels = np.where(head.ventricles, 60.0, 250.0) * rng.normal(1, 0.1, head.brain.shape)
    offset = np.indices(head.brain.shape) - np.array([26, 48, 50])[:, None, None, None]
    radius = (millilitres * 1000 * 3 / (4 * np.pi)) ** (1 / 3) / spacing
    lesion = head.brain & ((offset**2).sum(0) < radius**2)
    rim = head.brain & ~ndimage.binary_erosion(head.brain, iterations=2)
    levels = np.where(rim, 0.7, 1.0) * np.where(lesion, contrast, 1.0) * levels
    found = find_head(HERE, np.where(head.brain, levels, 0).astype(np.float32), np.full(3, spacing))
    assert found.background == "constant"
    np.testing.assert_array_equal(found.inside, head.brain)


@pytest.mark.parametrize("millilitres", [1400.0, 2000.0, 2600.0])
def test_stripped_brain_in_thick_slices_keeps_its_dark_rim(head: Head, millilitres: float) -> None:
    # T1: fluid around the brain is dark, and half-filled voxels make the rim wide.
    rng = np.random.default_rng(0)
    rim = head.brain & ~ndimage.binary_erosion(head.brain, iterations=2)
    levels = np.where(rim, 150.0, np.where(head.ventricles, 200.0, 1100.0))
    voxels = np.where(head.brain, levels * rng.normal(1, 0.2, levels.shape), 0)
    spacing = (millilitres * 1000 / head.brain.sum()) ** (1 / 3)
    found = find_head(HERE, voxels.astype(np.float32), np.full(3, spacing))
    assert found.background == "constant"
    np.testing.assert_array_equal(found.inside, head.brain)


def test_brain_mask_normalises_by_the_brain(head: Head) -> None:
    affine = np.diag([SPACING] * 3 + [1.0])
    scan = Scan(in_noise(head, 20), affine)
    brain = Scan(head.brain.astype(np.float32), affine)
    prepared = prepare_scan(HERE, scan, VOLUMES, GRID, brain)
    (share,) = resample(scan, [brain.voxels], VOLUMES.shape, GRID)
    inside = prepared.volume[share >= 0.5].astype(float)
    assert abs(inside.mean()) < 0.02
    assert abs(inside.std() - 1) < 0.02
    whole = prepare_scan(HERE, scan, VOLUMES, GRID).volume
    assert ((prepared.volume == -2.5) != (whole == -2.5)).mean() < 1e-3
