"""What a loss of power can leave, and that the same command goes on from it to the same table."""

import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from scaling.runs.experiment import load_study
from scaling.runs.plan import make_plan
from scaling.runs.rundir import plan_status
from tests.conftest import EXPERIMENT, environment, scaling

STUDY = Path("runs/micro")
# Without these a step is done all the same: nothing is computed from them.
BESIDE = {"config.json", "provenance.json", "attempts.jsonl", "LOCK", "ERROR", "study.json"}
CALLS = "openat,fsync,fdatasync,rename,renameat,renameat2,link,linkat"


def study_files(study: Path) -> Iterator[tuple[str, Path]]:
    """Every file of a finished study with the name of the step it belongs to ("" for none)."""
    plan = make_plan(load_study(EXPERIMENT))
    collected = {"results.parquet", "results.csv", "predictions.parquet", "pretraining.parquet"}
    for file in sorted(study.rglob("*")):
        if not file.is_file() or "wandb" in file.parts:
            continue
        name = file.relative_to(study).as_posix()
        owners = [step.name for step in plan.steps if name.startswith(f"{step.name}/")]
        if name in collected:
            owners = ["collect"]
        elif name in ("report.html", "summary.txt"):
            owners = ["report"]
        yield (owners[0] if owners else ""), file


@pytest.mark.parametrize("harm", ["empty", "missing"])
def test_any_file_that_is_empty_or_missing_costs_its_own_step_at_most(
    finished: Path, tmp_path: Path, harm: str
) -> None:
    study = tmp_path / "micro"
    shutil.copytree(finished / STUDY, study, ignore=shutil.ignore_patterns("wandb"))
    plan = make_plan(load_study(EXPERIMENT))
    assert set(plan_status(study, plan).values()) == {"done"}
    for owner, file in study_files(study):
        content, state = file.read_bytes(), file.stat()
        if harm == "empty":
            file.write_bytes(b"")
        else:
            file.unlink()
        statuses = plan_status(study, plan)
        changed = {name for name, status in statuses.items() if status != "done"}
        volume = file.suffix in (".npy", ".b2nd")  # compared when it is read
        expected = set()
        if owner and file.name not in BESIDE and not volume and content != b"":
            expected = {owner}
        if harm == "missing" and content == b"" and file.name not in BESIDE:
            expected = {owner}
        # Table and report follow a step that is done at another time.
        following = {"collect", "report"} if expected else set()
        assert expected <= changed <= expected | following, (harm, file)
        file.write_bytes(content)
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert set(plan_status(study, plan).values()) == {"done"}


def same_tables(folder: Path, other: Path) -> None:
    for name in ("results.parquet", "predictions.parquet"):
        ours, theirs = (pd.read_parquet(place / STUDY / name) for place in (folder, other))
        pd.testing.assert_frame_equal(ours, theirs, check_exact=True)


