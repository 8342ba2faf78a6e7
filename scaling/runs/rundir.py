"""The run directory: one folder per step, the unit of truth.

    config.json       everything that could change a number, resolved
    provenance.json   versions, git commit, devices
    metrics.jsonl, checkpoints/, *.parquet       what the step wrote
    ERROR             why it failed, in one sentence
    LOCK              who writes it now
    attempts.jsonl    seconds and devices of every attempt
    DONE              it finished: seconds, digest of the config, digests of what it wrote

Rerunning is safe: done is skipped, partial is resumed, damaged is run again, and a config that
differs is refused, naming the fields. A step that failed or that only describes others (collect,
report) holds nothing worth refusing for: it starts anew with the changed config.
"""

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from scaling.files import (
    FORMAT,
    append_line,
    check_format,
    read_marker,
    remove_leftovers,
    write_json,
    write_text,
)
from scaling.runs.digests import damage, record, relative_name
from scaling.runs.drift import (
    CONFIG,
    PROVENANCE,
    ConfigDriftError,
    config_changes,
    config_digest,
    only_grown,
    only_more_draws,
    resolved,
)
from scaling.runs.plan import Plan
from scaling.runs.steps import Step

LOCK, DONE, ERROR, ATTEMPTS = "LOCK", "DONE", "ERROR", "attempts.jsonl"
Progress = Callable[[float, float], None]  # called with how much of how much of a step is done
Status = Literal["done", "partial", "failed", "damaged", "stale", "todo"]
PACKAGES = (
    "brain-mri-scaling",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "nibabel",
    "numpy",
)
DESCRIBING = ("collect", "report")
# Predictions of a transfer, and those of fewer draws that it has taken over and not yet joined.
PREDICTIONS, EARLIER = "predictions.parquet", "earlier.parquet"
# Written about a step, not by it. The volumes of a cache have digests of their own, read with them.
BESIDE = (LOCK, CONFIG, DONE, ERROR, ATTEMPTS, PROVENANCE)
VOLUMES = (".npy", ".b2nd")


def step_status(study_dir: Path, step: Step, texts: dict[int, str] | None = None) -> Status:
    """Where a step stands, from its files alone; `texts` as in `config_digest`.

    Raises ConfigDriftError if they belong to another config.
    """
    folder = study_dir / step.name
    done = read_marker(f"{folder}/{DONE}")
    if done is not None:
        check_format(done.get("format", 1), folder / DONE)
    if done is None or done.get("config") != config_digest(step, texts):
        changes = config_changes(folder, step)
        failed = done is None and (folder / ERROR).exists()
        if changes and (failed or step.kind in DESCRIBING or grows(step, changes)):
            return "todo"
        if changes:
            raise ConfigDriftError(
                f"{folder} holds results of another config: {'; '.join(changes)}. "
                "Undo the change, give the study another name (--set name=...), or delete that "
                "folder to run it again"
            )
        if changes is None:  # nothing says what this folder holds: it is run from the beginning
            return "todo"
        if done is None:
            return "failed" if failed else "partial"
    if damage(folder, done.get("files", {})):
        return "stale" if step.kind in DESCRIBING else "damaged"
    # Only what is computed from all the others can be out of date: it has new inputs when the study
    # has grown.
    return "done" if done.get("needs") == list(step.needs) else "stale"


def plan_status(study_dir: Path, plan: Plan) -> dict[str, Status]:
    """Status of every step. Raises ConfigDriftError, listing every step that drifted (five at
    most).
    """
    statuses: dict[str, Status] = {}
    drifted: list[str] = []
    texts: dict[int, str] = {}
    for step in plan.steps:
        try:
            statuses[step.name] = step_status(study_dir, step, texts)
        except ConfigDriftError as error:
            drifted.append(str(error))
    if drifted:
        more = f"\n... and {len(drifted) - 5} more" if len(drifted) > 5 else ""
        raise ConfigDriftError("\n".join(drifted[:5]) + more)
    # Collect and report follow their inputs.
    for step in plan.steps:
        if statuses[step.name] == "done" and step.kind in DESCRIBING:
            newest = max((done_time(f"{study_dir}/{need}") for need in step.needs), default=0.0)
            renewed = any(statuses[need] == "stale" for need in step.needs)
            if renewed or newest > done_time(study_dir / step.name):
                statuses[step.name] = "stale"
    return statuses


def damage_of(study_dir: Path, step: Step) -> str:
    """What is wrong with the outputs of a finished step, in one sentence; "" when they are
    whole.
    """
    done = read_marker(study_dir / step.name / DONE)
    return damage(study_dir / step.name, done.get("files", {})) if done else ""


def done_time(folder: Path | str) -> float:
    """When a step finished (seconds since the epoch), or infinity if it has not."""
    try:
        return os.stat(f"{folder}/{DONE}").st_mtime
    except FileNotFoundError:
        return float("inf")


