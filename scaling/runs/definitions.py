"""An experiment file that registers kinds of its own: its copy in the study's folder, and which of
its definitions were changed since.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from scaling.files import write_text
from scaling.runs.experiment import REGISTERING
from scaling.runs.rundir import Status

# Steps that a definition of the user's changes nothing of.
BEFORE_LEARNING = ("phantom", "prepare")


def keep_experiment(file: Path, study_dir: Path, statuses: Mapping[str, Status]) -> None:
    """Copy an experiment file that registers kinds of its own into the study's folder: jobs that
    read the study there register them first.

    Raises ValueError, naming them, where definitions differ from those of the copy and steps that
    may have used them are done or begun.
    """
    if not file.is_file() or "register_" not in file.read_text():
        return
    copy, text = study_dir / REGISTERING, file.read_text()
    if copy.is_file():
        begun = [
            name
            for name, status in statuses.items()
            if status in ("done", "partial") and name not in BEFORE_LEARNING
        ]
        changed = changed_definitions(copy.read_text(), text)
        if begun and changed:
            raise ValueError(
                f"{file} defines {', '.join(changed)} otherwise than {copy}, with which "
                f"{begun[0]} was run; give the study another name, delete {study_dir}, or take "
                "the change back"
            )
    study_dir.mkdir(parents=True, exist_ok=True)
    write_text(copy, text)


def changed_definitions(old: str, new: str) -> list[str]:
    """Names of what is registered, or used by it, that differs between two versions of a file.
    Comments, and what only the study is made of, do not count.
    """
    before, after = registered(old), registered(new)
    return sorted(
        name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
    )


def registered(text: str) -> dict[str, str]:
    """Name -> code of what the registering calls of a file use, directly or not; each call by its
    own text.
    """
    defined: dict[str, list[ast.stmt]] = {}
    reached: dict[str, str] = {}
    waiting: list[str] = []
    for statement in ast.parse(text).body:
        for name in names_defined(statement):
            defined.setdefault(name, []).append(statement)
        if isinstance(statement, ast.Import | ast.ImportFrom):
            continue
        if any(name.startswith("register_") for name in names_used([statement])):
            reached[ast.unparse(statement).splitlines()[0]] = ast.dump(statement)
            waiting += names_used([statement])
    while waiting:
        name = waiting.pop()
        if name in defined and name not in reached:
            reached[name] = " ".join(map(ast.dump, defined[name]))
            waiting += names_used(defined[name])
    return reached


def names_defined(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement at the top of a file binds."""
    match statement:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            yield from ((one.asname or one.name).split(".")[0] for one in names)
        case _:
            for node in ast.walk(statement):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    yield node.id


def names_used(statements: Iterable[ast.stmt]) -> list[str]:
    """All names and attributes that statements read."""
    nodes = [node for statement in statements for node in ast.walk(statement)]
    names = [node.id for node in nodes if isinstance(node, ast.Name)]
    return names + [node.attr for node in nodes if isinstance(node, ast.Attribute)]
