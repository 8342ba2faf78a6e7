"""What must be known before a study's verdict is read: was its design fixed beforehand, and who
had looked at its test cases?"""

from pathlib import Path

import pandas as pd

from scaling.runs.ledger import seen_before
from scaling.runs.registration import registered_in_words
from scaling.study.config import Reference, Study


def standing(study: Study, predictions: pd.DataFrame, study_dir: Path) -> list[str]:
    """What was fixed beforehand, and who had looked at the test cases before: a sentence each.

    `predictions`: a row per evaluation, with the columns task and case."""
    sentences = [registered_in_words(study_dir, study)]
    root = Path(study.data.root)
    for task in study.tasks:
        cases = predictions.loc[predictions["task"] == task.name, "case"].unique()
        if len(cases):
            sentences.append(seen_before(root, study, task.name, list(cases)))
    return [*sentences, *map(pretraining_in_words, study.references)]


def pretraining_in_words(reference: Reference) -> str:
    """What a competitor was pretrained on, as the study states it."""
    track = f" (track {reference.track})" if reference.track else ""
    if not reference.collections:
        return f"{reference.name}{track} comes from elsewhere; its pretraining is not stated."
    collections = ", ".join(reference.collections)
    return f"{reference.name}{track} comes from elsewhere, pretrained on {collections}."
