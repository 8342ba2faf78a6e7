"""`scaling score --challenge`: the published edge cases, and reference implementations."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from scaling.handin import challenge_metrics
from scaling.handin.challenge_score import score_challenge
from scaling.handin.linear_probe import fit_probe, group_of, split_cases
from scaling.study.challenge import ScoringRule, load_challenge
from tests.conftest import scaling

FOMO26 = load_challenge("fomo26")


def write(file: Path, content: object, affine: np.ndarray | None = None) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, np.ndarray):
        image = nib.Nifti1Image(content.astype(np.uint8), np.eye(4) if affine is None else affine)
        nib.save(image, file)
    else:
        file.write_text(f"{content}\n")


def numbers(
    folder: Path, labels: list[float], predictions: list[object], name: str = "label.txt"
) -> dict[str, float]:
    """FOMO26's scores of numbers; a prediction of None is not written."""
    for case, (label, prediction) in enumerate(zip(labels, predictions, strict=True)):
        write(folder / f"labels/sub_{case}/ses-01/{name}", label)
        (folder / "out").mkdir(exist_ok=True)
        if prediction is not None:
            write(folder / f"out/sub_{case}.txt", prediction)
    return score_challenge(folder / "out", folder / "labels", FOMO26).metrics


@pytest.mark.parametrize("invalid", [None, "nan", "inf", "no number"])
def test_auroc_of_a_missing_case_takes_the_worst_score(invalid: object, tmp_path: Path) -> None:
    # The positive without a score counts as 0, below the negative; the other positive is right.
    assert numbers(tmp_path, [0, 1, 1], [0.2, 0.9, invalid]) == {"auroc": 0.5}


def test_auroc_of_a_missing_negative_takes_the_worst_score(tmp_path: Path) -> None:
    assert numbers(tmp_path, [1, 0, 0], [0.8, 0.1, None]) == {"auroc": 0.5}


def test_auroc_of_one_class_does_not_exist(tmp_path: Path) -> None:
    assert np.isnan(numbers(tmp_path, [1, 1], [0.2, 0.9])["auroc"])


@pytest.mark.parametrize(
    ("labels", "predictions", "mae", "pearson"),
    [
        ([20.5, 40, 60], [50, 50, 50], (29.5 + 10 + 10) / 3, -100),
        ([20.5], [30], 9.5, -100),
        ([20.5, 40, 60], [21, None, 59], 100, -100),
        ([20.5, 40, 60], [None, None, None], 100, -100),
        ([20.5, 40, 60], [21, "nan", 59], np.nan, -100),
        ([20.5, 40, 60], [21.5, 41, 61], 1, 1),
    ],
)
def test_age_scores_by_the_challenges_edge_cases(
    labels: list[float],
    predictions: list[object],
    mae: float,
    pearson: float,
    tmp_path: Path,
) -> None:
    scores = numbers(tmp_path, labels, predictions, "labels.txt")
    np.testing.assert_allclose([scores["mae"], scores["pearson"]], [mae, pearson])


def test_both_masks_empty_score_dice_one_and_nsd_zero(tmp_path: Path) -> None:
    write(tmp_path / "labels/sub_1/ses-01/seg.nii.gz", np.zeros((5, 5, 5)))
    write(tmp_path / "out/sub_1.nii.gz", np.zeros((5, 5, 5)))
    scores = score_challenge(tmp_path / "out", tmp_path / "labels", FOMO26)
    assert scores.metrics == {"dice": 1, "nsd": 0}
    assert scores.problems == []  # an empty mask is accepted


@pytest.mark.parametrize("invalid", ["absent", "unreadable", "another shape"])
def test_one_of_two_masks_missing_scores_zero_for_that_case(invalid: str, tmp_path: Path) -> None:
    mask = np.zeros((9, 9, 9), np.uint8)
    mask[3:6, 3:6, 3:6] = 1
    for case in (1, 2):
        write(tmp_path / f"labels/sub_{case}/ses-01/seg.nii.gz", mask)
    write(tmp_path / "out/sub_1.nii.gz", mask)
    match invalid:
        case "unreadable":
            write(tmp_path / "out/sub_2.nii.gz", "no image")
        case "another shape":
            write(tmp_path / "out/sub_2.nii.gz", mask[:5])
    scores = score_challenge(tmp_path / "out", tmp_path / "labels", FOMO26)
    assert scores.metrics == {"dice": 0.5, "nsd": 0.5}
    assert len(scores.problems) == 1


def test_surfaces_within_one_mm_are_equal(tmp_path: Path) -> None:
    mask = np.zeros((20, 20, 20), np.uint8)
    mask[5:12, 5:12, 5:12] = 1
    for case, spacing in (("near", 1.0), ("far", 1.5)):
        affine = np.diag([spacing] * 3 + [1.0])
        write(tmp_path / f"labels/sub_{case}/ses-01/seg.nii.gz", mask, affine)
        write(tmp_path / f"out/sub_{case}.nii.gz", np.roll(mask, 1, 0), affine)
    cases = score_challenge(tmp_path / "out", tmp_path / "labels", FOMO26).cases.set_index("case")
    assert cases.loc["sub_near", "nsd"] == 1.0
    assert cases.loc["sub_far", "nsd"] < 0.9
    assert cases.loc["sub_near", "dice"] == pytest.approx(6 / 7)


