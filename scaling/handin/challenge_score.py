"""Score predictions as a challenge does: its metrics, and what it does about missing cases."""

import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from scaling.data.delimited import decoded
from scaling.handin import challenge_metrics as challenge_rules
from scaling.handin.case_files import (
    LABEL_FILES,
    MASK_FILES,
    find_labels,
    find_predictions,
    read_volume,
    require_folders,
)
from scaling.handin.embedding_score import score_embeddings
from scaling.handin.scores import Scores
from scaling.study.challenge import Challenge, ChallengeTask, Kind

ROUNDING = 1e-3  # a voxel this close to an integer is that label


def score_challenge(
    predictions: Path, labels: Path, challenge: Challenge, task: str = "", kind: Kind | None = None
) -> Scores:
    """Score a folder of predictions by the rules of a challenge.

    Without a `task` it is inferred from the labels. `labels` is a folder, or for embeddings a
    table. Raises FileNotFoundError, and ValueError when there are no labels or several tasks fit.
    """
    require_folders(predictions, *([] if labels.is_file() else [labels]))
    chosen = challenge.task(task) if task else infer_task(challenge, labels, kind)
    match chosen.kind:
        case "classification" | "regression":
            return score_numbers(predictions, labels, chosen)
        case "segmentation":
            return score_masks(predictions, labels, chosen, challenge.empty_masks)
        case "embedding":
            return score_embeddings(predictions, labels, challenge, chosen)


def infer_task(challenge: Challenge, labels: Path, kind: Kind | None) -> ChallengeTask:
    """The task that labels belong to. Raises ValueError when none or several kinds fit."""
    fitting = [task for task in challenge.tasks if kind in (None, task.kind)]
    if kind is None:
        kind = labels_kind(labels)
        fitting = [task for task in fitting if task.kind == kind]
    if kind == "segmentation" and len(fitting) > 1:
        highest = highest_label(labels)
        enough = [task for task in fitting if task.labels >= highest]
        fewest = min((task.labels for task in enough), default=0)
        fitting = [task for task in enough if task.labels == fewest]
    if not fitting:
        raise ValueError(
            f"{challenge.name} has no task of kind {kind} that fits {labels}; name one by --task"
        )
    # Tasks that are scored by the same rules give the same numbers: the first stands for all.
    if any(task.metrics != fitting[0].metrics for task in fitting) and kind != "embedding":
        names = ", ".join(f"{task.id} ({task.name})" for task in fitting)
        raise ValueError(f"{labels} may belong to {names} of {challenge.name}; name one by --task")
    return fitting[0]


def labels_kind(labels: Path) -> Kind:
    """What labels are: a table of classes, masks, classes 0 and 1, or other numbers."""
    if labels.is_file():
        return "embedding"
    texts = find_labels(labels, LABEL_FILES)
    if texts:
        numbers = {parse_number(file) for file in texts.values()}
        return "classification" if numbers <= {0.0, 1.0} else "regression"
    if find_labels(labels, MASK_FILES):
        return "segmentation"
    if any(labels.glob("*.csv")):
        return "embedding"
    raise ValueError(
        f"{labels} holds no labels; expected sub_1/label.txt, sub_1/labels.txt or "
        "sub_1/seg.nii.gz, with or without a session folder, in it or in labels/"
    )


def highest_label(labels: Path) -> int:
    """The highest label in any mask."""
    highest = 0
    for file in find_labels(labels, MASK_FILES).values():
        voxels, _ = read_volume(file)
        highest = max(highest, int(np.rint(voxels.max())))
    return highest


def parse_number(file: Path) -> float | None:
    """The number in a text file, which may be NaN or infinite; None when there is none."""
    try:
        return float(decoded(file, file.read_bytes()).strip())
    except ValueError:
        return None


def score_numbers(predictions: Path, labels: Path, task: ChallengeTask) -> Scores:
    """AUROC of probabilities, or errors of numbers, over all labelled cases."""
    label_files = find_labels(labels, (task.label_file, *LABEL_FILES))
    if not label_files:
        raise ValueError(f"{labels} holds no label files; expected sub_1/{task.label_file}, ...")
    truth = {case: read_label(file, task) for case, file in sorted(label_files.items())}
    prediction_files = find_predictions(predictions, (".txt",))
    problems = strangers(prediction_files, label_files, labels)
    answers: dict[str, float | None] = {}
    for case in truth:
        answers[case], remark = read_answer(case, prediction_files.get(case), predictions)
        problems += remark
    cases = pd.DataFrame({"case": list(truth), "label": list(truth.values())})
    cases["prediction"] = np.array([np.nan if a is None else a for a in answers.values()])
    answered = np.array([answer is not None for answer in answers.values()])
    if task.kind == "regression":
        cases["mae"] = np.abs(cases["label"] - cases["prediction"])
    return Scores(task.kind, number_scores(cases, answered, task), cases, len(cases), problems)


def read_label(file: Path, task: ChallengeTask) -> float:
    """The label of a case. Raises ValueError when it is no finite number, or no class."""
    label = parse_number(file)
    if label is None or not math.isfinite(label):
        raise ValueError(f"{file} holds no finite number; expected the label of a case")
    if task.kind == "classification" and label not in (0.0, 1.0):
        raise ValueError(f"{file} holds {label:g}; task {task.id} ({task.name}) expects 0 or 1")
    return label


