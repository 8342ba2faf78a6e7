"""The report in W&B, by the real client against a stand-in of its server."""

import json
from itertools import product
from pathlib import Path

import pandas as pd
import pytest
import wandb

from scaling.engines.wandb_report import publish_report
from scaling.runs.experiment import load_study
from scaling.runs.plan import make_plan
from tests.conftest import EXPERIMENT
from tests.tracking.test_tracking import use
from tests.tracking.wandb_server import wandb_server


def test_report_run_holds_panels_table_and_page(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plan = make_plan(load_study(EXPERIMENT))
    rows = [
        {
            "params": params,
            "duration": duration,
            "draw": draw,
            "value": 20 - params / 1e6 - duration / 1e3 + draw,
        }
        for params, duration, draw in product([1e6, 2e6], [160, 320], [0, 1])
    ]
    fixed = {
        "arm": "pretrained",
        "protocol": "finetune",
        "domain": "out",
        "task": "brain-age",
        "metric": "mae",
        "shots": 4,
    }
    results = pd.DataFrame(rows).assign(**fixed, objective="mae", fraction=1.0)
    pd.concat([results, results.assign(arm="scratch", value=99.0)]).to_parquet(
        tmp_path / "results.parquet"
    )
    results.to_csv(tmp_path / "results.csv", index=False)
    with pytest.raises(FileNotFoundError, match=r"no report.html .* run `scaling report` first"):
        publish_report(tmp_path, plan)
    (tmp_path / "report.html").write_text("<html>the page</html>")
    with wandb_server() as server:
        use(monkeypatch, server.url)
        said = publish_report(tmp_path, plan)
        wandb.teardown()
        assert server.unknown == []
    (run,) = server.runs.values()
    assert said == f"W&B: {server.url}/lab/micro/runs/{run['id']}"
    assert (run["jobType"], run["state"]) == ("report", "finished")
    panel = json.loads(
        server.files[
            "artifact/size-brain-age-mean-absolute-error-4-shots-pretrained-by-mae_table.table.json"
        ]
    )["data"]
    assert len(json.loads(server.files["artifact/results.table.json"])["data"]) == 16
    # Mean of two draws, one line per duration.
    assert sorted(panel, key=str) == sorted(
        [[p, f"{d} samples", 20 - p / 1e6 - d / 1e3 + 0.5] for p in (1e6, 2e6) for d in (160, 320)],
        key=str,
    )
    assert server.files["artifact/report.html"] == b"<html>the page</html>"
    assert [
        a["artifactCollectionName"] for a in server.artifacts if a["artifactTypeName"] == "report"
    ] == ["micro-report"]
