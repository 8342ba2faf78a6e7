"""`scaling step`: one step of a plan, the unit that any engine drives."""

import shutil
from pathlib import Path

import pytest

from scaling.runs.lock import locked
from tests.conftest import EXPERIMENT, scaling

STUDY = Path("runs/micro")
TRANSFER = "transfer/mae-xxs-seed0-160-infarct"


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A finished study that may be changed."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_step_of_a_studys_folder_runs_once_and_gives_the_same_again(copied: Path) -> None:
    before = (copied / STUDY / TRANSFER / "predictions.parquet").read_bytes()
    shutil.rmtree(copied / STUDY / TRANSFER)
    done = scaling("step", STUDY, TRANSFER, folder=copied)
    assert done.returncode == 0, done.stderr
    assert (copied / STUDY / TRANSFER / "predictions.parquet").read_bytes() == before
    marker = (copied / STUDY / TRANSFER / "DONE").stat().st_mtime_ns
    assert scaling("step", STUDY, TRANSFER, folder=copied).returncode == 0
    assert (copied / STUDY / TRANSFER / "DONE").stat().st_mtime_ns == marker


def test_step_before_what_it_needs_is_refused(copied: Path) -> None:
    shutil.rmtree(copied / STUDY / TRANSFER)
    (copied / STUDY / "pretrain/mae-xxs-seed0-160/DONE").unlink()
    done = scaling("step", STUDY, TRANSFER, folder=copied)
    assert done.returncode == 1
    assert (
        f"{TRANSFER} needs pretrain/mae-xxs-seed0-160, which is partial; run that first"
        in done.stderr
    )
    assert not (copied / STUDY / TRANSFER).exists()


def test_step_that_another_process_runs_is_left_to_it(copied: Path) -> None:
    shutil.rmtree(copied / STUDY / TRANSFER)
    with locked(copied / STUDY / TRANSFER / "LOCK"):
        done = scaling("step", EXPERIMENT, TRANSFER, folder=copied)
    assert done.returncode == 1
    assert "is being written by process" in done.stderr
    assert list((copied / STUDY / TRANSFER).iterdir()) == []


def test_step_that_is_none_is_named(copied: Path) -> None:
    done = scaling("step", STUDY, "pretrain/huge", folder=copied)
    assert done.returncode == 2
    assert "micro has no step 'pretrain/huge'" in done.stderr
