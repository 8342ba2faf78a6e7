"""The architecture, enforced: imports point one way."""

import ast
from pathlib import Path

import scaling

FOLDERS = [
    "study",
    "costs",
    "runs",
    "processes",
    "data",
    "phantom",
    "models",
    "augmentation",
    "objectives",
    "tracking",
    "training",
    "transfer",
    "handin",
    "laws",
    "report",
    "engines",
    "cli",
]
ALONE = ["laws", "report"]  # they work from a table alone
ROOT = Path(scaling.__file__).parent


def imported(file: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            modules.add(node.module)
        elif isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names)
    return modules


def test_folders_of_the_package_are_those_of_the_map() -> None:
    assert sorted(
        path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()
    ) == sorted(FOLDERS)


def test_imports_point_only_to_earlier_folders() -> None:
    wrong = []
    for position, folder in enumerate(FOLDERS):
        allowed = FOLDERS[: position + 1]
        if folder in ALONE:
            allowed = ALONE[: ALONE.index(folder) + 1]
        for file in (ROOT / folder).rglob("*.py"):
            for module in imported(file):
                parts = module.split(".")
                if parts[0] == "scaling" and parts[1:2] not in (
                    [],
                    ["files"],
                    ["metrics"],
                    *([name] for name in allowed),
                ):
                    wrong.append(f"{file.relative_to(ROOT)} imports {module}")
    assert not wrong


def test_study_and_data_do_not_import_jax() -> None:
    files = [
        file
        for folder in ("study", "costs", "runs", "data", "phantom")
        for file in (ROOT / folder).rglob("*.py")
    ]
    assert not [
        file
        for file in files
        if {module.split(".")[0] for module in imported(file)} & {"jax", "flax", "optax", "orbax"}
    ]


def test_laws_and_report_import_nothing_of_images_or_networks() -> None:
    files = [file for folder in ("laws", "report") for file in (ROOT / folder).rglob("*.py")]
    assert not [
        file
        for file in files
        if {module.split(".")[0] for module in imported(file)} & {"jax", "flax", "nibabel", "grain"}
    ]