def test_labels_of_a_mask_are_scored_one_by_one_and_averaged(tmp_path: Path) -> None:
    truth = np.zeros((12, 12, 12), np.uint8)
    truth[2:5, 2:10, 2:5], truth[7:10, 2:10, 2:5] = 1, 2
    predicted = truth.copy()
    predicted[truth == 2] = 1  # all vessels called nerves
    write(tmp_path / "labels/sub_1/ses-01/seg.nii.gz", truth)
    write(tmp_path / "out/sub_1.nii.gz", predicted)
    scores = score_challenge(tmp_path / "out", tmp_path / "labels", FOMO26)
    nerve = 2 * 72 / (72 + 144)
    assert scores.metrics["dice"] == pytest.approx((nerve + 0) / 2)
    merged = score_challenge(tmp_path / "out", tmp_path / "labels", FOMO26, task="2")
    assert merged.metrics["dice"] == 1  # of voxels above 0


def test_command_scores_by_challenge_and_says_what_was_missing(tmp_path: Path) -> None:
    numbers(tmp_path, [0, 1, 1], [0.2, 0.9, None])
    done = scaling("score", "out", "labels", "--challenge", "fomo26", "--json", folder=tmp_path)
    assert done.returncode == 1, done.stderr
    document = json.loads(done.stdout)
    assert document["metrics"] == {"auroc": 0.5}
    assert "sub_2 has no prediction" in document["problems"][0]


def test_multiclass_metrics_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    scores = rng.dirichlet(np.ones(3), 60)
    assert challenge_metrics.auroc_one_vs_rest(labels, scores) == pytest.approx(
        roc_auc_score(labels, scores, multi_class="ovr")
    )
    assert challenge_metrics.macro_f1(labels, scores) == pytest.approx(
        f1_score(labels, scores.argmax(1), average="macro")
    )
    scores[0] = np.nan
    repaired = scores.copy()
    repaired[0] = 0.5
    repaired[0, labels[0]] = 0
    assert challenge_metrics.auroc_one_vs_rest(labels, scores) == pytest.approx(
        np.mean([roc_auc_score(labels == k, repaired[:, k]) for k in range(3)])
    )
    assert np.isnan(challenge_metrics.auroc_one_vs_rest(labels * 0, scores))


def test_disparity_leaves_out_groups_without_a_metric() -> None:
    labels = np.array([0, 1, 0, 1, 1, 1, 0])
    scores = np.array([0.1, 0.9, 0.8, 0.2, 0.5, 0.5, 0.0])
    groups = ["a", "a", "b", "b", "c", "c", None]
    rule = ScoringRule("auroc")

    def auroc(truth: np.ndarray, score: np.ndarray) -> float:
        return challenge_metrics.auroc(truth, score, rule)

    disparity, values = challenge_metrics.max_disparity(auroc, labels, scores, groups)
    assert (disparity, values) == (1.0, {"a": 1.0, "b": 0.0})
    assert challenge_metrics.max_disparity(auroc, labels[:2], scores[:2], ["a", "a"])[0] == 0
    assert np.isnan(challenge_metrics.max_disparity(auroc, labels, scores, [None] * 7)[0])
    with pytest.raises(ValueError, match="7 labels, 7 scores and 1 groups"):
        challenge_metrics.max_disparity(auroc, labels, scores, ["a"])
    assert challenge_metrics.fairness_score([0.2, np.nan, 0.4]) == pytest.approx(0.7)


def test_probe_depends_on_the_scale_of_vectors_and_reads_what_is_there() -> None:
    rng = np.random.default_rng(1)
    classes, count, length = 3, 240, 64
    labels = np.arange(count) % classes
    vectors = rng.normal(size=(count, length)) + 0.5 * rng.normal(size=(classes, length))[labels]
    parts = split_cases(labels.astype(str), np.zeros(count))
    assert [int((parts == part).sum()) for part in ("test", "train", "validation")] == [
        120,
        96,
        24,
    ]

    def score(scale: float) -> float:
        scaled = vectors * scale
        train, validation, test = (parts == part for part in ("train", "validation", "test"))
        result = fit_probe(
            scaled[train], labels[train], scaled[validation], labels[validation], scaled[test], 3
        )
        return challenge_metrics.auroc_one_vs_rest(labels[test], result.scores)

    assert score(0.3) > 0.9
    assert score(1e-5) < score(0.3) - 0.1


def test_groups_are_bins_with_inclusive_bounds_or_lower_case_text() -> None:
    import pandas as pd

    ages = pd.Series(["30", "45", "46", "80", "0", ""])
    assert group_of(ages, (45.0, 65.0)) == ["up to 45", "up to 45", "up to 65", "> 65", None, None]
    assert group_of(pd.Series(["F", " m", ""]), ()) == ["f", "m", None]


def test_embeddings_are_scored_with_fairness_beside_the_score(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    rows = ["ptid,selected_cohort,age,sex"]
    (tmp_path / "out").mkdir()
    for case in range(120):
        label = case % 3
        rows.append(f"p{case},{'abc'[label]},{rng.integers(20, 90)},{'FM'[case % 2]}")
        vector = rng.normal(size=16) * 0.3
        vector[label] += 1
        np.save(tmp_path / f"out/p{case}.npy", vector.astype(np.float32))
    (tmp_path / "cohort.csv").write_text("\n".join(rows))
    scores = score_challenge(tmp_path / "out", tmp_path / "cohort.csv", FOMO26, task="6")
    assert scores.metrics["auroc"] > 0.9
    assert {"f1", "fairness-auroc", "fairness-f1", "disparity-auroc sex"} <= set(scores.metrics)
    assert scores.expected == 60


def test_task_that_labels_do_not_tell_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"fomo26 has no task '9'; expected one of 1 \(infarct\)"):
        FOMO26.task("9")
    (tmp_path / "labels").mkdir()
    with pytest.raises(ValueError, match="holds no labels"):
        score_challenge(tmp_path, tmp_path / "labels", FOMO26)
