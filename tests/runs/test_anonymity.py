"""What is shown of an anonymous study names nobody and no file."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from scaling.engines.reporting import write_study_report
from scaling.runs.anonymity import HIDDEN, identifying, without_paths, without_people
from scaling.runs.experiment import load_study
from scaling.runs.plan import make_plan


@pytest.mark.parametrize(
    "sentence",
    [
        "/data/ixi/sub_12/ses_1/t1.nii.gz is corrupt",
        "one scan of C:\\scans\\x1 is corrupt",
        "seg-sub-9.nii.gz keeps 38% of its volume",
        "nothing is known of sub_12, nor of P0071.",
    ],
)
def test_paths_and_ids_are_hidden(sentence: str) -> None:
    shown = without_people(sentence, identifying(["PT1/sub_12", "P0071", "x1", "7"]))
    assert HIDDEN in shown
    for secret in ("sub_12", "P0071", "x1", "data", "seg-sub-9"):
        assert secret not in shown


def test_numbers_fractions_and_words_stay() -> None:
    sentence = "7 of 12 scans of fomo60k (3/4 of the subjects) are whole heads; look at 8.5 mm."
    assert without_people(sentence, identifying(["7", "12"])) == sentence
    assert without_paths({"root": "/a/b", "rates": (1, 2.5), "on": True}) == {
        "root": HIDDEN,
        "rates": [1, 2.5],
        "on": True,
    }


def test_page_of_an_anonymous_study_has_neither_ids_nor_paths(
    finished: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "micro"
    shutil.copytree(finished / "runs" / "micro", folder)
    plan = make_plan(load_study(folder))
    open_page = (finished / "runs" / "micro" / "report.html").read_text()
    assert "cohort/fomo-task2-test/labels/sub_" in open_page
    execution = dataclasses.replace(plan.study.execution, anonymous=True)
    study = dataclasses.replace(plan.study, execution=execution)
    write_study_report(folder, dataclasses.replace(plan, study=study))
    page = (folder / "report.html").read_text()
    assert HIDDEN in page
    assert "sub_" not in page
    assert "cohort/fomo" not in page
