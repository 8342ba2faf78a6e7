"""From an experiment file, or the folder of a study that was started, and overrides to a study."""

import dataclasses
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from scaling.files import FORMAT, check_format, write_json
from scaling.runs.user_input import blame, read_value, wrap_single_values
from scaling.study.config import Study
from scaling.study.phantom import Phantom

FROZEN = "study.json"
REGISTERING = "experiment.py"  # an experiment file that registers kinds of its own
Config = TypeVar("Config", Study, Phantom)


def freeze(study: Study, study_dir: Path) -> None:
    """Write the study as it is run into its folder: jobs that start later read it there, whatever
    became of the experiment file.
    """
    values = {"format": FORMAT, **dataclasses.asdict(study)}
    file = study_dir / FROZEN
    text = json.dumps(values, indent=1, allow_nan=False) + "\n"
    if not file.exists() or file.read_bytes() != text.encode():
        write_json(file, values)


def load_study(file: Path, overrides: Sequence[str] = (), scale: str | None = None) -> Study:
    """The `study` of an experiment file, that of its `scales` that is called `scale`, or that of a
    folder one was frozen into, with overrides applied strictly.

    An override is "pretrain.batch=32" or "sizes=[\\"xs\\",\\"s\\"]".

    Raises FileNotFoundError for a missing file and ValueError, naming the field, for anything that
    does not fit.
    """
    if (file / FROZEN).is_file():
        if scale is not None:
            raise ValueError(
                f"{file} holds one study, which has its scale; leave out --scale {scale}, or name "
                "the experiment file"
            )
        if (file / REGISTERING).is_file():
            executed(file / REGISTERING)
        return override(thawed(file / FROZEN), overrides)
    if not file.is_file():
        examples = sorted(str(other) for other in Path("experiments").glob("*.py"))
        hint = f"; experiments here: {', '.join(examples)}" if examples else ""
        raise FileNotFoundError(f"there is no experiment file {file}{hint}")
    module = executed(file)
    scales = getattr(module, "scales", {})
    if scale is None and hasattr(module, "study"):
        study = module.study
    elif not scales:
        if scale is not None:
            raise ValueError(f"{file} has no scales; leave out --scale {scale}")
        study = None
    elif scale not in scales:
        raise ValueError(
            f"{file} comes at the scales {', '.join(scales)}; choose one with --scale, or name a "
            "study's folder"
        )
    else:
        study = scales[scale]
    if not isinstance(study, Study):
        raise ValueError(
            f"{file} does not define a study; expected `study = Study(...)` at its top level"
        )
    return override(study, overrides)


def thawed(file: Path) -> Study:
    """The study of a study.json. Raises ValueError when it is damaged or of another version."""
    try:
        values = json.loads(file.read_bytes())
        if not isinstance(values, dict):
            raise ValueError(f"it holds a {type(values).__name__}, not the fields of a study")
    except ValueError as error:
        raise ValueError(
            f"{file} cannot be read ({error}); run the study's experiment file, which writes it "
            "again"
        ) from error
    check_format(values.pop("format", 1), file)
    try:
        return TypeAdapter(Study).validate_json(json.dumps(values))
    except ValidationError as error:
        raise ValueError(
            f"{file}: {explain(error)}; expected a study of this version, run its experiment file"
        ) from error


def executed(file: Path) -> ModuleType:
    """The module that an experiment file defines."""
    spec = importlib.util.spec_from_file_location(f"experiment_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ValueError(
            f"{file} is not a Python file; expected one that defines `study = Study(...)`"
        )
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ValidationError as error:
        raise ValueError(f"{file}: {explain(error)}") from error
    except Exception as error:  # whatever a user's file does, the user is told where
        raise ValueError(blame(file, error)) from error
    return module


def override(config: Config, overrides: Sequence[str]) -> Config:
    """A study, or another config, with fields replaced: each override is DOTTED.FIELD=VALUE, the
    value JSON or plain text.

    Raises ValueError for an unknown field (with the fields there are) or a value of the wrong type.
    """
    if not overrides:
        return config
    values = dataclasses.asdict(config)
    for text in overrides:
        path, separator, value = text.partition("=")
        if not separator:
            raise ValueError(
                f"override {text!r} has no '='; expected FIELD=VALUE such as pretrain.batch=32"
            )
        set_field(values, path.strip(), value)
    adapter = TypeAdapter(type(config))
    try:
        try:
            return adapter.validate_python(values)
        except ValidationError as error:
            if not wrap_single_values(values, error):
                raise
            return adapter.validate_python(values)
    except ValidationError as error:
        raise ValueError(explain(error)) from error


def set_field(values: dict[str, Any], path: str, text: str) -> None:
    """Set one dotted field of nested plain values in place; a number picks an entry of a tuple."""
    node: Any = values
    keys = path.split(".")
    for depth, key in enumerate(keys):
        names = field_names(node)
        if key not in names:
            expected = ", ".join(names) or "no further field"
            raise ValueError(
                f"{path} is not a field of the config: expected one of {expected} for {key!r}"
            )
        place = int(key) if isinstance(node, list) else key
        if depth == len(keys) - 1:
            node[place] = read_value(text)
        else:
            if isinstance(node[place], tuple):
                node[place] = list(node[place])
            node = node[place]


def field_names(node: Any) -> list[str]:
    """What can follow in a dotted path: the fields of a config, the positions of a list."""
    if isinstance(node, list):
        return [str(position) for position in range(len(node))]
    return list(node) if isinstance(node, dict) else []


def explain(error: ValidationError) -> str:
    """A validation error in one sentence: which field, what is wrong, what was found."""
    sentences = []
    for item in error.errors():
        field = ".".join(str(name) for name in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        value = "" if item["type"] == "value_error" else f" (found {item['input']!r})"
        sentences.append(f"{field}: {message}{value}" if field else f"{message}{value}")
    return "; ".join(sentences)
