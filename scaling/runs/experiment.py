"""From an experiment file, or the folder of a study that was started, and overrides to a validated study."""

import dataclasses
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from scaling.study.config import Study
from scaling.study.phantom import Phantom
from scaling.files import write_text

FROZEN = "study.json"
Config = TypeVar("Config", Study, Phantom)


def freeze(study: Study, study_dir: Path) -> None:
    """Write the study as it is run into its folder: jobs that start later read it there, whatever became of the experiment file."""
    text = json.dumps(dataclasses.asdict(study), indent=1, allow_nan=False) + "\n"
    file = study_dir / FROZEN
    if not file.exists() or file.read_text() != text:
        write_text(file, text)


def load_study(file: Path, overrides: Sequence[str] = (), scale: str | None = None) -> Study:
    """The `study` of an experiment file, that of its `scales` that is called `scale`, or that of a folder one was frozen into, with
    overrides applied strictly.

    An override is "pretrain.batch=32" or "sizes=[\\"xs\\",\\"s\\"]".

    Raises FileNotFoundError for a missing file and ValueError, naming the field, for anything that does not fit.
    """
    if (file / FROZEN).is_file():
        if scale is not None:
            raise ValueError(f"{file} holds one study, which has its scale; leave out --scale {scale}, or name the experiment file")
        try:
            return override(TypeAdapter(Study).validate_json((file / FROZEN).read_text()), overrides)
        except ValidationError as error:
            raise ValueError(f"{file / FROZEN}: {explain(error)}; expected a study of this version, run its experiment file") from error
    if not file.is_file():
        near = sorted(str(other) for other in Path("experiments").glob("*.py"))
        hint = f"; experiments here: {', '.join(near)}" if near else ""
        raise FileNotFoundError(f"there is no experiment file {file}{hint}")
    spec = importlib.util.spec_from_file_location(f"experiment_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ValueError(f"{file} is not a Python file; expected one that defines `study = Study(...)`")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ValidationError as error:
        raise ValueError(f"{file}: {explain(error)}") from error
    scales = getattr(module, "scales", {})
    if (scale is not None or not hasattr(module, "study")) and scales and scale not in scales:
        raise ValueError(f"{file} comes at the scales {', '.join(scales)}; choose one with --scale, or name a study's folder")
    if scale is not None and not scales:
        raise ValueError(f"{file} has no scales; leave out --scale {scale}")
    study = getattr(module, "study", None) if scale is None else scales[scale]
    if not isinstance(study, Study):
        raise ValueError(f"{file} does not define a study; expected `study = Study(...)` at its top level")
    return override(study, overrides)


def override(config: Config, overrides: Sequence[str]) -> Config:
    """A study, or another config, with fields replaced: each override is DOTTED.FIELD=VALUE, the value JSON or plain text.

    Raises ValueError for an unknown field (with the fields there are) or a value of the wrong type.
    """
    if not overrides:
        return config
    values = dataclasses.asdict(config)
    for text in overrides:
        path, separator, value = text.partition("=")
        if not separator:
            raise ValueError(f"override {text!r} has no '='; expected FIELD=VALUE such as pretrain.batch=32")
        set_field(values, path.strip(), value)
    try:
        return TypeAdapter(type(config)).validate_python(values)
    except ValidationError as error:
        raise ValueError(explain(error)) from error


def set_field(values: dict[str, Any], path: str, text: str) -> None:
    """Set one dotted field of nested plain values in place; a number picks an entry of a tuple."""
    node: Any = values
    keys = path.split(".")
    for depth, key in enumerate(keys):
        known = [str(name) for name in (range(len(node)) if isinstance(node, list) else node)] if isinstance(node, list | dict) else []
        if key not in known:
            raise ValueError(f"{path} is not a field of the config: expected one of {', '.join(known) or 'no further field'} for {key!r}")
        place = int(key) if isinstance(node, list) else key
        if depth == len(keys) - 1:
            node[place] = parse(text)
        else:
            if isinstance(node[place], tuple):
                node[place] = list(node[place])
            node = node[place]


def parse(text: str) -> Any:
    """JSON where it is JSON, else the text itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def explain(error: ValidationError) -> str:
    """A validation error in one sentence: which field, what is wrong, what was found."""
    parts = []
    for item in error.errors():
        field = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        found = "" if item["type"] == "value_error" else f" (found {item['input']!r})"
        parts.append(f"{field}: {message}{found}" if field else f"{message}{found}")
    return "; ".join(parts)
