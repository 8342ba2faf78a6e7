"""Upload what Weights & Biases missed: offline runs, runs whose server was away, rows that a kill
kept from it.
"""

import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import wandb
import wandb.errors
from wandb.apis.public.runs import RunNotFoundError

from scaling.files import read_json
from scaling.runs.anonymity import is_anonymous, without_paths
from scaling.runs.lock import LockedError, locked
from scaling.runs.rundir import LOCK
from scaling.study.config import Execution
from scaling.tracking.tracker import read_rows
from scaling.tracking.wandb_run import has_key, open_wandb, run_id


def sync(study_dir: Path, entity: str, say: Callable[[str], None]) -> list[str]:
    """Upload every run of a study's folder that the server does not have whole; the pieces of a
    resumed run in their order. Then compare with `metrics.jsonl`, the source of truth, and log the
    rows that are still missing. Safe to repeat.

    Returns a sentence per run that could not be uploaded. Raises ValueError when there is nothing
    to upload, or no key.
    """
    fragments = sorted((study_dir / "wandb").glob("*run-*/run-*.wandb"))
    if not fragments:
        raise ValueError(
            f"{study_dir / 'wandb'} holds no W&B run; expected the folder of a study that ran "
            "with W&B on, like runs/quickstart"
        )
    if not has_key():
        raise ValueError(
            "W&B has no key here; run `wandb login`, or set WANDB_API_KEY, and sync again"
        )
    runs: dict[str, list[Path]] = defaultdict(list)
    for fragment in fragments:
        runs[fragment.stem.removeprefix("run-")].append(fragment)
    folders = {
        run_id(
            study_dir.name, config.parent.relative_to(study_dir).as_posix(), read_json(config)
        ): config.parent
        for config in study_dir.rglob("config.json")
        if (config.parent / "metrics.jsonl").exists()
    }
    runs |= {name: [] for name in folders if name not in runs}
    problems = []
    for number, (name, pieces) in enumerate(runs.items(), start=1):
        folder = folders.get(name)
        try:
            with locked(folder / LOCK) if folder else nullcontext():
                problem = sync_run(name, pieces, study_dir, folder, entity)
        except LockedError as error:
            problem = str(error)
        say(
            f"[{number}/{len(runs)}] {folder.relative_to(study_dir) if folder else name}: "
            f"{problem or 'uploaded'}"
        )
        problems += [f"{name}: {problem}"] if problem else []
    return problems


def sync_run(
    name: str, pieces: list[Path], study_dir: Path, folder: Path | None, entity: str
) -> str:
    """Upload one run. Returns why it could not be, or nothing."""
    there = server_run(study_dir.name, name, entity)
    whole = (
        there is not None
        and there.state in ("finished", "failed")
        and not (folder and missing_rows(folder, there))
    )
    pieces = [
        piece
        for piece in pieces
        if not marker(piece).exists() and (piece.parent.name.startswith("offline-") or not whole)
    ]
    if pieces:
        # In one command wandb replays them in the order in which they began.
        command = [
            sys.executable,
            "-m",
            "wandb",
            "sync",
            "--include-online",
            "--yes",
            *(str(piece.parent.resolve()) for piece in pieces),
        ]
        command += ["--entity", entity] if entity else []
        done = subprocess.run(
            command, cwd=study_dir, capture_output=True, text=True, check=False
        )  # its own log goes there too
        left = [piece for piece in pieces if not marker(piece).exists()]
        if done.returncode or left:
            said = (done.stdout + done.stderr).strip().splitlines()
            return (
                f"not uploaded: {said[-1].removeprefix('wandb: ') if said else 'wandb sync failed'}"
            )
    missing = missing_rows(folder, server_run(study_dir.name, name, entity)) if folder else []
    if folder and missing:
        log_rows(study_dir, name, folder, missing, entity)
    return ""


def marker(piece: Path) -> Path:
    """What `wandb sync` leaves beside a run that it has uploaded."""
    return piece.with_name(piece.name + ".synced")


def server_run(project: str, name: str, entity: str) -> Any:
    """The run as the server has it, or None. Raises OSError when the server cannot be reached."""
    try:
        return wandb.Api(timeout=20).run(
            f"{entity}/{project}/{name}" if entity else f"{project}/{name}"
        )
    except wandb.errors.CommError as error:
        if isinstance(error.exc, RunNotFoundError):
            return None
        raise OSError(f"W&B's server cannot be asked for {project}/{name}: {error}") from error


def missing_rows(folder: Path, run: Any) -> list[dict[str, float]]:
    """The rows of `metrics.jsonl` that a run on the server lacks."""
    rows = read_rows(folder / "metrics.jsonl")
    if not rows or run is None:
        return rows
    history = run.scan_history(keys=["train/samples"], use_cache=False)
    on_server = {row["train/samples"] for row in history}
    return [row for row in rows if row["samples"] not in on_server]


def log_rows(
    study_dir: Path, name: str, folder: Path, rows: list[dict[str, float]], entity: str
) -> None:
    """Add rows to a run on the server, which need not know it yet."""
    config = read_json(folder / "config.json")
    run = open_wandb(
        study_dir,
        Execution(wandb="online", wandb_entity=entity),
        project=study_dir.name,
        id=name,
        resume="allow",
        config=without_paths(config) if is_anonymous(study_dir) else config,
        name=folder.relative_to(study_dir).as_posix(),
        job_type=config["kind"],
    )
    if run is None or run.run.offline:
        raise OSError("W&B's server went away; sync again later")
    for row in rows:
        values = {f"train/{key}": value for key, value in row.items() if key != "step"}
        run.tell(partial(wandb.Run.log, data=values))
    run.finish(0)
