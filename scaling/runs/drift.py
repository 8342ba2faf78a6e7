"""The config that a step was run with, and whether the step of today is another."""

import dataclasses
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from scaling.files import check_format, read_marker
from scaling.runs.steps import Step

CONFIG, PROVENANCE = "config.json", "provenance.json"


class ConfigDriftError(ValueError):
    """A run directory holds results of another config."""


def resolved(step: Step) -> dict[str, Any]:
    """The step's config as plain JSON values: the identity of its results."""
    return json.loads(json.dumps({"kind": step.kind, **dataclasses.asdict(step.config)}))


def config_digest(step: Step, texts: dict[int, str] | None = None) -> str:
    """A digest of `resolved(step)`. `texts` remembers the parts that the steps of one plan share,
    by their `id`: resolving data and recipes anew for thousands of steps takes many seconds.
    """
    texts = {} if texts is None else texts
    config = step.config
    parts: list[str] = [step.kind]
    for name in config.__dataclass_fields__:
        value = getattr(config, name)
        text = texts.get(id(value))
        if text is None:
            text = json.dumps(as_plain(value))
            if hasattr(value, "__dataclass_fields__"):
                texts[id(value)] = text
        parts.append(f"{name}={text}")
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def as_plain(value: Any) -> Any:
    """A field of a config as plain values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, tuple):
        return [as_plain(item) for item in value]
    return value


def differences(old: Any, new: Any, field: str = "") -> list[str]:
    """Names of the fields in which two configs differ, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        changed = []
        for key in sorted(old.keys() | new.keys()):
            name = f"{field}.{key}" if field else key
            changed += differences(old.get(key), new.get(key), name)
        return changed
    if old == new:
        return []
    return [f"{field} was {json.dumps(old)}, is {json.dumps(new)}"]


def config_changes(folder: Path, step: Step) -> list[str] | None:
    """In what `folder`'s config differs from the step's; None when the folder tells no config.

    A config of an earlier version that lacks fields has their defaults: docs/formats.md.
    """
    old = read_marker(folder / CONFIG)
    if old is None:
        return None
    written = read_marker(folder / PROVENANCE) or {}
    check_format(written.get("format", 1), folder / PROVENANCE)
    new = resolved(step)
    if old == new:
        return []
    return differences(with_defaults(old, step.config), new)


def with_defaults(old: Any, config: Any) -> Any:
    """A config that was written by an earlier version, with the defaults of the fields it lacks."""
    if isinstance(config, tuple) and isinstance(old, list) and len(old) == len(config):
        return [with_defaults(item, now) for item, now in zip(old, config, strict=True)]
    if not dataclasses.is_dataclass(config) or not isinstance(old, dict):
        return old
    complete = dict(old)
    for field in dataclasses.fields(config):
        if field.name in old:
            complete[field.name] = with_defaults(old[field.name], getattr(config, field.name))
        elif field.default is not dataclasses.MISSING:
            complete[field.name] = json.loads(json.dumps(as_plain(field.default)))
    return complete


def only_more_draws(step: Step, changes: list[str]) -> bool:
    """Whether a transfer differs in wanting more draws alone: those it has are seeded one by one,
    and stay.
    """
    if step.kind != "transfer" or len(changes) != 1:
        return False
    change = re.fullmatch(r"task\.draws was (\d+), is (\d+)", changes[0])
    return change is not None and int(change[1]) < int(change[2])


def only_grown(step: Step, changes: list[str]) -> bool:
    """Whether a step of preparation differs in its tasks alone: it then prepares what is missing
    and checks all tasks; nothing that was made before is affected.
    """
    return step.kind == "prepare" and all(change.startswith("tasks") for change in changes)