@pytest.mark.slow
def test_study_with_damage_everywhere_goes_on_to_the_same_table(
    finished: Path, tmp_path: Path
) -> None:
    """One file of each kind is emptied, lost or has a flipped bit, in steps that depend on each
    other.
    """
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    study = tmp_path / STUDY
    trunk, cooldown = (
        study / "pretrain/mae-xxs-seed0-trunk-128",
        study / "pretrain/mae-xxs-seed0-160",
    )
    tested = study / "transfer/mae-xxs-seed0-160-infarct"
    (study / "study.json").write_bytes(b"")
    (study / "prepare/DONE").write_bytes(b"")
    (trunk / "LOCK").write_bytes(b"")
    (trunk / "config.json").write_bytes(b"")
    (cooldown / "DONE").unlink()
    weights = max(cooldown.rglob("checkpoints/**/d/*"), key=lambda file: file.stat().st_size)
    flip(weights)
    (study / "transfer/scratch-xxs-seed0-infarct/results.parquet").write_bytes(b"")
    flip(tested / "predictions.parquet")
    flip(study / "prepare/cache/shard_00000.npy")
    (study / "results.parquet").write_bytes(b"")
    (study / "pretrain/mae-xxs-seed0-320/reconstruction.npz").write_bytes(b"")

    done = scaling("run", EXPERIMENT, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout + done.stderr
    for file in (weights, tested / "predictions.parquet"):
        assert f"{file.relative_to(tmp_path)} is damaged" in said
    assert "results.parquet is damaged: it has 0 bytes" in said
    same_tables(tmp_path, finished)
    done = scaling("run", EXPERIMENT, folder=tmp_path)
    assert "All 20 steps are done" in done.stdout


def flip(file: Path) -> None:
    """Flip one bit in the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_no_file_gets_its_name_before_it_is_on_the_disk(tmp_path: Path) -> None:
    """The system calls of a whole micro study: a flush before and after each rename, and before
    each DONE a flush of everything that its step has written.
    """
    log = tmp_path / "calls"
    command = ["strace", "-f", "-y", "-s", "4096", "-e", f"trace={CALLS}", "-o", str(log)]
    command += [sys.executable, "-m", "scaling", "run", str(EXPERIMENT)]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=3000,
    )
    assert done.returncode == 0, done.stderr
    unsafe = unsafe_calls(log, tmp_path)
    assert unsafe == []


OPENED = re.compile(r'openat\([^"]*"([^"]*)", (O_[A-Z_|]*)[^)]*\) = \d+<([^>]*)>')
FLUSHED = re.compile(r"(?:fsync|fdatasync)\(\d+<([^>]*)>")
NAMED = re.compile(r'(?:rename|link)[a-z0-9]*\((?:[^"]*)"([^"]*)"[^"]*"([^"]*)"')


def unsafe_calls(log: Path, root: Path) -> list[str]:
    """Renames within `root` of files that were not flushed, or whose folder was not flushed later,
    and markers of steps that were written before an output was flushed.
    """
    flushes: dict[str, list[int]] = defaultdict(list)
    opened: dict[str, int] = {}
    renames: list[tuple[int, str, str]] = []
    for number, line in enumerate(joined(log)):
        if match := OPENED.search(line):
            if "O_WRONLY" in match[2] or "O_RDWR" in match[2]:
                opened[match[3]] = number
        elif match := FLUSHED.search(line):
            flushes[match[1]].append(number)
        elif (match := NAMED.search(line)) and line.rstrip().endswith("= 0"):
            source, target = (os.path.normpath(root / path) for path in match.groups())
            renames.append((number, source, target))
    unsafe = []
    for number, source, target in renames:
        if not target.startswith(f"{root}/") or not ours(target) or target.endswith("LOCK"):
            continue
        if not any(flush < number for flush in flushes[source]):
            unsafe.append(f"{target} got its name before it was flushed")
        if not any(flush > number for flush in flushes[str(Path(target).parent)]):
            unsafe.append(f"the folder of {target} was not flushed")
        if Path(target).name == "DONE":
            unsafe += unflushed(Path(target).parent, number, opened, flushes)
    return unsafe


def ours(path: str) -> bool:
    """Whether a file is one that this project names. What Orbax names on the way to a checkpoint,
    in `.saving-`, is no checkpoint yet; W&B's files are a mirror.
    """
    return not any(part.startswith(".saving-") or part == "wandb" for part in Path(path).parts)


def unflushed(
    folder: Path, number: int, opened: dict[str, int], flushes: dict[str, list[int]]
) -> list[str]:
    """Files below a step's folder that were opened for writing and not flushed before its
    marker.
    """
    lines = []
    for file, when in opened.items():
        inside = file.startswith(f"{folder}/") and when < number
        # Hidden files that are never renamed are notes of a running process, no outputs.
        note = Path(file).name.startswith(".") and not file.endswith(".tmp")
        about = Path(file).name in BESIDE or note or "/.LOCK" in file
        lost = any(part.startswith(".") and "orbax" in part for part in Path(file).parts)
        if not inside or about or lost or "__lock" in file:
            continue
        if not any(when < flush < number for flush in flushes[file]):
            lines.append(f"{folder}/DONE came before {file} was flushed")
    return lines


def joined(log: Path) -> Iterator[str]:
    """The calls of all processes, each on one line: strace splits those that others interrupt."""
    unfinished: dict[str, str] = {}
    for line in log.read_text(errors="replace").splitlines():
        process, _, call = line.partition(" ")
        call = call.strip()
        if call.endswith("<unfinished ...>"):
            unfinished[process] = call.removesuffix("<unfinished ...>").rstrip()
        elif call.startswith("<... "):
            rest = call.partition("resumed>")[2]
            yield unfinished.pop(process, "") + rest
        else:
            yield call
