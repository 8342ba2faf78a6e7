"""The run directory: one folder per step, the unit of truth.

    config.json       everything that could change a number, resolved
    provenance.json   versions, git commit, devices
    metrics.jsonl, checkpoints/, *.parquet       what the step wrote
    ERROR             why it failed, in one sentence
    LOCK              who writes it now
    attempts.jsonl    seconds and devices of every attempt
    DONE              it finished; with the seconds it took

Rerunning is safe: done is skipped, partial is resumed, a config that differs is refused, naming the fields.
"""

import dataclasses
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from scaling.files import read_json, write_json, write_text
from scaling.runs.plan import Plan, Step

LOCK = "LOCK"
Progress = Callable[[float, float], None]  # told how much of how much of a step is done
Status = Literal["done", "partial", "failed", "stale", "todo"]
PACKAGES = ("brain-mri-scaling", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "nibabel", "numpy")


class ConfigDriftError(ValueError):
    """A run directory holds results of another config."""


def resolved(step: Step) -> dict[str, Any]:
    """The step's config as plain JSON values: the identity of its results."""
    return json.loads(json.dumps({"kind": step.kind, **dataclasses.asdict(step.config)}))


def differences(old: Any, new: Any, field: str = "") -> list[str]:
    """Names of the fields in which two configs differ, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            difference
            for key in sorted(old.keys() | new.keys())
            for difference in differences(old.get(key), new.get(key), f"{field}.{key}" if field else key)
        ]
    return [] if old == new else [f"{field} was {json.dumps(old)}, is {json.dumps(new)}"]


def step_status(study_dir: Path, step: Step) -> Status:
    """Where a step stands, from its files alone. Raises ConfigDriftError if they belong to another config."""
    folder = study_dir / step.name
    if not (folder / "config.json").exists():
        return "todo"
    changed = differences(read_json(folder / "config.json"), resolved(step))
    if changed:
        raise ConfigDriftError(
            f"{folder} holds results of another config: {'; '.join(changed)}. "
            "Undo the change, give the study another name (--set name=...), or delete that folder to run it again"
        )
    if (folder / "DONE").exists():
        # Only what is computed from all the others can be out of date: it has new inputs when the study has grown.
        return "done" if read_json(folder / "DONE")["needs"] == list(step.needs) else "stale"
    return "failed" if (folder / "ERROR").exists() else "partial"


def plan_status(study_dir: Path, plan: Plan) -> dict[str, Status]:
    """Status of every step. Raises ConfigDriftError, listing every step that drifted (at most five of them)."""
    statuses: dict[str, Status] = {}
    drifted: list[str] = []
    for step in plan.steps:
        try:
            statuses[step.name] = step_status(study_dir, step)
        except ConfigDriftError as error:
            drifted.append(str(error))
    if drifted:
        more = f"\n... and {len(drifted) - 5} more" if len(drifted) > 5 else ""
        raise ConfigDriftError("\n".join(drifted[:5]) + more)
    # Collect and report follow their inputs.
    for step in plan.steps:
        if statuses[step.name] == "done" and step.kind in ("collect", "report"):
            newest = max((done_time(study_dir / need) for need in step.needs), default=0.0)
            if newest > done_time(study_dir / step.name) or any(statuses[need] == "stale" for need in step.needs):
                statuses[step.name] = "stale"
    return statuses


def done_time(folder: Path) -> float:
    """When a step finished (seconds since the epoch), or infinity if it has not."""
    marker = folder / "DONE"
    return marker.stat().st_mtime if marker.exists() else float("inf")


def begin(study_dir: Path, step: Step, devices: str) -> Path:
    """Open a step's folder: write its config and provenance, forget an earlier failure. Returns the folder."""
    folder = study_dir / step.name
    write_json(folder / "config.json", resolved(step))
    write_json(folder / "provenance.json", provenance(devices))
    (folder / "ERROR").unlink(missing_ok=True)
    (folder / "DONE").unlink(missing_ok=True)
    return folder


def record_attempt(folder: Path, seconds: float, devices: int) -> None:
    """Write down what a step has cost so far, finished or not (a killed attempt is not seen)."""
    with (folder / "attempts.jsonl").open("a") as lines:
        lines.write(json.dumps({"seconds": round(seconds, 3), "devices": devices}) + "\n")


def attempts(folder: Path) -> list[dict[str, Any]]:
    """What a step has cost so far, attempt by attempt: seconds, devices."""
    file = folder / "attempts.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def finish(folder: Path, step: Step, seconds: float) -> None:
    """Mark a step as done: the last thing that is written."""
    write_json(folder / "DONE", {"needs": list(step.needs), "seconds": round(seconds, 3)})


def fail(folder: Path, sentence: str) -> None:
    """Record why a step failed."""
    write_text(folder / "ERROR", sentence + "\n")


def provenance(devices: str) -> dict[str, str]:
    """Versions, commit and devices a step ran with."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    root = Path(__file__).resolve().parent
    git = subprocess.run(["git", "-C", root, "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return {
        **versions,
        "commit": git.stdout.strip() or "not in a git checkout",
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "devices": devices,
    }
