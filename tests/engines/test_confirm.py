"""Finished checkpoints on test data: nothing is pretrained, and old test data give the old
results.
"""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from scaling.engines.confirm import confirmation_plan
from scaling.runs.experiment import load_study
from tests.conftest import EXPERIMENT, scaling

KEYS = ["run", "arm", "protocol", "shots", "draw", "site", "metric"]


@pytest.mark.slow
def test_confirm_on_the_same_test_cases_gives_the_same_results(
    finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True, symlinks=True)
    done = scaling(
        "confirm",
        "runs/micro",
        "--test",
        "cohort/fomo-task3-test",
        "--task",
        "brain-age",
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "brain-age, on new test cases:" in done.stdout
    folder = tmp_path / "runs/micro/confirmations/micro-confirm-fomo-task3-test"
    again = pd.read_parquet(folder / "results.parquet").set_index(KEYS)["value"].sort_index()
    first = pd.read_parquet(tmp_path / "runs/micro/results.parquet")
    first = first[(first["task"] == "brain-age") & (first["arm"] != "supervised in domain")]
    pd.testing.assert_series_equal(again, first.set_index(KEYS)["value"].sort_index())


def test_confirm_of_an_unfinished_study_is_refused(tmp_path: Path) -> None:
    study = load_study(EXPERIMENT)
    with pytest.raises(ValueError, match="unfinished pretraining runs, first pretrain/"):
        confirmation_plan(study, tmp_path, tmp_path, ())
