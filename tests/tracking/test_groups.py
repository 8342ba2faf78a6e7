"""How runs are grouped in W&B."""

from scaling.runs.experiment import load_study
from scaling.runs.plan import make_plan
from scaling.tracking.groups import group_of
from tests.conftest import EXPERIMENT


def test_groups_hold_a_model_from_trunk_to_cooldowns_and_controls_have_their_own_names() -> None:
    steps = {step.name: step for step in make_plan(load_study(EXPERIMENT)).steps}
    pretraining = {group_of(s) for name, s in steps.items() if name.startswith("pretrain/")}
    assert pretraining == {"pretrain-mae-xxs-seed0"}
    groups = {name: group_of(step) for name, step in steps.items()}
    assert groups["transfer/mae-xxs-seed0-160-infarct"] == "transfer-mae-xxs"
    assert groups["transfer/scratch-xxs-seed0-infarct"] == "control-scratch-xxs"
    assert groups["transfer/classical-infarct"] == "control-classical"
    assert not any(group.startswith("none") or group.endswith("-") for group in groups.values())
