"""The verbs on tables, given a study's own results.csv, and tables without named columns."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from scaling.cli import app
from scaling.laws.own_results import is_study_results, models_table, scores_table

RUNNER = CliRunner()


def study_results() -> pd.DataFrame:
    """Three sizes x three durations of one objective and a control, two protocols, two domains."""
    rng = np.random.default_rng(0)
    rows = []
    runs = [("pretrained", p, d) for p in (1e5, 4e5, 16e5) for d in (1000, 2000, 4000)]
    for arm, params, duration in [*runs, ("scratch", 1e5, 0)]:
        for protocol in ("finetune", "probe"):
            for domain, site in (("out", "a"), ("out", "b"), ("in", "c")):
                for draw in range(2):
                    level = 0.6 + 0.02 * np.log2(params * max(duration, 1) / 1e8)
                    value = level + 0.1 * (domain == "in") + 0.003 * rng.normal()
                    facts = {"run": f"{arm}-{params:g}-{duration}", "arm": arm, "params": params}
                    facts |= {"duration": duration, "trunk": f"{arm}-{params:g}", "task": "infarct"}
                    facts |= {"objective": "mae" if arm == "pretrained" else "none", "size": "xs"}
                    facts |= {"protocol": protocol, "shots": 16, "draw": draw, "site": site}
                    rows.append({**facts, "domain": domain, "metric": "auroc", "value": value})
    return pd.DataFrame(rows)


def run(folder: Path, table: pd.DataFrame, *arguments: str):
    table.to_csv(folder / "results.csv", index=False)
    verb, *options = arguments
    return RUNNER.invoke(app, [verb, str(folder / "results.csv"), *options])


def test_scores_are_of_one_protocol_one_domain_and_pretrained_runs() -> None:
    table = study_results()
    assert is_study_results(table)
    scores, sentence = scores_table(table)
    expected = table.query("arm == 'pretrained' and protocol == 'probe' and domain == 'out'")
    assert sorted(scores["value"]) == sorted(expected["value"])
    assert "by probe, at out-of-domain test sites" in sentence


def test_models_are_means_over_draws_and_sites_with_controls_named() -> None:
    table = study_results()
    models, _ = models_table(table)
    expected = table.query("protocol == 'probe' and domain == 'out'").groupby("run")["value"].mean()
    for run_name, value in expected.items():
        label = run_name if run_name.startswith("pretrained") else f"scratch: {run_name}"
        (row,) = models.loc[models["model"] == label, "infarct_auroc"]
        assert row == pytest.approx(value)


@pytest.mark.parametrize("verb", ["fit", "verdict", "rank"])
def test_verbs_read_a_studys_results_without_options(verb: str, tmp_path: Path) -> None:
    done = run(tmp_path, study_results(), verb, "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    if verb == "rank":
        assert document["ranking"][0]["model"] == "pretrained-1.6e+06-4000"
    if verb == "verdict":
        assert document["verdicts"][0]["effects"][0]["estimate"] > 0
    if verb == "fit":
        assert document["curves"][0]["task"] == "infarct"


def test_fit_without_named_columns_lists_what_the_table_has(tmp_path: Path) -> None:
    table = pd.DataFrame({"parameters": [1e6, 2e6], "dice": [0.5, 0.6], "team": ["a", "b"]})
    done = run(tmp_path, table, "fit")
    assert done.exit_code != 0
    assert "--x (columns of numbers: parameters, dice)" in str(done.exception)
    sized = run(tmp_path, table.rename(columns={"parameters": "size"}), "fit")
    assert "--y (columns of numbers: size, dice)" in str(sized.exception)
