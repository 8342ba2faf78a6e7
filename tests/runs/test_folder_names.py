"""Names from outside: nothing is written outside of a study's folder."""

import dataclasses
import json
from pathlib import Path

import pytest

from scaling.runs.experiment import FROZEN, freeze, load_study
from scaling.runs.plan import make_plan
from scaling.runs.rundir import begin
from scaling.runs.steps import Step
from scaling.study.names import name_problem

MICRO = Path(__file__).parents[1] / "micro_study.py"
HOSTILE = [
    "../../outside",
    "/etc/cron.d/x",
    "a/b",
    "a\\b",
    "..",
    ".hidden",
    "-rf",
    "a b",
    "a\nb",
    "a;touch x",
    "$(touch x)",
    "a%j",
    "nul\0",
    "",
    "x" * 101,
]


@pytest.mark.parametrize("name", HOSTILE)
def test_name_that_is_no_plain_folder_is_refused(name: str) -> None:
    assert "it names a folder" in name_problem("tasks", name)


@pytest.mark.parametrize("name", ["brain-age", "FOMO25_task1.v2", "Größe", "1", "x" * 100])
def test_plain_name_is_taken(name: str) -> None:
    assert name_problem("tasks", name) == ""


@pytest.mark.parametrize("field", ["name", "task", "objective"])
@pytest.mark.parametrize("name", ["../../outside", "-rf", ".."])
def test_study_of_others_cannot_name_a_place_outside_of_its_folder(
    tmp_path: Path, field: str, name: str
) -> None:
    freeze(load_study(MICRO), tmp_path)
    values = json.loads((tmp_path / FROZEN).read_text())
    match field:
        case "name":
            values["name"] = name
        case "task":
            values["tasks"][0]["name"] = name
        case _:
            values["objectives"][0]["name"] = name
    (tmp_path / FROZEN).write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"study.json: .*it names a folder"):
        load_study(tmp_path)


def test_step_outside_of_the_study_is_never_begun(tmp_path: Path) -> None:
    step: Step = make_plan(load_study(MICRO)).steps[1]
    outside = dataclasses.replace(step, name="../outside")
    with pytest.raises(ValueError, match=r"step '../outside' lies outside of"):
        begin(tmp_path / "study", outside, "cpu")
    assert not (tmp_path / "outside").exists()