def read_answer(case: str, file: Path | None, predictions: Path) -> tuple[float | None, list[str]]:
    """The number predicted for a case (None: there is none), and a sentence if it is not finite."""
    if file is None:
        return None, [f"{case} has no prediction; expected {predictions / case}.txt"]
    value = parse_number(file)
    if value is None:
        return None, [f"{file} holds no number; it counts as missing"]
    if not math.isfinite(value):
        return value, [f"{file} holds {value}, not a finite number"]
    return value, []


def number_scores(
    cases: pd.DataFrame, answered: np.ndarray, task: ChallengeTask
) -> dict[str, float]:
    """The task's metrics of labels and predictions; `answered` [n] marks cases with a number."""
    truth, guess = cases["label"].to_numpy(float), cases["prediction"].to_numpy(float)
    scores: dict[str, float] = {}
    for rule in task.metrics:
        # Under "worst-task" a missing case shortens the list of predictions.
        expected = truth if rule.missing == "worst-task" else truth[answered]
        match rule.metric:
            case "auroc":
                scores["auroc"] = challenge_rules.auroc(truth.astype(int), guess, rule)
            case "mae":
                scores["mae"] = challenge_rules.mae(expected, guess[answered], rule)
            case "pearson":
                scores["pearson"] = challenge_rules.pearson(expected, guess[answered], rule)
            case _:
                raise ValueError(f"metric {rule.metric!r} of task {task.id} is not of numbers")
    return scores


def score_masks(
    predictions: Path, labels: Path, task: ChallengeTask, empty_masks: bool = True
) -> Scores:
    """Dice and NSD on the voxels of the labels, averaged over all labelled cases.

    A case without a readable mask of the right shape has the value that its rule states.
    """
    label_files = find_labels(labels, MASK_FILES)
    if not label_files:
        raise ValueError(f"{labels} holds no masks; expected sub_1/{task.mask_file}, ...")
    prediction_files = find_predictions(predictions, (".nii.gz", ".nii"))
    problems = strangers(prediction_files, label_files, labels)
    rows = []
    for case, file in sorted(label_files.items()):
        if case not in prediction_files:
            problems.append(f"{case} has no prediction; expected {predictions / case}.nii.gz")
            rows.append({"case": case, **missing_values(task)})
            continue
        try:
            row, remarks = score_mask(prediction_files[case], file, task)
            if not row["prediction"] and not empty_masks:
                remarks.append(f"{case}: the mask is empty, which the challenge rejects")
        except ValueError as error:
            row, remarks = missing_values(task), [str(error)]
        rows.append({"case": case, **row})
        problems += remarks
    cases = pd.DataFrame(rows)
    scores: dict[str, float] = {
        rule.metric: float(cases[rule.metric].mean()) for rule in task.metrics
    }
    return Scores(task.kind, scores, cases, len(rows), problems)


def missing_values(task: ChallengeTask) -> dict[str, float]:
    """What a case without a mask scores: the rule's worst value, or NaN if it is left out."""
    values = {"label": math.nan, "prediction": math.nan}
    for rule in task.metrics:
        values[rule.metric] = math.nan if rule.missing == "exclude" else rule.worst
    return values


def score_mask(
    prediction: Path, label: Path, task: ChallengeTask
) -> tuple[dict[str, float], list[str]]:
    """Volumes (ml) and scores of one case, and sentences on its format.

    Raises ValueError when the prediction is unreadable or has another shape than the label.
    """
    truth, affine = read_volume(label)
    predicted, other_affine = read_volume(prediction)
    if predicted.shape != truth.shape:
        raise ValueError(
            f"{prediction} has the shape {predicted.shape}, {label} has {truth.shape}; expected "
            "the shape of the input images"
        )
    remarks = []
    if not np.allclose(affine, other_affine, atol=1e-3):
        remarks.append(f"{prediction} has another affine than {label}; its voxels are compared")
    truth_labels, _ = to_labels(truth, task)
    predicted_labels, invalid = to_labels(predicted, task)
    if invalid:
        remarks.append(
            f"{prediction} holds values such as {invalid[0]:g}; expected the labels 0 to "
            f"{task.labels}"
        )
    spacing = nib.affines.voxel_sizes(affine)
    voxel_ml = float(np.prod(spacing)) / 1000
    row = {
        "label": voxel_ml * float((truth_labels > 0).sum()),
        "prediction": voxel_ml * float((predicted_labels > 0).sum()),
    }
    for rule in task.metrics:
        row[rule.metric] = challenge_rules.mask_score(
            truth_labels, predicted_labels, spacing, task.labels, rule
        )
    return row, remarks


def to_labels(voxels: np.ndarray, task: ChallengeTask) -> tuple[np.ndarray, list[float]]:
    """Integer labels [D, H, W] of a mask, and the values in it that are no label of the task.

    With one label every voxel above 0 has it, as challenges count it.
    """
    values = np.unique(np.nan_to_num(voxels.astype(float), nan=-1.0))
    nearest = np.rint(values)
    is_label = (np.abs(values - nearest) < ROUNDING) & (nearest >= 0) & (nearest <= task.labels)
    invalid = [float(value) for value in values[~is_label]]
    if task.labels == 1:
        return (voxels > ROUNDING).astype(np.int16), invalid
    labels = np.rint(np.nan_to_num(voxels.astype(float))).astype(np.int16)
    return labels, invalid


def strangers(
    prediction_files: dict[str, Path], label_files: dict[str, Path], labels: Path
) -> list[str]:
    """A sentence for every prediction that belongs to no label."""
    return [
        f"{file} belongs to no label in {labels}; it is left out"
        for case, file in prediction_files.items()
        if case not in label_files
    ]
