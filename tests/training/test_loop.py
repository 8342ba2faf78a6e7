"""What a run does when it goes wrong, and what it writes down."""

import json
from pathlib import Path

import numpy as np
import pytest

from scaling.study.config import Execution
from scaling.tracking.tracker import Tracker, keep_rows_before
from scaling.tracking.wandb_run import netrc_has_key, wandb_mode
from scaling.training.log import MetricsLog, RunFacts
from scaling.training.loop import evaluation_steps


class Waited:
    waited = 0.0


def test_loss_that_is_not_finite_stops_the_run_with_its_step(tmp_path: Path) -> None:
    with (tmp_path / "metrics.jsonl").open("w") as lines:
        facts = RunFacts(start=0, end=10, batch=8, flops=1e6, peak=None, every=1)
        log = MetricsLog(Tracker(lines, None), Waited(), facts)  # type: ignore[arg-type]
        log.push(0, {"loss": np.float32(1.0)})  # type: ignore[dict-item]
        log.push(1, {"loss": np.float32("nan")})  # type: ignore[dict-item]
        with pytest.raises(
            FloatingPointError, match=r"the loss of step 1 is nan; lower pretrain.learning_rate"
        ):
            log.flush()
    assert [
        json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()
    ] == [0]


def test_heldout_loss_is_evaluated_evenly_and_not_at_the_end() -> None:
    assert sorted(evaluation_steps(100, 4)) == [20, 40, 60, 80]
    assert evaluation_steps(100, 0) == frozenset()
    assert sorted(evaluation_steps(3, 8)) == [1, 2]


def test_resumed_run_forgets_what_it_will_log_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        "".join(json.dumps({"step": step, "loss": 1.0}) + "\n" for step in range(6))
        + '{"step": 6, "lo'
    )
    keep_rows_before(path, 4)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [0, 1, 2, 3]


def test_tracking_is_offline_without_a_key_and_online_with_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC", raising=False)
    assert wandb_mode(Execution()) == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert wandb_mode(Execution()) == "online"
    assert wandb_mode(Execution(wandb="disabled")) == "disabled"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert wandb_mode(Execution()) == "offline"


def test_key_in_netrc_is_found_for_its_server_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_text("machine tracker.example login user password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert netrc_has_key("https://tracker.example/path")
    assert not netrc_has_key("https://elsewhere.example")
