"""The pages a user meets first."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from scaling.cli import app
from tests.conftest import scaling


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            [],
            [
                "run",
                "plan",
                "status",
                "collect",
                "report",
                "export",
                "convert-weights",
                "embed",
                "data",
                "scaling run quickstart",
                "Exit codes",
            ],
        ),
        (["run"], ["--set", "experiment", "resumes"]),
        (["data"], ["phantom", "check", "prepare"]),
    ],
)
def test_help_names_what_there_is(tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    page = scaling(*arguments, "--help", folder=tmp_path)
    assert page.returncode == 0
    assert all(word in page.stdout for word in words), page.stdout


def verbs(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command, of groups as well."""
    yield words
    for name, inner in getattr(command, "commands", {}).items():
        yield from verbs(inner, (*words, name))


def test_every_verb_has_a_page() -> None:
    every = list(verbs(typer.main.get_command(app)))
    assert {("score",), ("data", "prepare")} <= set(every)
    for words in every:
        page = CliRunner().invoke(app, [*words, "--help"])
        assert page.exit_code == 0, (words, page.exception)
        assert "Usage:" in page.output, words


def test_experiments_of_the_readme_can_be_planned(tmp_path: Path) -> None:
    files = sorted((Path(__file__).parents[2] / "experiments").glob("*.py"))
    experiments = [file for file in files if "= Study(" in file.read_text()]
    assert {file.stem for file in experiments} >= {"quickstart", "ixi", "fomo25", "cohort"}
    for experiment in experiments:
        named = {
            "fomo25": ("tiny", "small", "full"),
            "fomo26": ("tiny", "small", "full"),
            "cohort": ("objectives", "finetune", "sizes", "decoders"),
        }.get(experiment.stem, ())
        scales = [["--scale", scale] for scale in named] or [[]]
        for scale in scales:
            done = scaling("plan", experiment, *scale, folder=tmp_path)
            assert done.returncode == 0, done.stderr
            assert "FLOP" in done.stdout
