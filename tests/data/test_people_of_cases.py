"""Scans of one person under two names are dealt together: held out, or in one fold."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from scaling.data.draws import without_images
from scaling.data.folds import folds
from scaling.data.labels import labelled_sessions
from scaling.data.tasks import Cases, TaskArrays, with_held_out
from scaling.study.config import Source, Task

SUBJECTS = [f"sub_{number}" for number in range(12)]
# Every person has two names: the halves of the list.
PERSON = {subject: f"p{number % 6}" for number, subject in enumerate(SUBJECTS)}
INDEX = pd.DataFrame(
    {
        "path": [f"a/{subject}/t1.nii.gz" for subject in SUBJECTS],
        "source": "a",
        "part": "train",
        "subject": SUBJECTS,
        "session": "ses_1",
        "sequence": "t1",
        "run": "",
        "site": "x",
        "status": "ok",
        "label": "",
        "mask_row": -1,
        "person": PERSON.values(),
        "age": [str(50 + number) for number in range(12)],
    }
)
DEALS = {"half": {"held_out": 0.5}, "two": {"held_out": 2}, "folds": {"folds": 3}}


def task(**fields: object) -> Task:
    common = {"label": "age", "test": (), "shots": (2,), "draws": 1}
    return Task("aged", "regression", ("t1",), Source("a"), **(common | fields))  # type: ignore[arg-type]


def people_in(cases: Cases) -> set[str]:
    return {PERSON[case.split("/")[1]] for case in cases.ids}


@pytest.mark.parametrize("deal", DEALS)
def test_two_names_of_a_person_are_on_one_side(deal: str) -> None:
    one = task(**DEALS[deal])
    cases = without_images(labelled_sessions(INDEX, one, (one.train,)), one)
    parts = list(folds(TaskArrays(cases, cases, np.ones(12, bool), ()), one))
    for part in parts:
        assert not people_in(part.train) & people_in(part.test)
        assert sorted([*part.train.ids, *part.test.ids]) == sorted(cases.ids)
    if deal == "folds":
        assert sorted(case for part in parts for case in part.test.ids) == sorted(cases.ids)
    else:
        assert len(people_in(parts[0].test)) == (3 if deal == "half" else 2)


def test_names_without_a_person_are_dealt_by_subject() -> None:
    one = task(held_out=0.5)
    index = INDEX.assign(person="")
    (with_column, without) = (
        without_images(labelled_sessions(table, one, (one.train,)), one)
        for table in (index, INDEX.drop(columns="person"))
    )
    by_ids = dataclasses.replace(without, people=None)
    tested = [
        next(iter(folds(TaskArrays(cases, cases, np.ones(12, bool), ()), one))).test.ids
        for cases in (with_column, without, by_ids)
    ]
    assert tested[0] == tested[1] == tested[2]
    assert len(tested[0]) == 6


def test_what_is_checked_before_training_is_what_is_tested() -> None:
    one = task(held_out=0.5)
    sessions = labelled_sessions(INDEX, one, (one.train,))
    cases = without_images(sessions, one)
    (part,) = folds(TaskArrays(cases, cases, np.ones(12, bool), ()), one)
    checked = with_held_out({"training": sessions}, one)
    assert [session.id for session in checked["test"].usable] == part.test.ids
