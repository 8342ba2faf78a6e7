"""A sweep's table: goes on where it was, and is the same as if it had not stopped."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
from rich.console import Console

from scaling.engines.run_step import study_cache
from scaling.engines.sweep import SweptRun, run_sweep
from scaling.runs.experiment import load_study
from scaling.runs.plan import make_plan
from scaling.runs.steps import PretrainStep
from tests.conftest import EXPERIMENT


def test_a_sweep_runs_what_its_table_lacks_and_nothing_else(finished: Path, tmp_path: Path) -> None:
    step = next(step for step in make_plan(load_study(EXPERIMENT)).steps if step.kind == "cooldown")
    assert isinstance(step.config, PretrainStep)
    config, cache, table, console = (
        step.config,
        study_cache(finished / "runs/micro"),
        tmp_path / "sweep.csv",
        Console(quiet=True),
    )
    runs: list[SweptRun] = [
        (
            {"rate": rate, "samples": config.end},
            replace(config, pretrain=replace(config.pretrain, learning_rate=rate)),
            None,
        )
        for rate in (1e-3, 3e-3)
    ]
    whole = run_sweep(table, runs, cache, "rates", console)
    assert whole["rate"].tolist() == [1e-3, 3e-3]
    assert whole["loss"].nunique() == 2
    pd.testing.assert_frame_equal(pd.read_csv(table), whole)
    # A row that is there is believed, whatever its loss; the other is run again.
    whole.assign(loss=[9.0, 9.0]).iloc[:1].to_csv(table, index=False)
    again = run_sweep(table, runs, cache, "rates", console)
    assert again["loss"].tolist() == [9.0, whole["loss"].iloc[1]]
