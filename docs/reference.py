"""Write the reference pages of the configuration and of the command line.

The configuration's page comes from the docstrings of the config classes and of their fields, the
command line's from the verbs themselves, so that neither can be out of date.

    python docs/reference.py          # writes docs/reference/config.md and docs/reference/cli.md
"""

import dataclasses
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from scaling.study.config import Study

FOLDER = Path(__file__).parent / "reference"


def config_classes(config: type) -> Iterator[type]:
    """`config`, then every config class that a field of it names, once each, in reading order."""
    waiting = [config]
    seen: set[type] = set()
    while waiting:
        current = waiting.pop(0)
        if current in seen:
            continue
        seen.add(current)
        yield current
        for field in current.__pydantic_fields__.values():  # type: ignore[attr-defined]
            waiting.extend(classes_in(field.annotation))


def classes_in(annotation: Any) -> list[type]:
    """The config classes that a type annotation mentions."""
    if hasattr(annotation, "__pydantic_fields__"):
        return [annotation]
    mentioned: list[type] = []
    for argument in get_args(annotation):
        mentioned.extend(classes_in(argument))
    return mentioned


def class_section(config: type) -> str:
    """One section: the class's docstring and a table of its fields."""
    lines = [f"## {config.__name__}", "", inspect.cleandoc(config.__doc__ or ""), ""]
    lines += ["| field | type | default | meaning |", "|---|---|---|---|"]
    for name, field in config.__pydantic_fields__.items():  # type: ignore[attr-defined]
        meaning = " ".join((field.description or "").split())
        lines.append(
            f"| `{name}` | {cell(type_name(field.annotation))} | {default_of(field)} |"
            f" {meaning.replace('|', chr(92) + '|')} |"
        )
    return "\n".join(lines) + "\n"


def type_name(annotation: Any) -> str:
    """A type as it is read: class names without their modules."""
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__name__
    text = str(annotation).replace("typing.", "")
    for config in config_classes(Study):
        text = text.replace(f"{config.__module__}.{config.__qualname__}", config.__name__)
    return text


def default_of(field: Any) -> str:
    """The default of a field in a table's cell, or "required"."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if dataclasses.is_dataclass(value):
        return f"`{type(value).__name__}()`"
    return cell(repr(value)) if len(repr(value)) < 60 else "see the class"


def cell(text: str) -> str:
    """Code in a cell of a Markdown table."""
    return f"`{text}`".replace("|", "\\|")


def main() -> None:
    """Write both pages."""
    FOLDER.mkdir(exist_ok=True)
    sections = [class_section(config) for config in config_classes(Study)]
    intro = "# Configuration\n\nEvery field of a study. Units: mm, years, samples.\n\n"
    (FOLDER / "config.md").write_text(intro + "\n".join(sections))
    typer = [sys.executable, "-m", "typer", "scaling.cli", "utils", "docs"]
    command = [*typer, "--name", "scaling", "--title", "Command line"]
    subprocess.run([*command, "--output", str(FOLDER / "cli.md")], check=True)


if __name__ == "__main__":
    main()
