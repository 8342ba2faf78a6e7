"""Studies by file, folder or name."""

from pathlib import Path

import pytest

from scaling.cli.locate import locate, shipped_experiments
from tests.conftest import scaling


def test_study_is_found_by_file_folder_and_name(tmp_path: Path) -> None:
    study = tmp_path / "runs" / "mine"
    study.mkdir(parents=True)
    (study / "study.json").write_text("{}")
    experiment = tmp_path / "own.py"
    experiment.write_text("")
    assert locate(study, tmp_path / "runs") == study
    assert locate(Path("mine"), tmp_path / "runs") == study
    assert locate(experiment, tmp_path / "runs") == experiment


@pytest.mark.parametrize("name", ["quickstart", "quickstart.py", "experiments/quickstart.py"])
def test_experiment_of_the_package_is_found_from_anywhere(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert locate(Path(name), Path("runs")) == shipped_experiments()["quickstart"]


def test_empty_folder_and_unknown_name_say_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="is an empty folder: no study was started in it"):
        locate(tmp_path / "empty", tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "study.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=f"studies in {tmp_path}: mine"):
        locate(Path("other"), tmp_path)


def test_status_of_an_empty_folder_ends_with_2_and_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    done = scaling("status", "nothing", folder=tmp_path)
    assert done.returncode == 2
    assert "nothing is an empty folder" in done.stderr


def test_version_is_one_line(tmp_path: Path) -> None:
    done = scaling("--version", folder=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("scaling 0.")
