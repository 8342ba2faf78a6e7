"""Score a folder of predictions by this project's own definitions, whoever made them.

Cases without a valid prediction are listed and excluded. `challenge_score` scores as a challenge
does. For the layout of the folders see `case_files`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
import pandas as pd

from scaling.handin.case_files import (
    LABEL_FILES,
    MASK_FILES,
    find_labels,
    find_predictions,
    read_number,
    read_volume,
    require_folders,
)
from scaling.handin.scores import Scores
from scaling.transfer import metrics

Kind = Literal["classification", "segmentation", "regression"]


def score_folder(predictions: Path, labels: Path, kind: Kind | None, tolerance_mm: float) -> Scores:
    """Compare every label with the prediction of its case.

    Without a `kind`, masks are a segmentation, labels of only 0 and 1 a classification and other
    numbers a regression. Raises FileNotFoundError for a folder that does not exist, and
    ValueError when it holds no labels, a case has two, or no case can be scored.
    """
    require_folders(predictions, labels)
    numbers, masks = find_labels(labels, LABEL_FILES), find_labels(labels, MASK_FILES)
    if not numbers and not masks:
        raise ValueError(
            f"{labels} holds no labels; expected sub_1/label.txt or sub_1/seg.nii.gz, with or "
            "without ses_1, in it or in labels/"
        )
    segmentation = kind == "segmentation"
    if kind is None:
        # Cases may have a mask beside their label; what is predicted decides.
        segmentation = not numbers or bool(masks and not any(predictions.glob("*.txt")))
    if segmentation:
        require_labels(masks, labels, "numbers", kind)
        return score_all_masks(predictions, labels, masks, tolerance_mm)
    require_labels(numbers, labels, "masks", kind)
    return score_all_numbers(predictions, labels, numbers, kind)


def require_labels(files: dict[str, Path], labels: Path, other: str, kind: Kind | None) -> None:
    """Raise ValueError when labels of a kind are not there, but others are."""
    if not files:
        raise ValueError(f"{labels} holds {other}, which cannot be scored as {kind}")


def score_all_masks(
    predictions: Path, labels: Path, truth: dict[str, Path], tolerance_mm: float
) -> Scores:
    """Mean Dice and NSD over the cases with a valid mask."""

    def score_case(prediction: Path, label: Path) -> dict[str, float]:
        return score_mask(prediction, label, tolerance_mm)

    cases, problems = score_cases(
        predictions, labels, truth, (".nii.gz", ".nii", ".mgz"), ".nii.gz", score_case
    )
    empty = cases.loc[cases["prediction"] == 0, "case"]
    problems += [f"{case}: the mask is empty, which some challenges reject" for case in empty]
    scores = {"dice": cases["dice"].mean(), "nsd": cases["nsd"].mean()}
    return Scores("segmentation", scores, cases, len(truth), problems)


def score_all_numbers(
    predictions: Path, labels: Path, truth: dict[str, Path], kind: Kind | None
) -> Scores:
    """AUROC, or mean absolute error and Pearson's r, over the cases with a valid number."""
    cases, problems = score_cases(predictions, labels, truth, (".txt",), ".txt", score_number)
    targets, predicted = cases["label"].to_numpy(), cases["prediction"].to_numpy()
    if kind == "classification" or (kind is None and set(targets) <= {0.0, 1.0}):
        scores = {"auroc": metrics.auroc(targets, predicted)}
        return Scores("classification", scores, cases, len(truth), problems)
    scores = {
        "mae": metrics.mae(targets, predicted),
        "pearson": metrics.pearson(targets, predicted),
    }
    cases = cases.assign(mae=np.abs(predicted - targets))
    return Scores("regression", scores, cases, len(truth), problems)


def score_cases(
    predictions: Path,
    labels: Path,
    truth: dict[str, Path],
    endings: tuple[str, ...],
    ending: str,
    score_case: Callable[[Path, Path], dict[str, float]],
) -> tuple[pd.DataFrame, list[str]]:
    """A row per case that can be scored, and a sentence per case that cannot.

    Raises ValueError when there is none.
    """
    files = find_predictions(predictions, endings)
    problems = [
        f"{case} has no prediction; expected {predictions / case}{ending}"
        for case in truth
        if case not in files
    ]
    problems += [
        f"{files[case]} belongs to no label in {labels}; it is left out"
        for case in files
        if case not in truth
    ]
    rows = []
    for case in sorted(truth.keys() & files.keys()):
        try:
            rows.append({"case": case, **score_case(files[case], truth[case])})
        except ValueError as error:
            problems.append(str(error))
    if not rows:
        raise ValueError(f"no case of {predictions} can be scored: " + "; ".join(problems[:3]))
    return pd.DataFrame(rows), problems


def score_number(prediction: Path, label: Path) -> dict[str, float]:
    """Label and prediction of one case."""
    return {"label": read_number(label), "prediction": read_number(prediction)}


def score_mask(prediction: Path, label: Path, tolerance_mm: float) -> dict[str, float]:
    """Volumes (ml), Dice and NSD of one case, at the label's own spacing."""
    truth, affine = read_mask(label)
    predicted, other = read_mask(prediction)
    if predicted.shape != truth.shape or not np.allclose(affine, other, atol=1e-3):
        raise ValueError(
            f"{prediction} is on another grid ({predicted.shape}) than {label} ({truth.shape}) or "
            "has another affine; expected the grid of the input images"
        )
    spacing = nib.affines.voxel_sizes(affine)
    voxel_ml = float(np.prod(spacing)) / 1000
    return {
        "label": voxel_ml * float(truth.sum()),
        "prediction": voxel_ml * float(predicted.sum()),
        "dice": metrics.dice(truth, predicted),
        "nsd": metrics.nsd(truth, predicted, spacing, tolerance_mm),
    }


def read_mask(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """A mask as bool [D, H, W] and its affine. Raises ValueError when it is not of 0 and 1.

    A mask of 0 and 255 alone is one of 0 and 1, and NaN is 0, as `prepare` reads them.
    """
    voxels, affine = read_volume(file)
    voxels = np.where(np.isnan(voxels), 0, voxels)
    if voxels.max(initial=0) == 255 and np.isin(voxels, (0, 255)).all():
        voxels = voxels / 255
    invalid = ~np.isin(voxels, (0, 1))
    if invalid.any():
        raise ValueError(
            f"{file} holds values such as {voxels[invalid].flat[0]}; expected a mask of 0 and 1 "
            "(masks of several labels are scored by --challenge, also by a table of your own)"
        )
    return voxels.astype(bool), affine
