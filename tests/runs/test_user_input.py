"""Overrides as users write them, and faults in their experiment files."""

from pathlib import Path

import pytest

from scaling.runs.experiment import load_study
from scaling.runs.user_input import read_value
from tests.conftest import EXPERIMENT, scaling


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[xs,s]", ["xs", "s"]),
        ("[xs, s]", ["xs", "s"]),
        ('["xs","s"]', ["xs", "s"]),
        ("[320,640]", [320, 640]),
        ("[]", []),
        ("xs", "xs"),
        ("true", True),
        ('{"kind":"mae"}', {"kind": "mae"}),
    ],
)
def test_value_of_an_override_is_json_or_words(text: str, value: object) -> None:
    assert read_value(text) == value


@pytest.mark.parametrize(
    ("override", "field", "value"),
    [
        ("sizes=[xxs,xs]", "sizes", ("xxs", "xs")),
        ("sizes=xs", "sizes", ("xs",)),
        ("durations=640", "durations", (640,)),
        ("seeds=3", "seeds", (3,)),
    ],
)
def test_single_values_and_bare_words_are_understood(
    override: str, field: str, value: tuple[object, ...]
) -> None:
    assert getattr(load_study(EXPERIMENT, [override]), field) == value


def test_number_that_a_field_takes_itself_stays_one() -> None:
    assert load_study(EXPERIMENT, ["execution.mesh=8"]).execution.mesh == 8


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("import os\nsizes = 1 / 0\n", 2, "ZeroDivisionError: division by zero"),
        ("import no_such_module_anywhere\n", 1, "No module named"),
        ("study = Study(\n", 1, "never closed"),
        ("def f():\n    return missing\n\nstudy = f()\n", 2, "name 'missing' is not defined"),
    ],
)
def test_fault_in_an_experiment_file_names_the_users_line_and_ends_with_2(
    tmp_path: Path, text: str, line: int, reason: str
) -> None:
    (tmp_path / "mine.py").write_text(text)
    done = scaling("plan", "mine.py", folder=tmp_path)
    assert done.returncode == 2
    assert f"mine.py, line {line}: " in done.stderr
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
