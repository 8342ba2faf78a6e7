"""Short runs that are only compared, against the runs of a study."""

from pathlib import Path

import pytest

from scaling.engines.run_step import study_cache
from scaling.files import read_json
from scaling.runs.experiment import load_study
from scaling.runs.plan import make_plan
from scaling.runs.steps import PretrainStep
from scaling.training.sweep import loss_after
from tests.conftest import EXPERIMENT


def test_run_of_its_own_ends_at_the_loss_of_the_cooldown_off_the_trunk(finished: Path) -> None:
    study_dir = finished / "runs/micro"
    step = next(step for step in make_plan(load_study(EXPERIMENT)).steps if step.kind == "cooldown")
    assert isinstance(step.config, PretrainStep)
    done: list[tuple[float, float]] = []
    loss = loss_after(step.config, study_cache(study_dir), lambda *progress: done.append(progress))
    assert loss == pytest.approx(
        read_json(study_dir / step.name / "summary.json")["heldout_loss"], rel=1e-5
    )
    assert done[-1] == (20, 20)
    recipe = step.config.pretrain
    frozen = loss_after(
        step.config,
        study_cache(study_dir),
        lambda *_: None,
        peak=lambda step: recipe.learning_rate if step < 5 else 0.0,
    )
    assert frozen > loss
