"""Which experiment file or study folder a user means by a path or a name."""

from pathlib import Path

import scaling
from scaling.runs.experiment import FROZEN

# An installed package ships the experiments inside; in a checkout they are beside the package.
PACKAGE = Path(scaling.__file__).parent
SHIPPED = (PACKAGE / "experiments", PACKAGE.parent / "experiments")


def locate(target: Path, out: Path) -> Path:
    """The experiment file or the study's folder that `target` names.

    `target` is an experiment file, a folder that a study was run in, the name of such a folder
    below `out`, or the name of an experiment that comes with the package ("quickstart").

    Raises FileNotFoundError, listing the studies and experiments at hand, for anything else.
    """
    if target.is_file() or (target / FROZEN).is_file():
        return target
    name_only = len(target.parts) == 1
    if name_only and (out / target / FROZEN).is_file():
        return out / target
    shipped = shipped_experiments()
    # Documentation writes experiments/quickstart.py, which an installed package has elsewhere.
    experiment_path = target.parts[:-1] == ("experiments",) and target.suffix == ".py"
    if (name_only or experiment_path) and target.stem in shipped and target.suffix in ("", ".py"):
        return shipped[target.stem]
    raise FileNotFoundError(f"{describe(target)}; {choices(out, shipped)}")


def describe(target: Path) -> str:
    """What is wrong with a target that names no study."""
    if not target.is_dir():
        return f"there is no experiment file {target}, and no study of that name or folder"
    if not any(target.iterdir()):
        return f"{target} is an empty folder: no study was started in it"
    return f"{target} is a folder without a study (no {FROZEN} in it)"


def choices(out: Path, shipped: dict[str, Path]) -> str:
    """The studies below `out` and the experiments that come with the package, in words."""
    studies = sorted(file.parent.name for file in out.glob(f"*/{FROZEN}"))
    sentences = [f"studies in {out}: {', '.join(studies)}"] if studies else []
    files = sorted(str(file) for file in Path("experiments").glob("*.py"))
    if files:
        sentences.append(f"experiments here: {', '.join(files)}")
    elif shipped:
        sentences.append(f"experiments of the package: {', '.join(sorted(shipped))}")
    return "; ".join(sentences) or "expected a Python file that defines `study = Study(...)`"


def shipped_experiments() -> dict[str, Path]:
    """Name -> file of every experiment that comes with the package."""
    for folder in SHIPPED:
        if folder.is_dir():
            return {file.stem: file for file in sorted(folder.glob("*.py")) if is_experiment(file)}
    return {}


def is_experiment(file: Path) -> bool:
    """Whether a Python file defines a study (the others are programs of their own)."""
    return "= Study(" in file.read_text(encoding="utf-8")
