"""One scan under two names is found by its content; different people are not taken for one."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from scaling.data.layout import scan_sources
from scaling.data.leakage import shared
from scaling.data.prepare import prepare
from scaling.data.signatures import pattern_of, signature
from scaling.data.twins import (
    NEAR_EQUAL,
    Twins,
    describe_twins,
    find_twins,
    one_name,
    people_table,
)
from scaling.files import write_table
from scaling.study.config import Source, Split, Volumes

SHAPE = (48, 58, 48)  # voxels of 3 mm
MM = np.indices(SHAPE) * 3.0 - np.array([70.5, 85.5, 70.5])[:, None, None, None]
BRAIN = sum((MM[axis] / radius) ** 2 for axis, radius in enumerate((64, 80, 64))) < 1
VOLUMES = Volumes(4.0, (36, 44, 36))


def texture(seed: int) -> np.ndarray:
    """Folds of about 8 mm, of deviation 1."""
    noise = np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)
    smooth = ndimage.gaussian_filter(noise, 1.4)
    return smooth / smooth.std()


COMMON = texture(999)


def person(seed: int) -> np.ndarray:
    """float32 [D, H, W]: half of what is seen is what all people share."""
    return np.where(BRAIN, 500 + 60 * COMMON + 60 * texture(seed), 0).astype(np.float32)


def altered(voxels: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """The same scan as another collection may hold it."""
    rng = np.random.default_rng(7)
    same = np.diag([3.0, 3, 3, 1])
    match kind:
        case "defaced":
            out = voxels.copy()
            out[:, 48:, :20] = 0
            return out, same
        case "normalised":
            return np.where(BRAIN, (voxels / 700) ** 0.8 * 255 + 3, 0), same
        case "noise":
            return np.where(BRAIN, voxels + rng.normal(0, 9, SHAPE), 0), same
        case "resampled":
            return coarser(voxels)
        case "smoothed and resampled":  # the head grows where it mixes with the background
            return coarser(ndimage.gaussian_filter(voxels, 0.6))
        case _:
            affine = np.diag([-3.0, -3, 3, 1])
            affine[:3, 3] = (40, -30, 12)
            return np.ascontiguousarray(voxels[::-1, ::-1]), affine


def coarser(voxels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Linear interpolation at voxels of 4 mm, off the grid of those of 3 mm."""
    affine = np.diag([4.0, 4, 4, 1])
    affine[:3, 3] = 1.5
    return ndimage.affine_transform(voxels, np.full(3, 4 / 3), 0.5, (35, 43, 35), order=1), affine


def write(root: Path, subject: str, voxels: np.ndarray, affine: np.ndarray) -> None:
    path = root / subject / "ses_1" / "t1.nii.gz"
    path.parent.mkdir(parents=True)
    nib.save(nib.Nifti1Image(voxels.astype(np.float32), affine), path)


KINDS = (
    "defaced",
    "normalised",
    "noise",
    "turned and moved",
    "resampled",
    "smoothed and resampled",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen people of one collection; some of them are in another under other names."""
    folder = tmp_path_factory.mktemp("twins")
    for seed in range(16):
        write(folder / "a", f"sub_{seed}", person(seed), np.diag([3.0, 3, 3, 1]))
    for seed, kind in enumerate(KINDS):
        write(folder / "b", f"sub_{seed + 100}", *altered(person(seed), kind))
    return folder


@pytest.fixture(scope="module")
def prepared(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, Twins]:
    cache = tmp_path_factory.mktemp("prepared") / "cache"
    table = scan_sources(root, [Source("a"), Source("b")], Split())
    index = prepare(root, table, VOLUMES, cache, workers=1)
    return index, find_twins(cache, workers=1)


def test_same_scan_under_two_names_is_found_and_nobody_else(
    prepared: tuple[pd.DataFrame, Twins],
) -> None:
    _, twins = prepared
    expected = {f"b|sub_{number + 100}": f"a|sub_{number}" for number in range(len(KINDS))}
    assert twins.people == expected | {first: first for first in expected.values()}
    assert len(twins.pairs) == len(KINDS)
    (sentence,) = describe_twins(twins)
    assert "6 pairs of scans of 12 subjects are nearly equal" in sentence


def test_scans_without_a_head_that_are_read_together_are_left_out(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ball = np.where((MM**2).sum(0) < 16**2, 500 + 60 * COMMON, 0)
    write(root / "c", "sub_200", ball, np.diag([3.0, 3, 3, 1]))
    table = scan_sources(root, [Source("a"), Source("b"), Source("c")], Split())
    index = prepare(root, table, VOLUMES, tmp_path / "cache", workers=1)
    assert index["status"].eq("ok").all()
    monkeypatch.setattr("scaling.data.twins.BLOCK", 1)
    assert len(find_twins(tmp_path / "cache", workers=1).pairs) == len(KINDS)


def test_split_by_people_keeps_both_names_on_one_side(
    prepared: tuple[pd.DataFrame, Twins], tmp_path: Path
) -> None:
    index, twins = prepared
    write_table(people_table(index, twins), tmp_path / "people.csv")
    for seed in range(5):
        split = Split(test_subjects=8, seed=seed)
        table = scan_sources(tmp_path, [Source("people.csv")], split)
        assert table.groupby("person")["part"].nunique().eq(1).all()
        assert table.loc[table["part"] == "test", "person"].nunique() == 8
        train, test = (table[table["part"] == part] for part in ("train", "test"))
        assert shared(train, test, "training", "the test") == []


def test_people_of_two_names_are_leakage(prepared: tuple[pd.DataFrame, Twins]) -> None:
    index, twins = prepared
    table = people_table(index, twins).assign(source=index["source"])
    one, other = (table[table["source"] == source] for source in "ab")
    (sentence,) = shared(one, other, "pretraining", "the test")
    assert "6 subjects of the test are in pretraining too" in sentence


def test_names_joined_by_chains_of_pairs_are_one_person() -> None:
    names = one_name([("d", "c"), ("b", "a"), ("c", "b"), ("y", "x")])
    assert names == {"a": "a", "b": "a", "c": "a", "d": "a", "x": "x", "y": "x"}


def test_signature_of_finer_voxels_is_that_of_coarser_ones() -> None:
    coarse = np.where(BRAIN, texture(3), -2.5).astype(np.float32)
    fine = coarse.repeat(3, 0).repeat(3, 1).repeat(3, 2)
    patterns = [pattern_of(volume, np.full(3, mm)) for volume, mm in ((coarse, 4.5), (fine, 1.5))]
    one, other = (signature(pattern) for pattern in patterns if pattern is not None)
    assert np.corrcoef(one, other)[0, 1] > NEAR_EQUAL


def test_volume_without_a_head_has_no_signature() -> None:
    assert pattern_of(np.full((36, 44, 36), -2.5), np.full(3, 4.0)) is None
