"""`scaling verdict` on a study's folder: who had seen the test cases comes first."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
from typer.testing import CliRunner

from scaling.cli import app
from scaling.runs.experiment import freeze, load_study
from scaling.runs.ledger import record_evaluation
from scaling.transfer.collect import described

STUDY = load_study(Path(__file__).parents[1] / "micro_study.py")


def _predictions(seed: int, duration: int, error: float) -> pd.DataFrame:
    """A fine-tuned run's errors of age on three people at a foreign site, after two draws."""
    rows = []
    for draw in range(2):
        for case in range(3):
            age, miss = 50.0 + case, error + draw + 0.1 * case
            evaluation = {"protocol": "finetune", "shots": 4, "draw": draw, "rate": 0.0}
            person = {"case": str(case), "site": "far", "domain": "out"}
            scores = {"label": age, "prediction": age + miss, "mae": miss}
            rows.append({**evaluation, **person, **scores})
    facts = {
        "run": f"mae-xxs-seed{seed}-{duration}",
        "arm": "pretrained",
        "objective": "mae",
        "size": "xxs",
        "params": 1000,
        "duration": duration,
        "seed": seed,
        "trunk": f"seed{seed}",
        "task": STUDY.tasks[2].name,
    }
    return described([pd.DataFrame(rows)], [facts])


def _study_folder(tmp_path: Path) -> Path:
    """A folder with the predictions of two durations and two seeds, and a ledger in which another
    study saw all test cases."""
    root, folder = tmp_path / "data", tmp_path / "runs" / "mine"
    root.mkdir()
    folder.mkdir(parents=True)
    study = replace(
        STUDY, name="mine", tasks=(STUDY.tasks[2],), data=replace(STUDY.data, root=str(root))
    )
    freeze(study, folder)
    tables = []
    for seed in range(2):
        for duration, error in ((160, 8.0), (320, 5.0)):
            tables.append(_predictions(seed, duration, error + 0.1 * seed))
    predictions = pd.concat(tables, ignore_index=True)
    predictions.to_parquet(folder / "predictions.parquet")
    cases = list(predictions["case"].unique())
    assert record_evaluation(root, replace(study, name="theirs"), study.tasks[0].name, cases) == ""
    return folder


def test_verdict_of_a_study_says_first_who_had_seen_its_test_cases(tmp_path) -> None:
    folder = _study_folder(tmp_path)
    for source in (folder, folder / "predictions.parquet"):
        result = CliRunner().invoke(app, ["verdict", str(source)])
        assert result.exit_code == 0, result.output
        text = " ".join(result.stdout.split())
        seen, decided = text.index("1 earlier study of 1 design"), text.index("more budget")
        assert seen < decided
    document = json.loads(CliRunner().invoke(app, ["verdict", str(folder), "--json"]).stdout)
    assert any("exploratory" in sentence for sentence in document["standing"])
    assert document["verdicts"][0]["task"] == STUDY.tasks[2].name


def test_verdict_of_a_study_without_results_says_what_to_run(tmp_path) -> None:
    folder = _study_folder(tmp_path)
    (folder / "predictions.parquet").unlink()
    result = CliRunner().invoke(app, ["verdict", str(folder)])
    assert result.exit_code != 0
    assert isinstance(result.exception, FileNotFoundError)
    assert "scaling run" in str(result.exception)
