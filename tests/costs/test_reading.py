"""Crops that a run asks of its host, and what a plan says of them and of the disk."""

from pathlib import Path

import pytest
from rich.console import Console

from scaling.costs.reading import cores_asked, crops_of_a_core, reading_threads
from scaling.engines.listing import print_plan
from scaling.runs.durations import cache_bytes
from scaling.runs.experiment import load_study
from scaling.runs.plan import Plan, make_plan

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
MICRO = Path(__file__).parents[1] / "micro_study.py"


def listed(plan: Plan) -> str:
    """What a plan prints."""
    console = Console(width=400, record=True, quiet=False)
    print_plan(plan, dict.fromkeys((step.name for step in plan.steps), "todo"), console, {})
    return console.export_text()


@pytest.mark.parametrize(
    ("side", "cores", "measured"),
    [(64, 1, 6400), (96, 4, 7600)],  # docs/results/costs.md; four threads of one process
)
def test_crops_of_a_core_are_those_measured(side: int, cores: int, measured: float) -> None:
    assert cores * crops_of_a_core((side,) * 3) == pytest.approx(measured, rel=0.02)
    assert cores_asked(measured, (side,) * 3) == pytest.approx(cores, rel=0.02)


def test_threads_follow_what_is_asked_within_the_cores() -> None:
    assert reading_threads(0.1, cores=64) == 4
    assert reading_threads(10.0, cores=64) == 15
    assert reading_threads(100.0, cores=64) == 64
    assert reading_threads(100.0, cores=2) == 4


def test_a_plan_for_gpus_says_what_it_asks_of_the_host() -> None:
    study = load_study(EXPERIMENTS / "fomo25.py", ("seeds=[0]", "durations=[256000]"), "full")
    text = listed(make_plan(study))
    assert "Input: resenc resenc-s takes up to" in text or "Input: vit l takes up to" in text
    assert "crops of 96x96x96 a second on each h100" in text
    assert "prepared volumes 9.83 MB a scan" in text


def test_a_plan_for_a_cpu_says_what_the_cohort_takes_on_disk() -> None:
    plan = make_plan(load_study(MICRO))
    assert "Input:" not in listed(plan)
    # 8 people of six sequences, of which one in seven is missing, and 6 + 4 + 6 cases for training
    # and 2 x (4 + 2 + 4) for tests of two, one and two sequences, 24^3 voxels each.
    scans = 8 * 6 * 0.85 + 18 * 2 + 8 * 1 + 18 * 2
    assert cache_bytes(plan) == pytest.approx(scans * 2 * 24**3, rel=0.2)
