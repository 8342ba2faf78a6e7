"""Subject ids and paths, kept out of what leaves the machine (`execution.anonymous`)."""

import re
from pathlib import Path
from typing import Any

from scaling.files import read_json

HIDDEN = "[hidden]"
FILES = r"nii|gz|mgz|mgh|img|hdr|b2nd|npy|npz|csv|tsv|parquet|txt|json"
PATH = re.compile(rf"[^\s,;:()'\"]*[/\\][^\s,;:()'\"]*|[\w.+-]+\.(?:{FILES})\b")
FRACTION = re.compile(r"\d+/\d+")
WORD = re.compile(r"[\w.+-]+")


def without_paths(value: Any) -> Any:
    """A config's values, or a sentence, without paths."""
    match value:
        case dict():
            return {key: without_paths(item) for key, item in value.items()}
        case list() | tuple():
            return [without_paths(item) for item in value]
        case str():
            return PATH.sub(hidden_path, value)
        case _:
            return value


def hidden_path(path: re.Match[str]) -> str:
    """What stands in a path's place; a fraction such as 3/4 is none."""
    return path[0] if FRACTION.fullmatch(path[0]) else HIDDEN


def without_people(sentence: str, subjects: frozenset[str]) -> str:
    """A sentence without paths and without the ids in `subjects`."""

    def hidden(word: re.Match[str]) -> str:
        return HIDDEN if word[0].rstrip(".") in subjects else word[0]

    return WORD.sub(hidden, without_paths(sentence))


def identifying(subjects: Any) -> frozenset[str]:
    """The ids that tell a person apart from a count: with a letter, or of three digits or more."""
    ids = {str(subject).rpartition("/")[2] for subject in subjects}
    return frozenset(name for name in ids if not re.fullmatch(r"\d{0,2}", name))


def is_anonymous(study_dir: Path) -> bool:
    """Whether the study of a folder was frozen as one that shows no ids and paths."""
    file = study_dir / "study.json"
    if not file.exists():
        return False
    execution: dict[str, Any] = read_json(file).get("execution", {})
    return bool(execution.get("anonymous", False))
