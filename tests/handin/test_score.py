"""`scaling score` by our own definitions, against scikit-learn, SciPy and a count of voxels."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import mean_absolute_error, roc_auc_score

from scaling.handin.score import score_folder
from scaling.transfer import metrics
from tests.conftest import scaling

AFFINE = np.diag([0.5, 0.5, 5.0, 1.0])


def write(file: Path, content: float | str | np.ndarray, affine: np.ndarray = AFFINE) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, np.ndarray):
        nib.save(nib.Nifti1Image(content.astype(np.uint8), affine), file)
    else:
        file.write_text(f"{content}\n")


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_numbers_are_scored_as_scikit_learn_and_scipy_score_them(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = (
        rng.permutation([0, 1] * 6)
        if kind == "classification"
        else rng.uniform(20, 80, 12).round(1)
    )
    given = rng.normal(size=12)
    for case, (label, value) in enumerate(zip(labels, given, strict=True)):
        session = "ses_1/" if case % 2 else ""
        write(tmp_path / f"task/labels/sub_{case}/{session}label.txt", label)
        write(tmp_path / f"out/sub_{case}.txt", value)
    scores = score_folder(tmp_path / "out", tmp_path / "task", None, 2.0)
    assert (scores.kind, len(scores.cases), scores.problems) == (kind, 12, [])
    if kind == "classification":
        assert scores.metrics == {"auroc": pytest.approx(roc_auc_score(labels, given))}
    else:
        expected = {
            "mae": mean_absolute_error(labels, given),
            "pearson": pearsonr(labels, given).statistic,
        }
        assert scores.metrics == pytest.approx(expected)


def test_masks_are_scored_on_their_own_anisotropic_grid(tmp_path: Path) -> None:
    truth = np.zeros((20, 20, 6), bool)
    truth[5:15, 5:15, 2:4] = True
    along, across = np.roll(truth, 2, 0), np.roll(truth, 1, 2)
    for case, mask in {"sub_1": along, "sub_2": across}.items():
        write(tmp_path / f"labels/{case}/seg.nii.gz", truth)
        write(tmp_path / f"out/{case}.nii.gz", mask)
    cases = score_folder(tmp_path / "out", tmp_path / "labels", None, 2.0).cases.set_index("case")
    # Two voxels of 0.5 mm are within 2 mm everywhere; one slice of 5 mm is not.
    assert cases.loc["sub_1", "nsd"] == 1.0
    assert cases.loc["sub_2", "nsd"] < 0.9
    for case, mask in {"sub_1": along, "sub_2": across}.items():
        assert cases.loc[case, "dice"] == pytest.approx(
            2 * (truth & mask).sum() / (truth.sum() + mask.sum())
        )
        assert cases.loc[case, "label"] == pytest.approx(truth.sum() * 1.25 / 1000)


def test_cases_that_cannot_be_scored_are_told_and_left_out(tmp_path: Path) -> None:
    mask = np.zeros((8, 8, 8), bool)
    mask[2:5, 2:5, 2:5] = True
    for case in ("good", "moved", "grey", "small", "empty", "absent", "broken"):
        write(tmp_path / f"labels/sub_{case}/ses_1/seg.nii.gz", mask)
    write(tmp_path / "out/sub_good.nii.gz", mask)
    write(tmp_path / "out/sub_moved.nii.gz", mask, np.diag([0.5, 0.5, 4.0, 1.0]))
    write(tmp_path / "out/sub_grey.nii.gz", 3 * mask.astype(np.uint8))
    write(tmp_path / "out/sub_small.nii.gz", mask[:4])
    write(tmp_path / "out/sub_empty.nii.gz", np.zeros_like(mask))
    write(tmp_path / "out/sub_stranger.nii.gz", mask)
    (tmp_path / "out/sub_broken.nii.gz").write_text("no image")
    done = scaling("score", "out", "labels", "--json", folder=tmp_path)
    assert done.returncode == 1, done.stderr
    document = json.loads(done.stdout)
    assert (document["cases"], document["expected"], document["nsd_tolerance_mm"]) == (2, 7, 2.0)
    assert document["metrics"] == {"dice": 0.5, "nsd": 0.5}
    told = "\n".join(document["problems"])
    for words in (
        "sub_absent has no prediction",
        "sub_stranger.nii.gz belongs to no label",
        "sub_moved.nii.gz is on another grid",
        "sub_small.nii.gz is on another grid ((4, 8, 8))",
        "sub_grey.nii.gz holds values such as 3",
        "sub_broken.nii.gz is corrupt or truncated",
        "sub_empty: the mask is empty",
    ):
        assert words in told


def test_one_class_and_not_a_number_are_told(tmp_path: Path) -> None:
    for case in range(3):
        write(tmp_path / f"labels/sub_{case}/label.txt", 1)
        write(tmp_path / f"out/sub_{case}.txt", "nan" if case == 2 else 0.5)
    scores = score_folder(tmp_path / "out", tmp_path / "labels", "classification", 2.0)
    assert scores.to_dict()["metrics"] == {"auroc": None}
    assert "sub_2.txt holds 'nan'; expected one finite number" in scores.problems[0]
    with pytest.raises(ValueError, match="numbers, which cannot be scored as segmentation"):
        score_folder(tmp_path / "out", tmp_path / "labels", "segmentation", 2.0)
    with pytest.raises(ValueError, match="holds no labels"):
        score_folder(tmp_path / "out", tmp_path / "out", None, 2.0)
    for metric in (metrics.auroc, metrics.mae, metrics.pearson):
        with pytest.raises(ValueError, match="NaN"):
            metric(np.array([0.0, 1.0, 0.0]), np.array([0.1, np.nan, 0.2]))


def test_number_is_scored_where_a_case_has_a_mask_as_well(tmp_path: Path) -> None:
    for case in range(4):
        write(tmp_path / f"labels/sub_{case}/ses_1/label.txt", case % 2)
        write(tmp_path / f"labels/sub_{case}/ses_1/seg.nii.gz", np.ones((4, 4, 4)))
        write(tmp_path / f"numbers/sub_{case}.txt", case % 2)
        write(tmp_path / f"masks/sub_{case}.nii.gz", np.ones((4, 4, 4)))
    assert score_folder(tmp_path / "numbers", tmp_path / "labels", None, 2.0).metrics == {
        "auroc": 1.0
    }
    assert score_folder(tmp_path / "masks", tmp_path / "labels", None, 2.0).metrics == {
        "dice": 1.0,
        "nsd": 1.0,
    }


def test_case_with_two_labels_and_text_that_is_none_are_told(tmp_path: Path) -> None:
    for case in (1, 2):
        write(tmp_path / f"labels/sub_{case}/ses_1/label.txt", case % 2)
    write(tmp_path / "out/sub_1.txt", 0.5)
    (tmp_path / "out/sub_2.txt").write_bytes(b"\xff\xfex\x00")
    (problem,) = score_folder(tmp_path / "out", tmp_path / "labels", None, 2.0).problems
    assert "sub_2.txt holds " in problem
    write(tmp_path / "labels/sub_2/ses_2/label.txt", 0)
    with pytest.raises(
        ValueError, match=r"sub_2 has both .*ses_1/label.txt and .*ses_2/label.txt; expected one"
    ):
        score_folder(tmp_path / "out", tmp_path / "labels", None, 2.0)


def test_masks_and_numbers_are_scored_however_they_are_stored(tmp_path: Path) -> None:
    mask = np.zeros((8, 9, 7), np.uint8)
    mask[2:5, 2:6, 2:5] = 1
    folders = (tmp_path / "labels", tmp_path / "out")
    scaled = nib.Nifti1Image(mask.astype(np.float32), AFFINE)
    scaled.set_data_dtype(np.int16)  # a slope of 1.5e-5, and a 1 of .9999999998
    images = {
        "scaled": scaled,
        "bytes": nib.Nifti1Image(mask * 255, AFFINE),
        "four": nib.Nifti1Image(mask[..., None], AFFINE),
        "freesurfer": nib.freesurfer.MGHImage(mask, AFFINE),
    }
    for name, image in images.items():
        ending = ".mgz" if name == "freesurfer" else ".nii.gz"
        for folder, file in zip(folders, (f"{name}/seg{ending}", f"{name}{ending}"), strict=True):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            nib.save(image, folder / file)
    (tmp_path / "labels/plain").mkdir()
    nib.save(nib.Nifti1Image(mask, AFFINE), tmp_path / "labels/plain/seg.nii")
    nib.save(nib.Nifti1Image(mask, AFFINE), tmp_path / "out/plain.nii")
    scores = score_folder(tmp_path / "out", tmp_path / "labels", None, 2.0)
    assert scores.problems == []
    assert scores.metrics == {"dice": 1.0, "nsd": 1.0}
    assert len(scores.cases) == 5
    for number, encoding in enumerate(("utf-8-sig", "utf-16", "latin-1")):
        write(tmp_path / f"truth/sub_{number}/label.txt", 50 + number)
        (tmp_path / "ages").mkdir(exist_ok=True)
        (tmp_path / f"ages/sub_{number}.txt").write_text(f"{50 + number}\n", encoding=encoding)
    assert score_folder(tmp_path / "ages", tmp_path / "truth", None, 2.0).metrics["mae"] == 0


def test_masks_with_nan_outside_and_endings_in_capitals_are_scored(tmp_path: Path) -> None:
    truth = np.zeros((10, 11, 12), np.float32)
    truth[3:6, 3:6, 3:6] = 1
    for case in ("sub_1", "sub_2"):
        write(tmp_path / f"labels/{case}/seg.nii.gz", truth)
    outside = np.where(truth > 0, np.float32(0.9999998), np.float32(np.nan))
    (tmp_path / "out").mkdir()
    nib.save(nib.Nifti1Image(outside, AFFINE), tmp_path / "out/sub_1.nii.gz")
    write(tmp_path / "out/sub_2.nii.gz", truth)
    (tmp_path / "out/sub_2.nii.gz").rename(tmp_path / "out/sub_2.NII.GZ")
    scores = score_folder(tmp_path / "out", tmp_path / "labels", None, 2.0)
    assert scores.cases["dice"].tolist() == [1, 1]
    assert scores.problems == []


def test_folder_under_the_name_of_a_prediction_is_one_problem(tmp_path: Path) -> None:
    for case in range(4):
        write(tmp_path / f"labels/sub_{case}/label.txt", case % 2)
        write(tmp_path / f"out/sub_{case}.txt", case / 4)
    (tmp_path / "out/sub_3.txt").unlink()
    (tmp_path / "out/sub_3.txt").mkdir()
    scores = score_folder(tmp_path / "out", tmp_path / "labels", None, 2.0)
    assert len(scores.cases) == 3
    (problem,) = scores.problems
    assert problem == f"{tmp_path / 'out/sub_3.txt'} cannot be read (Is a directory)"
