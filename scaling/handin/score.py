"""Score a folder of predictions in the challenge's format (FOMO25, output contract of its containers), whoever made them.

PREDICTIONS/sub_1.txt                  one number: a probability, or an age
PREDICTIONS/sub_1.nii.gz               a mask of 0 and 1 on the grid of the case
LABELS/[labels/]sub_1[/ses_1]/label.txt | seg.nii.gz
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import pandas as pd

from scaling.transfer import metrics

Kind = Literal["classification", "segmentation", "regression"]


@dataclass(frozen=True)
class Scores:
    """Scores over the cases that could be scored; a table with a row per case; a sentence per case that could not, or is odd."""

    kind: Kind
    metrics: dict[str, float]
    cases: pd.DataFrame
    expected: int
    problems: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values; a metric that does not exist is None."""
        scores = {
            name: value if math.isfinite(value) else None for name, value in self.metrics.items()
        }
        return {
            "kind": self.kind,
            "metrics": scores,
            "cases": len(self.cases),
            "expected": self.expected,
            "problems": self.problems,
        }


def score_folder(predictions: Path, labels: Path, kind: Kind | None, tolerance_mm: float) -> Scores:
    """Compare every label with the prediction of its case. Without a `kind`, masks are a segmentation, labels of only 0 and 1 a
    classification and other numbers a regression.

    Raises FileNotFoundError for a folder that is not there and ValueError when it holds no labels, a case has two labels or predictions,
    or no case can be scored.
    """
    for folder in (predictions, labels):
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{folder} is not a folder; expected sub_1.txt or sub_1.nii.gz, ... and sub_1/label.txt or sub_1/seg.nii.gz"
            )
    known = {
        name: found for name in ("label.txt", "seg.nii.gz") if (found := find_labels(labels, name))
    }
    if not known:
        raise ValueError(
            f"{labels} holds no labels; expected sub_1/label.txt or sub_1/seg.nii.gz, with or without ses_1, in it or in labels/"
        )
    # The challenge's infarcts have a mask beside their label: what is predicted decides.
    by_content = "label.txt" not in known or (
        "seg.nii.gz" in known and not any(predictions.glob("*.txt"))
    )
    masks = kind == "segmentation" if kind else by_content
    truth = known.get("seg.nii.gz" if masks else "label.txt", {})
    if not truth:
        raise ValueError(
            f"{labels} holds {'numbers' if masks else 'masks'}, which cannot be scored as {kind}"
        )
    given = [
        file
        for file in sorted(predictions.iterdir())
        if file.name.endswith((".nii", ".nii.gz") if masks else ".txt")
    ]
    found = by_case((file.name.split(".")[0], file) for file in given)
    problems = [
        f"{case} has no prediction; expected {predictions / case}{'.nii.gz' if masks else '.txt'}"
        for case in truth
        if case not in found
    ]
    problems += [
        f"{found[case]} belongs to no label in {labels}; it is left out"
        for case in found
        if case not in truth
    ]
    score_case: Callable[[Path, Path], dict[str, float]] = (
        score_number if not masks else lambda p, t: score_mask(p, t, tolerance_mm)
    )
    rows = []
    for case in sorted(truth.keys() & found.keys()):
        try:
            rows.append({"case": case, **score_case(found[case], truth[case])})
        except ValueError as error:
            problems.append(str(error))
    if not rows:
        raise ValueError(f"no case of {predictions} can be scored: " + "; ".join(problems[:3]))
    cases = pd.DataFrame(rows)
    if masks:
        problems += [
            f"{case}: the mask is empty, which the challenge rejects"
            for case in cases.loc[cases["prediction"] == 0, "case"]
        ]
        return Scores(
            "segmentation",
            {"dice": cases["dice"].mean(), "nsd": cases["nsd"].mean()},
            cases,
            len(truth),
            problems,
        )
    numbers, guessed = cases["label"].to_numpy(), cases["prediction"].to_numpy()
    if kind == "classification" or (kind is None and set(numbers) <= {0.0, 1.0}):
        return Scores(
            "classification",
            {"auroc": metrics.auroc(numbers, guessed)},
            cases,
            len(truth),
            problems,
        )
    scores = {"mae": metrics.mae(numbers, guessed), "pearson": metrics.pearson(numbers, guessed)}
    return Scores(
        "regression", scores, cases.assign(mae=np.abs(guessed - numbers)), len(truth), problems
    )


def find_labels(folder: Path, name: str) -> dict[str, Path]:
    """Case -> label file of that name, in the challenge's layouts."""
    root = folder / "labels" if (folder / "labels").is_dir() else folder
    return by_case(
        (file.relative_to(root).parts[0], file) for file in sorted(root.glob(f"sub*/**/{name}"))
    )


def by_case(files: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """Case -> file. Raises ValueError when a case has two."""
    found: dict[str, Path] = {}
    for case, file in files:
        if case in found:
            raise ValueError(f"{case} has both {found[case]} and {file}; expected one")
        found[case] = file
    return found


def score_number(prediction: Path, label: Path) -> dict[str, float]:
    """Label and prediction of one case."""
    return {"label": read_number(label), "prediction": read_number(prediction)}


def read_number(file: Path) -> float:
    """The one finite number in a text file. Raises ValueError naming the file."""
    text = file.read_text(errors="replace").strip()
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{file} holds {text[:40]!r}; expected one finite number")
    return number


def score_mask(prediction: Path, label: Path, tolerance_mm: float) -> dict[str, float]:
    """Volumes (ml), Dice and NSD of one case, at the label's own spacing."""
    known, affine = read_mask(label)
    given, other = read_mask(prediction)
    if given.shape != known.shape or not np.allclose(affine, other, atol=1e-3):
        raise ValueError(
            f"{prediction} is on another grid ({given.shape}) than {label} ({known.shape}) or has another affine; "
            "expected the grid of the input images"
        )
    spacing = nib.affines.voxel_sizes(affine)
    millilitres = float(np.prod(spacing)) / 1000
    return {
        "label": millilitres * float(known.sum()),
        "prediction": millilitres * float(given.sum()),
        "dice": metrics.dice(known, given),
        "nsd": metrics.nsd(known, given, spacing, tolerance_mm),
    }


def read_mask(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """A mask as bool [D, H, W] and its affine. Raises ValueError naming the file when it is no mask of 0 and 1."""
    try:
        image: Any = nib.load(file)
        voxels = np.asarray(image.dataobj)
    except (nib.filebasedimages.ImageFileError, OSError, EOFError) as error:
        raise ValueError(
            f"{file} is not a readable NIfTI image ({error}); expected a mask of 0 and 1"
        ) from error
    if not np.isin(voxels, (0, 1)).all():
        raise ValueError(
            f"{file} holds values such as {voxels[~np.isin(voxels, (0, 1))].flat[0]}; expected a mask of 0 and 1"
        )
    return voxels.astype(bool), image.affine