def seconds_spent(folder: Path) -> float | None:
    """The seconds that a step took, None when it is not finished."""
    done = read_marker(folder / DONE)
    return None if done is None else float(done.get("seconds", 0.0))


def begin(study_dir: Path, step: Step, devices: str) -> Path:
    """Open a step's folder: write its config and provenance, forget an earlier failure. Returns the
    folder. Call it with the step's lock held.

    What the folder holds of another config, or of one that nothing tells, is removed.
    """
    folder = study_dir / step.name
    if not folder.resolve().is_relative_to(study_dir.resolve()):
        raise ValueError(f"step {step.name!r} lies outside of {study_dir}; expected a plain name")
    remove_leftovers(folder)
    changes = config_changes(folder, step) if folder.exists() else []
    if changes and only_more_draws(step, changes):
        keep_draws(folder)
    elif changes and only_grown(step, changes):
        pass  # the caches that are there stay; `prepare_grids` adds to them
    elif changes != []:
        (folder / DONE).unlink(missing_ok=True)
        start_anew(folder)
    (folder / DONE).unlink(missing_ok=True)
    write_json(folder / CONFIG, resolved(step))
    write_json(folder / PROVENANCE, {"format": FORMAT, **provenance(devices)})
    (folder / ERROR).unlink(missing_ok=True)
    return folder


def grows(step: Step, changes: list[str]) -> bool:
    """Whether what a step has done is a part of what it is to do now."""
    return only_grown(step, changes) or only_more_draws(step, changes)


def keep_draws(folder: Path) -> None:
    """Put the predictions of a finished transfer aside for one of more draws, which takes them from
    there; remove the rest. Where it was not finished, those of a transfer before it stay aside.
    """
    done = read_marker(folder / DONE)
    if done is not None and not damage(folder, done.get("files", {})):
        os.replace(folder / PREDICTIONS, folder / EARLIER)
    start_anew(folder, EARLIER)


def start_anew(folder: Path, *spared: str) -> None:
    """Remove what an earlier attempt wrote, but its lock, what it has cost, and `spared` files."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name not in (LOCK, ATTEMPTS, DONE, *spared):
            path.unlink()


def outputs(folder: Path) -> Iterator[Path]:
    """What a step wrote into its folder: every visible file but those about it, and the volumes."""
    for file in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        beside = file.parent == folder and file.name in BESIDE
        if not hidden and not beside and file.suffix not in VOLUMES and file.is_file():
            yield file


def record_attempt(folder: Path, seconds: float, devices: int) -> None:
    """Write down what a step has cost so far, finished or not (a killed attempt is not seen)."""
    append_line(folder / ATTEMPTS, {"seconds": round(seconds, 3), "devices": devices})


def attempts(folder: Path) -> list[dict[str, Any]]:
    """What a step has cost so far, attempt by attempt: seconds, devices. Broken lines are left
    out.
    """
    file = folder / ATTEMPTS
    if not file.exists():
        return []
    rows = []
    for line in file.read_text(errors="replace").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict) and {"seconds", "devices"} <= row.keys():
            rows.append(row)
    return rows


def finish(folder: Path, step: Step, seconds: float, elsewhere: Iterable[Path] = ()) -> None:
    """Mark a step as done: the last thing that is written. `elsewhere` are outputs outside its
    folder.
    """
    files = record(folder, [*outputs(folder), *elsewhere])
    if step.kind == "report":  # written anew by `scaling report` at any time: only that it is there
        files = {name: {"bytes": written["bytes"]} for name, written in files.items()}
    marker = {
        "format": FORMAT,
        "needs": list(step.needs),
        "seconds": round(seconds, 3),
        "config": config_digest(step),
        "files": files,
    }
    write_json(folder / DONE, marker)


def fail(folder: Path, sentence: str) -> None:
    """Record why a step failed."""
    write_text(folder / ERROR, sentence + "\n")


def disown(study_dir: Path, plan: Plan, file: Path, sentence: str) -> str:
    """Take DONE from the step whose output `file` is damaged, so that it is run again. Returns its
    name, or "" when the file is no step's.
    """
    for step in plan.steps:
        folder = (study_dir / step.name).resolve()
        within = file.resolve().is_relative_to(folder)
        # The tables of the whole study lie beside the step that collects them.
        if within or (step.kind in DESCRIBING and wrote(folder, file.resolve())):
            (folder / DONE).unlink(missing_ok=True)
            fail(folder, sentence)
            return step.name
    return ""


def wrote(folder: Path, file: Path) -> bool:
    """Whether a finished step's marker lists `file`, which lies beside its folder."""
    if file.parent != folder.parent:
        return False
    done = read_marker(folder / DONE) or {}
    return relative_name(folder, file) in done.get("files", {})


def provenance(devices: str) -> dict[str, str]:
    """Versions, commit and devices a step ran with."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    root = Path(__file__).resolve().parent
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    git = subprocess.run(command, capture_output=True, text=True, check=False)
    return {
        **versions,
        "commit": git.stdout.strip() or "not in a git checkout",
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "devices": devices,
    }
