"""The real W&B client against a stand-in of its server: what arrives, and what outages cost."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
import wandb

from scaling.runs.drift import resolved
from scaling.runs.experiment import load_study
from scaling.runs.lock import locked
from scaling.runs.plan import make_plan
from scaling.runs.rundir import LOCK, begin
from scaling.runs.steps import Step
from scaling.study.config import Execution
from scaling.tracking import wandb_run
from scaling.tracking.tracker import Tracker, track
from scaling.tracking.wandb_run import run_id
from scaling.tracking.wandb_sync import sync
from tests.conftest import EXPERIMENT
from tests.tracking.wandb_server import WandbServer, wandb_server

KEY = "5ec7e7" * 6 + "abcd"
STEP = next(step for step in make_plan(load_study(EXPERIMENT)).steps if step.kind == "cooldown")
ID = run_id("micro", STEP.name, resolved(STEP))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    with wandb_server() as server:
        use(monkeypatch, server.url)
        yield server
        wandb.teardown()
        assert server.unknown == []


def use(monkeypatch: pytest.MonkeyPatch, url: str, key: str = KEY) -> None:
    """This process talks to the W&B server at `url`, as if it had just started."""
    wandb.teardown()
    monkeypatch.setenv("WANDB_BASE_URL", url)
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(wandb_run.PROCESS, "left", wandb_run.PATIENCE)


def run_step(study: Path, start: int, end: int, step: Step = STEP) -> float:
    """Log the rows of steps `start` to `end` of a run; the seconds that took."""
    began = time.perf_counter()
    begin(study, step, "test")
    with track(study / step.name, study.name, step, "mae-xxs", Execution(), start) as tracker:
        log(tracker, start, end)
    return time.perf_counter() - began


def log(tracker: Tracker, start: int, end: int) -> None:
    for index in range(start, end):
        tracker.log(
            {
                "step": index,
                "samples": 8 * (index + 1),
                "flops": 1e6 * (index + 1),
                "loss": 1 / (index + 1),
            }
        )


def samples(rows: list[dict[str, Any]]) -> list[int]:
    return [row["train/samples"] for row in rows if "train/samples" in row]


def inspect(fragment: Path) -> list[dict[str, Any]]:
    """The records of an offline run, read back by the client's own tool."""
    shown = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--json", fragment],
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in shown.stdout.splitlines()]


def written(study: Path) -> list[dict[str, Any]]:
    """The history in all of a study's W&B files."""
    files = sorted(study.glob("wandb/*run-*/*.wandb"))
    return [
        record["history"]["item"]
        for file in files
        for record in inspect(file)
        if record["type"] == "history"
    ]


def test_online_run_shows_what_a_step_is_and_did_and_never_the_key(
    server: WandbServer, tmp_path: Path
) -> None:
    study = tmp_path / "micro"
    folder = begin(study, STEP, "test")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "weights").write_bytes(b"heavy")
    with track(folder, "micro", STEP, "mae-xxs", Execution()) as tracker:
        log(tracker, 0, 5)
        tracker.image("reconstruction", "what was filled in", np.arange(64.0).reshape(8, 8))
        tracker.table("results", pd.DataFrame({"metric": ["mae", "dice"], "value": [10.5, 0.4]}))
        tracker.checkpoint(folder / "checkpoints", {"samples": 40})
        tracker.summarise({"heldout_loss": 0.25})
    run = server.runs[ID]
    shown = {
        key: run[key] for key in ("project", "groupName", "jobType", "displayName", "tags", "state")
    }
    assert shown == {
        **{
            "project": "micro",
            "groupName": "mae-xxs",
            "jobType": "cooldown",
            "displayName": STEP.name,
        },
        **{"tags": ["mae", "xxs"], "state": "finished"},
    }
    config = server.config(ID)
    assert config["pretrain"]["batch"] == 8
    assert config["parameters"] == STEP.parameters
    # Field 1 of a metric's definition is its name, 2 a pattern of names, 5 the number of its
    # x-axis.
    defined = config["_wandb"]["m"]
    assert {metric.get("1") for metric in defined} == {"train/samples", "train/flops", None}
    pattern = next(metric for metric in defined if metric.get("2") == "train/*")
    assert defined[pattern["5"] - 1]["1"] == "train/samples"
    history = server.history(ID)
    assert samples(history) == [8, 16, 24, 32, 40]
    assert all("train/flops" in row and "train/step" not in row for row in history[:5])
    assert server.summary(ID)["heldout_loss"] == 0.25
    assert server.runs[ID]["lines"]["wandb-events.jsonl"], "no system metrics"
    assert (
        next(row["reconstruction"] for row in history if "reconstruction" in row)["_type"]
        == "image-file"
    )
    table = json.loads(server.files["artifact/results.table.json"])
    assert table["data"] == [["mae", 10.5], ["dice", 0.4]]
    assert ("model", f"checkpoint-{ID}") in [
        (a["artifactTypeName"], a["artifactCollectionName"]) for a in server.artifacts
    ]
    # The client uploads the manifests of both artifacts at once, in whatever order.
    manifests = [
        json.loads(body)["contents"]
        for name, body in server.files.items()
        if name.startswith("manifest")
    ]
    references = [entry.get("ref") for contents in manifests for entry in contents.values()]
    assert (folder / "checkpoints" / "weights").as_uri() in references
    assert b"heavy" not in b"".join(server.bodies)
    # The key is in no request's body and in no file, logs included.
    assert KEY.encode() not in b"".join(server.bodies)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) > 8
    assert not [file for file in files if KEY.encode() in file.read_bytes()]


