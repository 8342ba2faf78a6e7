"""What must be known before a study's verdict is read: was its design fixed beforehand, and who
had looked at its test cases?"""

from pathlib import Path

import pandas as pd

from scaling.report.words import listed
from scaling.runs.ledger import seen_before
from scaling.runs.registration import registered_in_words
from scaling.study.config import Reference, Study, Task


def standing(study: Study, predictions: pd.DataFrame, study_dir: Path) -> list[str]:
    """What was fixed beforehand, and who had looked at the test cases before: a sentence each.

    `predictions`: a row per evaluation, with the columns task, arm, draw and case.
    """
    sentences = [registered_in_words(study_dir, study)]
    root = Path(study.data.root)
    unseen = []
    for task in study.tasks:
        cases = predictions.loc[predictions["task"] == task.name, "case"].unique()
        seen = seen_before(root, study, task.name, list(cases))
        if seen is not None:
            sentences.append(seen)
        elif len(cases):
            unseen.append(f"{task.name} ({len(cases)})")
    if unseen:
        sentences.append(
            f"No earlier study on record had evaluated the test cases of {listed(unseen)}."
        )
    if study.references:
        stated = listed([pretraining_in_words(reference) for reference in study.references])
        sentences.append(f"From elsewhere come {stated}.")
    for reference in study.references:
        of_one = [task.name for task in study.tasks if is_one_model(predictions, reference, task)]
        if of_one:
            sentences.append(
                f"{reference.name} is one model for all draws of {listed(of_one)}: its intervals "
                "carry the noise of the test cases and of what it is compared with, not that of "
                "training it on other labelled cases."
            )
    return sentences


def is_one_model(predictions: pd.DataFrame, reference: Reference, task: Task) -> bool:
    """Whether a competitor predicts the same after every draw of a task, of which there are
    several.
    """
    of_task = (predictions["task"] == task.name) & (predictions["arm"] == reference.name)
    rows = predictions[of_task]
    draws = rows["draw"].nunique()
    return draws > 1 and len(rows.drop(columns="draw").drop_duplicates()) * draws == len(rows)


def pretraining_in_words(reference: Reference) -> str:
    """A competitor and what it was pretrained on, as the study states it."""
    stated = [f"track {reference.track}"] if reference.track else []
    if reference.collections:
        stated.append(f"pretrained on {', '.join(reference.collections)}")
    else:
        stated.append("pretraining not stated")
    return f"{reference.name} ({'; '.join(stated)})"
