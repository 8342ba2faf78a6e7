"""What surrounds a network in a submission container: script, code, requirements, recipe.

Code is copied file by file, so that the image is built without this package and its training
packages, and reads scans as the study did.
"""

import ast
import importlib.metadata
import platform
import shlex
import shutil
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scaling.files import write_text

PACKAGE = Path(__file__).parents[1]
RUNTIME = "scaling.handin.inference"
IMPORTED_BY_JAX = ("flatbuffers",)  # by jax.export, only when it reads a program
PREDICT = '''"""One case: python predict.py --SEQUENCE FILE ... --output FILE."""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# jax reads the environment when it is imported
from scaling.handin.inference import main  # noqa: E402

main(Path(__file__).resolve().parent)
'''
APPTAINER = """Bootstrap: docker
From: python:{python}-slim

# apptainer build {image} Apptainer.def      (in this folder)

%files
    app /app

%post
    pip install --no-cache-dir -r /app/requirements.txt
    python /app/predict.py --warm
    chmod -R a+rX /app

%environment
    export LC_ALL=C.UTF-8

%runscript
    exec python /app/predict.py "$@"

%help
    {what}
"""


def write_container(folder: Path, name: str, what: str, cuda: bool) -> None:
    """Write Apptainer.def, predict.py, requirements.txt and the code that a prediction needs."""
    app = folder / "app"
    modules = needed_modules(RUNTIME)
    copy_code(modules, app)
    write_text(app / "predict.py", PREDICT)
    write_text(
        app / "requirements.txt", "".join(f"{line}\n" for line in requirements(modules, cuda))
    )
    python = ".".join(platform.python_version_tuple()[:2])
    image = shlex.quote(one_line(f"{name}.sif"))
    recipe = APPTAINER.format(python=python, image=image, what=one_line(what))
    write_text(folder / "Apptainer.def", recipe)


def one_line(text: str) -> str:
    """A text without line breaks: a line of its own could begin a section of the recipe."""
    return " ".join(text.split())


def copy_code(modules: list[str], app: Path) -> None:
    """Copy modules of this package into `app`, each to its place in the package."""
    for module in modules:
        target = app / module_file(module).relative_to(PACKAGE.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(module_file(module), target)


def needed_modules(module: str) -> list[str]:
    """A module and all that it imports of this package, directly or not, with their packages."""
    needed: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        needed.add(name)
        for other in imports(name):
            if other.split(".")[0] == PACKAGE.name and module_file(other).exists():
                waiting.append(other)
        if "." in name:
            waiting.append(name.rpartition(".")[0])
    return sorted(needed)


def module_file(module: str) -> Path:
    """The source of a module of this package."""
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def imports(module: str) -> set[str]:
    """Modules that a module's source imports, and names from them (which may be modules too)."""
    named: set[str] = set()
    for node in ast.walk(ast.parse(module_file(module).read_text())):
        if isinstance(node, ast.Import):
            named.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            named.update([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])
    return named


def requirements(modules: list[str], cuda: bool) -> list[str]:
    """Pinned lines for pip: what the modules import and all that it needs, as installed here."""
    distributions = importlib.metadata.packages_distributions()
    named = {name.split(".")[0] for module in modules for name in imports(module)} - {PACKAGE.name}
    waiting = [distributions[name][0] for name in sorted(named) if name in distributions] + list(
        IMPORTED_BY_JAX
    )
    pinned: dict[str, str] = {}
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in pinned:
            pinned[name] = importlib.metadata.version(name)
            needs = [Requirement(line) for line in importlib.metadata.requires(name) or ()]
            waiting += [
                need.name
                for need in needs
                if need.marker is None or need.marker.evaluate({"extra": ""})
            ]
    return [
        f"{name}{'[cuda12]' if name == 'jax' and cuda else ''}=={pinned[name]}"
        for name in sorted(pinned)
    ]