def test_run_without_a_key_is_offline_and_complete(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use(monkeypatch, "http://127.0.0.1:9", key="")
    monkeypatch.setenv("HOME", str(tmp_path))
    run_step(tmp_path / "micro", 0, 5)
    wandb.teardown()
    assert samples(written(tmp_path / "micro")) == [8, 16, 24, 32, 40]


def test_first_process_alone_writes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    run_step(tmp_path / "micro", 0, 5)
    assert not list(tmp_path.rglob("metrics.jsonl"))
    assert not list(tmp_path.rglob("*.wandb"))


def test_server_away_at_the_start_costs_seconds_once_and_no_row(
    server: WandbServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(wandb_run, "LONGEST", 4.0)
    use(monkeypatch, "http://127.0.0.1:9")
    study = tmp_path / "micro"
    assert run_step(study, 0, 5) < 15
    assert "W&B cannot be reached" in capsys.readouterr().err
    assert run_step(study, 5, 8) < 5
    assert "W&B" not in capsys.readouterr().err
    use(monkeypatch, server.url)
    for _ in range(2):  # the second time there is nothing left to do
        assert sync(study, "", print) == []
        assert samples(server.history(ID)) == [8, 16, 24, 32, 40, 48, 56, 64]
    # Not even W&B's own files are needed.
    del server.runs[ID]
    shutil.rmtree(next((study / "wandb").glob("offline-run-*")))
    assert sync(study, "", print) == []
    assert sorted(samples(server.history(ID))) == [8, 16, 24, 32, 40, 48, 56, 64]
    assert server.runs[ID]["displayName"] == STEP.name


@pytest.mark.parametrize("state", ["down", pytest.param("silent", marks=pytest.mark.slow)])
def test_server_gone_in_the_middle_costs_seconds_and_no_row(
    state: str, server: WandbServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(wandb_run, "LONGEST", 4.0)
    study = tmp_path / "micro"
    began = time.perf_counter()
    begin(study, STEP, "test")
    with track(study / STEP.name, "micro", STEP, "mae-xxs", Execution()) as tracker:
        log(tracker, 0, 3)
        server.state = state
        log(tracker, 3, 6)
        tracker.table("results", pd.DataFrame({"value": [1.0]}))
    wandb.teardown()
    assert time.perf_counter() - began < 20
    assert samples(written(study)) == [8, 16, 24, 32, 40, 48]
    server.state = "up"
    use(monkeypatch, server.url)
    assert sync(study, "", print) == []
    assert samples(server.history(ID)) == [8, 16, 24, 32, 40, 48]
    assert server.runs[ID]["state"] == "finished"


PROGRAM = """
import sys, time
from pathlib import Path
from tests.tracking.test_tracking import STEP, Execution, begin, log, track
study = Path(sys.argv[1])
begin(study, STEP, "test")
with track(study / STEP.name, "micro", STEP, "mae-xxs", Execution(), int(sys.argv[2])) as tracker:
    log(tracker, int(sys.argv[2]), 40)
    print("logged", flush=True)
    time.sleep(60)
"""


def test_killed_and_resumed_runs_are_uploaded_in_order_and_whole(
    server: WandbServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    study = tmp_path / "micro"
    # The whole process group is killed, W&B's own process with it, right after a row was logged.
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(study), "0"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "WANDB_MODE": "offline"},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "logged\n"
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    monkeypatch.setenv("WANDB_MODE", "offline")
    time.sleep(1.1)  # W&B names its folders by the second
    run_step(study, 30, 60)
    wandb.teardown()
    with (study / STEP.name / "metrics.jsonl").open("a") as lines:
        lines.write('{"step": 60, "sam')
    assert not server.runs
    assert sync(study, "", print) == []
    seen = samples(server.history(ID))
    assert set(seen) == {8 * (index + 1) for index in range(60)}
    assert seen.index(8 * 31) < seen.index(8 * 60)


def test_run_that_is_being_written_waits_for_the_next_sync(
    server: WandbServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    study = tmp_path / "micro"
    monkeypatch.setenv("WANDB_MODE", "offline")
    with locked(study / STEP.name / LOCK):
        run_step(study, 0, 3)
        assert "is being written by process" in sync(study, "", print)[0]
    assert not server.runs


def test_run_id_follows_the_config_and_nothing_else() -> None:
    assert run_id("a", "b", {"x": 1, "y": 2}) == run_id("a", "b", {"y": 2, "x": 1})
    assert (
        len(
            {
                run_id("a", "b", {"x": 1}),
                run_id("a", "b", {"x": 2}),
                run_id("a", "c", {"x": 1}),
                run_id("c", "b", {"x": 1}),
            }
        )
        == 4
    )
