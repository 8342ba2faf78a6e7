"""Other people's runs, from W&B and from tables, as the laws engine wants them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import wandb

from scaling.laws.per_task import judged
from scaling.laws.tables import read_table, shaped
from scaling.tracking.imported import results_of, runs_of_wandb
from tests.conftest import scaling
from tests.tracking.wandb_server import wandb_server


def table() -> pd.DataFrame:
    sizes, durations, seeds = np.meshgrid([1e6, 4e6, 16e6], [1e5, 4e5], [0, 1, 2], indexing="ij")
    noise = np.random.default_rng(0).normal(0, 0.1, sizes.size)
    error = 5 + 40 * sizes.ravel() ** -0.2 + noise
    return pd.DataFrame(
        {
            "n": sizes.ravel(),
            "seen": durations.ravel(),
            "seed": seeds.ravel(),
            "val_mae": error,
            "dice": 0.5 + noise / 10,
        }
    )


def test_table_of_runs_becomes_results_that_a_verdict_can_be_made_of(tmp_path: Path) -> None:
    table().to_csv(tmp_path / "theirs.csv", index=False)
    options = (
        "--size",
        "n",
        "--duration",
        "seen",
        "--seed",
        "seed",
        "--score",
        "age/mae=val_mae",
        "--score",
        "tumour/dice=dice",
    )
    done = scaling("import", "csv:theirs.csv", *options, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    results = read_table(tmp_path / "results.csv")
    assert list(results.columns) == ["run", "seed", "size", "duration", "metric", "value", "task"]
    assert len(results) == 36
    np.testing.assert_allclose(results.loc[results["task"] == "age", "value"], table()["val_mae"])
    verdicts, problems = judged(
        shaped(results, ["size", "duration"], "value", {}), "value", None, None, None, None
    )
    assert [(v.task, v.metric) for v in verdicts] == [("age", "mae"), ("tumour", "dice")]
    assert not problems


def test_finished_runs_of_a_wandb_project_become_results(monkeypatch: pytest.MonkeyPatch) -> None:
    with wandb_server() as server:
        wandb.teardown()
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
        monkeypatch.delenv("WANDB_MODE")
        for number, size in enumerate((1e6, 4e6)):
            config = {"model": {"value": {"params": size}}, "samples": {"value": 1e5}}
            summary = [json.dumps({"val/mae": 12.0 - number, "other": "text"})]
            server.runs[f"r{number}"] = {
                **{
                    "id": f"r{number}",
                    "displayName": f"run {number}",
                    "config": json.dumps(config),
                    "state": "finished",
                },
                "lines": {"wandb-summary.json": summary},
            }
        runs = runs_of_wandb("lab/theirs")
        wandb.teardown()
        assert server.unknown == []
    results = results_of(runs, "model.params", "samples", ["age/mae=val/mae"], {"run": None})
    assert results.to_dict("list") == {
        **{"run": ["r0", "r1"], "size": [1e6, 4e6], "duration": [1e5, 1e5]},
        **{"metric": ["mae", "mae"], "value": [12.0, 11.0], "task": ["age", "age"]},
    }


@pytest.mark.parametrize(
    ("size", "score", "message"),
    [
        ("params", "dice", "the runs have no column params"),
        ("name", "dice", "column name holds 'large': expected numbers"),
        ("lr", "dice", "lr is both config.lr and summary.lr; say which"),
        ("n", "empty", "no run has n, empty at once"),
    ],
)
def test_import_that_cannot_be_done_says_why(size: str, score: str, message: str) -> None:
    runs = pd.DataFrame(
        {
            "n": [1, 2],
            "name": ["large", "small"],
            "config.lr": [1, 2],
            "summary.lr": [1, 2],
            "dice": [0.1, 0.2],
        }
    )
    with pytest.raises(ValueError, match=message):
        results_of(runs.assign(empty=np.nan), size, None, [score], {})
