"""README and documentation name only what is there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from scaling.cli import app

ROOT = Path(__file__).parents[1]
GENERATED = {"config.md", "cli.md"}  # by docs/reference.py
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def verbs(command: object, path: str = "scaling") -> Iterator[str]:
    """Every verb that can be called, with the groups before it."""
    below = getattr(command, "commands", None)
    if below is None:
        yield path
        return
    for name, one in below.items():
        yield from verbs(one, f"{path} {name}")


def test_readme_is_a_door_of_at_most_120_lines() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_links_only_to_what_is_there(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    missing = []
    for target in targets:
        local = not target.startswith(("http", "mailto:"))
        if local and Path(target).name not in GENERATED and not (page.parent / target).exists():
            missing.append(target)
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_names_only_files_that_are_there(page: Path) -> None:
    pattern = r"\b((?:experiments|scaling|tests|analysis|docs)/[\w./-]+\.(?:py|toml|csv|ipynb))\b"
    missing = [name for name in re.findall(pattern, page.read_text()) if not (ROOT / name).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_names_only_verbs_that_are_there(page: Path) -> None:
    known = set(verbs(typer.main.get_command(app)))
    groups = {verb.rsplit(" ", 1)[0] for verb in known}
    pattern = r"(?:^|`|/)(scaling (?:data )?[a-z]+(?:-[a-z]+)*)"
    called = re.findall(pattern, page.read_text(), re.MULTILINE)
    assert not [verb for verb in called if verb not in known | groups]
