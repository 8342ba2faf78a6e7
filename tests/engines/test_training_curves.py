"""Training curves as they are read for the page."""

import json
from pathlib import Path

from scaling.engines.training_curves import POINTS, logged, thinned, training_curves
from scaling.runs.experiment import load_study
from scaling.runs.plan import make_plan
from tests.conftest import EXPERIMENT


def write_log(file: Path, steps: int, heldout_every: int = 0) -> None:
    """A log of `steps` lines, and a last line that a kill cut short."""
    file.parent.mkdir(parents=True)
    lines = []
    for step in range(steps):
        row = {"step": step, "samples": 8 * (step + 1), "flops": 1e6 * step, "loss": 1 / (step + 1)}
        if heldout_every and step % heldout_every == 0:
            row["heldout_loss"] = 2 / (step + 1)
        lines.append(json.dumps(row))
    file.write_text("\n".join(lines) + '\n{"step": 9')


def test_curves_of_a_study_name_the_trunk_that_steps_share(tmp_path: Path) -> None:
    plan = make_plan(load_study(EXPERIMENT))
    for name in ("mae-xxs-seed0-trunk-128", "mae-xxs-seed0-160"):
        write_log(tmp_path / "pretrain" / name / "metrics.jsonl", 10)
    curves = training_curves(tmp_path, plan)
    assert set(curves["run"]) == {"mae-xxs-seed0"}
    assert set(curves["part"]) == {"trunk", "cooldown"}
    assert len(curves) == 20
    assert set(curves["size"]) == {"xxs"}


def test_long_curve_is_thinned_evenly_and_keeps_its_ends_and_held_out_losses(
    tmp_path: Path,
) -> None:
    write_log(tmp_path / "run" / "metrics.jsonl", 3001, heldout_every=1000)
    points = thinned(list(logged(tmp_path / "run" / "metrics.jsonl")))
    assert len(points) <= POINTS + 5
    assert points[0]["samples"] == 8
    assert points[-1]["samples"] == 8 * 3001
    assert [p["heldout_loss"] for p in points if "heldout_loss" in p] == [
        2 / (step + 1) for step in (0, 1000, 2000, 3000)
    ]


def test_study_without_logs_has_an_empty_table(tmp_path: Path) -> None:
    curves = training_curves(tmp_path, make_plan(load_study(EXPERIMENT)))
    assert curves.empty
    assert {"run", "step", "samples", "loss"} <= set(curves.columns)
