"""Write the reference pages of the configuration and of the command line.

The configuration's page comes from the docstrings of the config classes and of their fields, the
command line's from the verbs themselves, so that neither can be out of date.

    python docs/reference.py          # writes docs/reference/config.md and docs/reference/cli.md
"""

import dataclasses
import inspect
import types
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click
import typer

from scaling.cli import app
from scaling.study.config import Study
from scaling.study.families import FAMILIES
from scaling.study.objectives import OBJECTIVES

# Fields of these types hold any class that is registered: the library's own are listed.
OPEN: dict[Any, dict[str, Any]] = {
    kinds.base: dict(kinds.classes) for kinds in (OBJECTIVES, FAMILIES)
}

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
        return [annotation, *OPEN.get(annotation, {}).values()]
    mentioned: list[type] = []
    for argument in get_args(annotation):
        mentioned.extend(classes_in(argument))
    return mentioned


def class_section(config: type) -> str:
    """One section: the class's docstring and a table of its fields."""
    lines = [f"## {config.__name__}", "", inspect.cleandoc(config.__doc__ or ""), ""]
    lines += ["| field | type | default | meaning |", "|---|---|---|---|"]
    for name, field in config.__pydantic_fields__.items():  # type: ignore[attr-defined]
        meaning = " ".join(description_of(config, name).split())
        lines.append(
            f"| `{name}` | {cell(type_name(field.annotation))} | {default_of(field)} |"
            f" {meaning.replace('|', chr(92) + '|')} |"
        )
    return "\n".join(lines) + "\n"


def description_of(config: type, name: str) -> str:
    """The docstring under a field, in the class itself or in the one it inherits it from."""
    for owner in config.__mro__:
        field = getattr(owner, "__pydantic_fields__", {}).get(name)
        if field is not None and field.description:
            return str(field.description)
    return ""


def type_name(annotation: Any) -> str:
    """A type as it is read: class names without modules, without what only validation needs."""
    if get_origin(annotation) is Annotated:
        return type_name(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return " | ".join(repr(value) for value in get_args(annotation))
    if get_origin(annotation) in (Union, UnionType):
        return " | ".join(type_name(argument) for argument in get_args(annotation))
    if get_args(annotation):
        arguments = [type_name(argument) for argument in get_args(annotation)]
        return f"{get_origin(annotation).__name__}[{', '.join(arguments)}]"
    match annotation:
        case None | types.NoneType:
            return "None"
        case types.EllipsisType():
            return "..."
        case type():
            return annotation.__name__
        case _:
            return str(annotation)


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


def command_sections(command: click.Command, path: str) -> Iterator[str]:
    """The sections of a command and of those below it."""
    if hasattr(command, "commands"):
        for name, below in sorted(command.commands.items()):
            yield from command_sections(below, f"{path} {name}")
        return
    lines = [f"## {path}", "", inspect.cleandoc(command.help or ""), ""]
    lines += ["| argument or option | default | meaning |", "|---|---|---|"]
    context = click.Context(command, info_name=path)
    for parameter in command.get_params(context):
        if parameter.name != "help":
            lines.append(parameter_row(parameter))
    yield "\n".join(lines) + "\n"


def parameter_row(parameter: click.Parameter) -> str:
    """One argument or option as a row of the table."""
    spelling = ", ".join([*parameter.opts, *parameter.secondary_opts])
    if parameter.param_type_name == "argument":
        spelling = (parameter.name or "").upper()
    default = "required" if parameter.required else cell(str(parameter.default))
    if not parameter.required and parameter.default in (None, ""):
        default = ""
    meaning = " ".join((getattr(parameter, "help", None) or "").split())
    return f"| {cell(spelling)} | {default} | {meaning.replace('|', chr(92) + '|')} |"


def main() -> None:
    """Write both pages."""
    FOLDER.mkdir(exist_ok=True)
    classes = [class_section(config) for config in config_classes(Study)]
    title = "# Configuration\n\nEvery field of a study. Units: mm, years, samples.\n\n"
    (FOLDER / "config.md").write_text(title + "\n".join(classes))
    verbs = command_sections(typer.main.get_command(app), "scaling")
    title = "# Command line\n\nEvery verb with its arguments and options.\n\n"
    (FOLDER / "cli.md").write_text(title + "\n".join(verbs))


if __name__ == "__main__":
    main()
