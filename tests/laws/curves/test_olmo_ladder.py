"""The published predictions of the OLMo ladder. Set SCALING_LAWS_REFS to the folder of published
tables to run these."""

import importlib.util
import os
from pathlib import Path

import pandas as pd
import pytest

REFS = os.environ.get("SCALING_LAWS_REFS", "")


@pytest.mark.skipif(not REFS, reason="SCALING_LAWS_REFS names no folder of published tables")
def test_olmo_ladder_published_predictions_are_reproduced_and_globally_optimal() -> None:
    path = Path(__file__).parents[2] / "experiments" / "benchmarks" / "olmo_ladder.py"
    spec = importlib.util.spec_from_file_location("olmo_ladder", path)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    folder = Path(REFS) / "olmo_ladder"
    published = (
        pd.read_csv(folder / "published" / "step1_main.csv")
        .set_index("Task")["Pred"]
        .drop("mmlu_avg_test_5shot")
    )
    for task, prediction in published.items():
        table = benchmark.ladder(folder, task)
        runs, target = table[table["mode"] == "train"], table[table["label"] == benchmark.TARGET]
        assert benchmark.published_procedure(runs, target) == pytest.approx(prediction, abs=1e-5)
        assert benchmark.global_optimum(runs, target) == pytest.approx(prediction, abs=1e-4)
