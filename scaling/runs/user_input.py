"""What users write, read with good will: values of overrides, and faults in experiment files."""

import json
import traceback
from pathlib import Path
from typing import Any

from pydantic import ValidationError


def read_value(text: str) -> Any:
    """The value of an override: JSON where it is JSON, else the text itself.

    A list may be written without the quotes that a shell would take: [xs,s] is ["xs","s"].
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        pass
    inner = text.strip()
    if inner.startswith("[") and inner.endswith("]") and not set(inner[1:-1]) & set("[]{}\"'"):
        words = [word.strip() for word in inner[1:-1].split(",")]
        return [read_value(word) for word in words if word]
    return text


def wrap_single_values(values: dict[str, Any], error: ValidationError) -> bool:
    """Make a list of each single value that stands where a list is expected: durations=1000.

    Returns whether that was all that was wrong; then `values`, changed in place, may be right.
    """
    items = error.errors()
    if not all(item["type"] == "tuple_type" for item in items):
        return False
    for item in items:
        *path, last = item["loc"]
        node: Any = values
        for key in path:
            node = entry_of(node, key)
        if not isinstance(node, dict) or not isinstance(node.get(last), str | int | float | dict):
            return False
        node[last] = [node[last]]
    return True


def entry_of(node: Any, key: int | str) -> Any:
    """The entry of a dictionary or list, None where there is none."""
    if isinstance(node, dict):
        return node.get(key)
    if isinstance(node, list) and isinstance(key, int) and key < len(node):
        return node[key]
    return None


def blame(file: Path, error: Exception) -> str:
    """Where an experiment file fails and why: the user's own line, not ours."""
    if isinstance(error, SyntaxError):
        line = (error.text or "").strip()
        return f"{file}, line {error.lineno}: {error.msg}\n    {line}"
    frames = traceback.extract_tb(error.__traceback__)
    of_file = [frame for frame in frames if Path(frame.filename).resolve() == file.resolve()]
    reason = f"{type(error).__name__}: {error}"
    if not of_file:
        return f"{file}: {reason}"
    frame = of_file[-1]
    return f"{file}, line {frame.lineno}: {reason}\n    {frame.line}"
