"""Run a container's program as a challenge does, case by case, and say what it would reject.

The program runs in a process of its own per case, with the challenge's flags and time limit. Cases
are the study's own test sessions, and two made-up ones: a constant volume and a tiny one.
"""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from scaling.handin.case_files import read_volume
from scaling.handin.embedding_score import read_vector

# Runs a script after an audit hook that notes every socket, as a sandbox without network sees it.
WATCHED = """
import json, os, runpy, sys
events = []
def note(event, arguments):
    if event.startswith("socket.") and event != "socket.gethostname":
        events.append(event)
sys.addaudithook(note)
script, record = sys.argv[1:3]
sys.argv = [script, *sys.argv[3:]]
sys.path.insert(0, os.path.dirname(script))
try:
    runpy.run_path(script, run_name="__main__")
finally:
    with open(record, "w") as file:
        json.dump(sorted(set(events)), file)
"""


@dataclass(frozen=True)
class CheckedCase:
    """What came of one case."""

    name: str
    seconds: float
    problems: list[str]


def check_container(
    out: Path,
    cases: Iterable[tuple[str, dict[str, Path]]],
    scratch: Path,
    progress: Callable[[CheckedCase], None] | None = None,
) -> list[CheckedCase]:
    """Run every case (name, file per sequence) and check time, files, format and side effects.

    Outputs go to `scratch`. Raises FileNotFoundError when `out` holds no container.
    """
    app = out / "app"
    if not (app / "model.json").is_file():
        raise FileNotFoundError(f"{out} holds no app/model.json; expected a folder by export")
    description = json.loads((app / "model.json").read_text())
    scratch.mkdir(parents=True, exist_ok=True)
    before = snapshot(app)
    checked = []
    lengths: set[int] = set()
    for name, files in [*cases, *made_up_cases(description, scratch)]:
        checked_case, length = check_case(app, description, name, files, scratch)
        lengths |= {length} - {0}
        if len(lengths) > 1:
            checked_case.problems.append(f"its embedding has another length: {sorted(lengths)}")
        checked.append(checked_case)
        if progress is not None:
            progress(checked_case)
    changed = sorted(set(snapshot(app).items()) ^ set(before.items()))
    if changed:
        checked.append(
            CheckedCase("folder", 0.0, [f"the program writes into its own folder: {changed[0][0]}"])
        )
    return checked


def check_case(
    app: Path, description: dict[str, Any], name: str, files: dict[str, Path], scratch: Path
) -> tuple[CheckedCase, int]:
    """Run one case. Returns what came of it, and the length of its embedding (0: none)."""
    ending = {"segmentation": ".nii.gz", "embedding": ".npy"}.get(description["kind"], ".txt")
    output, record = scratch / f"{name}{ending}", scratch / f"{name}.sockets.json"
    output.unlink(missing_ok=True)
    record.unlink(missing_ok=True)
    given: list[str] = []
    for sequence, file in files.items():
        given += [f"--{flag_of(description, sequence)}", str(file)]
    command = [sys.executable, "-c", WATCHED, str(app / "predict.py"), str(record), *given]
    command += ["--output", str(output)]
    # As in an image that cannot be written to: no byte code, no variables of this project.
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "XLA_FLAGS")}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    limit = float(description["seconds_per_case"])
    began = time.perf_counter()
    try:
        done = subprocess.run(
            command,
            cwd=scratch,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=limit,
        )
    except subprocess.TimeoutExpired:
        return CheckedCase(name, limit, [f"it takes more than {limit:g} s"]), 0
    seconds = time.perf_counter() - began
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["nothing"]
        return CheckedCase(name, seconds, [f"exit code {done.returncode}: {last[0]}"]), 0
    problems = []
    sockets = json.loads(record.read_text())
    if sockets:
        problems.append(f"it uses sockets ({', '.join(sockets)}), which counts as network access")
    if not output.is_file() or not output.stat().st_size:
        return CheckedCase(name, seconds, [*problems, "it wrote no output"]), 0
    length = 0
    try:
        length = check_format(description, output, list(files.values()))
    except ValueError as error:
        problems.append(str(error))
    return CheckedCase(name, seconds, problems), length


def flag_of(description: dict[str, Any], sequence: str) -> str:
    """The challenge's flag of a sequence: the last that leads to it."""
    flags = [flag for flag, name in description["flags"].items() if name == sequence]
    if not flags:
        raise ValueError(f"the container has no flag for {sequence}")
    return flags[-1]


def check_format(description: dict[str, Any], output: Path, inputs: list[Path]) -> int:
    """Check an output as validators do. Returns the length of an embedding, else 0.

    Raises ValueError, saying what is wrong.
    """
    match description["kind"]:
        case "classification" | "regression":
            check_number(output, probability=description["kind"] == "classification")
        case "segmentation":
            check_mask(output, inputs, description["labels"])
        case "embedding":
            return len(read_vector(output))
    return 0


def check_number(output: Path, probability: bool) -> None:
    """Raise ValueError unless a file holds one finite number, in [0, 1] for a probability."""
    text = output.read_text(encoding="utf-8").strip()
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"its output is {text[:40]!r}; expected one finite number")
    if probability and not 0 <= number <= 1:
        raise ValueError(f"its output is {number:g}; expected a probability from 0 to 1")


def check_mask(output: Path, inputs: list[Path], labels: list[int]) -> None:
    """Raise ValueError unless a mask has the labels, and shape and affine of one of the inputs."""
    voxels, affine = read_volume(output)
    allowed = [0, *labels]
    values = np.unique(voxels)
    if not np.isin(values, allowed).all():
        shown = [f"{value:g}" for value in values[:8]]
        expected = [str(label) for label in allowed]
        raise ValueError(f"its mask holds {', '.join(shown)}; expected {', '.join(expected)}")
    if voxels.ndim != 3 or not np.isfinite(affine).all() or not np.abs(affine[:3, :3]).max() > 0:
        raise ValueError(f"its mask has the shape {voxels.shape} or an affine that is not finite")
    for file in inputs:
        image: Any = nib.load(file)
        if image.shape == voxels.shape and np.allclose(image.affine, affine, atol=1e-3):
            return
    raise ValueError(f"its mask has the shape {voxels.shape}, or an affine, of no input")


def made_up_cases(description: dict[str, Any], scratch: Path) -> list[tuple[str, dict[str, Path]]]:
    """A constant volume and a tiny one: a container for a challenge answers them by its prior."""
    if not description["always_answers"]:
        return []
    slots = [slot.split("|")[0] for slot in description["sequences"]]
    cases = []
    for name, shape, value in (("constant", (32, 32, 32), 100), ("tiny", (2, 2, 2), 0)):
        voxels = np.full(shape, value, np.int16)
        if name == "tiny":
            voxels[0, 0, 0] = 1
        files = {}
        for slot in slots:
            files[slot] = scratch / f"{name}-{slot}-input.nii.gz"
            nib.save(nib.Nifti1Image(voxels, np.diag([2.0, 2.0, 2.0, 1.0])), files[slot])
        cases.append((name, files))
    return cases


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of every file below a folder."""
    return {
        file.relative_to(folder).as_posix(): (file.stat().st_size, file.stat().st_mtime_ns)
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
