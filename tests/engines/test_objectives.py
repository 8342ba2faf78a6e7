"""A study of several objectives, from pretraining to the page."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from tests.conftest import EXPERIMENT, scaling

OBJECTIVES = (
    'objectives=[{"kind":"mae"},{"kind":"contrastive"},'
    '{"kind":"hybrid","contrast":{"positives":"sequences"}}]'
)


def test_study_of_several_objectives_runs_to_its_report(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    done = scaling(
        "run", EXPERIMENT, "--set", OBJECTIVES, "--set", "durations=[160]", folder=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    study = tmp_path / "runs/micro"
    results = pd.read_parquet(study / "results.parquet")
    tried = (
        results[results["arm"] == "pretrained"]
        .groupby("task")["objective"]
        .unique()
        .map(sorted)
        .to_dict()
    )
    assert tried == {
        task: ["contrastive", "hybrid", "mae"] for task in ("infarct", "meningioma", "brain-age")
    }
    pretraining = pd.read_parquet(study / "pretraining.parquet").set_index("objective")
    assert np.isfinite(pretraining["loss"]).all()
    assert pretraining["embedding_rank"].between(1, 64).all()
    assert (pretraining["embedding_std"] > 0).all()
    pictures = {path.parent.name for path in (study / "pretrain").glob("*/reconstruction.npz")}
    assert {"mae-xxs-seed0-160", "hybrid-xxs-seed0-160"} <= pictures
    assert "contrastive-xxs-seed0-160" not in pictures
    rows = [
        json.loads(line)
        for line in (study / "pretrain/hybrid-xxs-seed0-160/metrics.jsonl").read_text().splitlines()
    ]
    assert all(
        {"reconstruction_loss", "contrastive_loss", "embedding_rank", "embedding_std"} <= row.keys()
        for row in rows
    )
    page = (study / "report.html").read_text()
    assert all(objective in page for objective in ("contrastive", "hybrid"))
