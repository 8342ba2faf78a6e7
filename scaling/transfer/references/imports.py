"""Which files of a user's own a Python file imports, found without running any of them."""

import ast
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path

# Folders of what is installed, below any of which a file is not the user's own to edit.
INSTALLED = ("site-packages", "dist-packages")


def files_of_module(file: Path, module: str) -> list[Path]:
    """The file that defines `module`, the packages around it ("": it is in none), and, sorted, all
    files of the user's own that they import, directly or not, inside of functions too.

    Installed packages, the standard library and this library are left out, as are names that only
    running a file would tell.
    """
    found = [file, *located(module.split(".")[:-1])]
    for one in found:  # grows as it is gone through
        for other in imported_files(one):
            if other not in found and is_own(other):
                found.append(other)
    return [file, *sorted(found[1:])]


def is_own(file: Path) -> bool:
    """Whether a file is neither installed, nor of the standard library, nor of this library."""
    if any(part in INSTALLED for part in file.parts):
        return False
    library = Path(__file__).resolve().parents[2]
    standard = (Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))
    return not any(file.is_relative_to(folder) for folder in (library, *standard))


def imported_files(file: Path) -> Iterator[Path]:
    """The files of all modules that a Python file names in an import, the packages around them
    included.
    """
    if file.suffix != ".py":
        return
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return  # its import says so
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                for name in names:
                    yield from located(name.name.split("."))
            case ast.ImportFrom(module=module, names=names, level=level):
                parts = module.split(".") if module else []
                within = [str(file.parents[level - 1])] if level else None
                for name in names:
                    yield from located([*parts, name.name], within)


def located(parts: Sequence[str], within: Sequence[str] | None = None) -> Iterator[Path]:
    """The files of a module and the packages around it, as far as they are there: of `a.b.c` those
    of a, a.b and a.b.c, where c may be a mere name within a.b. Searched in the folders `within`,
    None for those of Python.
    """
    search = within
    for depth in range(1, len(parts) + 1):
        spec = spec_of(".".join(parts[:depth]), search)
        if spec is None:
            return
        if spec.origin is not None and Path(spec.origin).is_file():
            yield Path(spec.origin).resolve()
        if spec.submodule_search_locations is None:
            return
        search = list(spec.submodule_search_locations)


def spec_of(name: str, search: Sequence[str] | None) -> ModuleSpec | None:
    """Where a module is, found as an import finds it, without importing the packages around it."""
    for finder in sys.meta_path:
        spec = finder.find_spec(name, search)
        if spec is not None:
            return spec
    return None
