"""The plan: what depends on what, and what it costs, against the models themselves and a count over
the traced program.
"""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scaling.costs import flops
from scaling.models.compute import Compute
from scaling.models.vit import MaeDecoder, VitEncoder
from scaling.objectives.build import build_objective
from scaling.runs.experiment import load_study
from scaling.runs.plan import make_plan
from scaling.runs.steps import PretrainStep, TransferStep
from scaling.study.config import Mae, Pretrain, Remat, ViT
from scaling.study.ladder import VIT_WIDTHS, resolve_decoder, resolve_encoder
from scaling.study.objectives import (
    Contrastive,
    CrossSequence,
    Hybrid,
    Momentum,
    ObjectiveConfig,
    head_parameters,
)

MICRO = Path(__file__).parents[1] / "micro_study.py"
CROP = (24, 32, 24)


def count(module: object) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.split(module)[1]))


def traced_flops(jaxpr: jax.extend.core.Jaxpr) -> int:
    """FLOPs of all matrix products in a traced program, scans unrolled."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contract, _), _ = equation.params["dimension_numbers"]
            length = np.prod([equation.invars[0].aval.shape[axis] for axis in contract], dtype=int)
            total += 2 * int(length) * equation.outvars[0].aval.size
        times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        for inner in jax.tree.leaves(
            list(equation.params.values()),
            is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr"),
        ):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                total += times * traced_flops(inner)
    return total


@pytest.mark.parametrize("size", VIT_WIDTHS)
def test_parameters_of_every_rung_match_the_model(size: str) -> None:
    encoder, decoder = resolve_encoder(ViT(), size), resolve_decoder(ViT())
    made = nnx.eval_shape(
        lambda: (
            VitEncoder(encoder, nnx.Rngs(0), Compute()),
            MaeDecoder(decoder, encoder, CROP, nnx.Rngs(0), Compute()),
        )
    )
    assert encoder.parameters == count(made[0])
    assert decoder.parameters(encoder) == count(made[1])


@pytest.mark.parametrize(
    ("config", "remat"),
    [
        (Mae(), "none"),
        (Mae(), "blocks"),
        (Mae(), "dots"),
        (Contrastive(hidden=48, projection=24), "blocks"),
        (Momentum(projection=40), "blocks"),
        (Hybrid(), "none"),
        (CrossSequence(), "none"),
    ],
)
def test_training_flops_match_a_count_over_the_traced_program(
    config: ObjectiveConfig, remat: Remat, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is computed twice to save time counts once.
    monkeypatch.setattr(
        "scaling.models.transformer.attend",
        lambda q, k, v, platform: jax.nn.dot_product_attention(q, k, v),
    )
    encoder, decoder = resolve_encoder(ViT(), "m"), resolve_decoder(ViT())
    recipe = Pretrain(crop=CROP, batch=4, remat=remat)
    objective = build_objective(config, encoder, decoder, recipe)
    parameters = jax.eval_shape(objective.init, jax.random.key(0))
    means = jax.eval_shape(objective.followed, parameters)
    volumes = jax.ShapeDtypeStruct((2, 2, *CROP) if config.pairs else (4, *CROP), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    traced = jax.make_jaxpr(
        lambda p, m, v, k: jax.grad(lambda q: objective.loss(q | m, v, k, jnp.zeros((), int))[0])(p)
    )(parameters, means, volumes, key)
    assert 4 * flops.pretraining_flops(config, encoder, decoder, recipe) == traced_flops(
        traced.jaxpr
    )


@pytest.mark.parametrize("config", [Contrastive(), Momentum(), Hybrid()], ids=lambda c: c.kind)
def test_parameters_of_contrastive_heads_match_the_model(
    config: Contrastive | Momentum | Hybrid,
) -> None:
    encoder, decoder = resolve_encoder(ViT(), "xs"), resolve_decoder(ViT())
    head = config.contrast if isinstance(config, Hybrid) else config
    made = jax.eval_shape(
        build_objective(config, encoder, decoder, Pretrain(crop=CROP)).init, jax.random.key(0)
    )
    found = sum(leaf.size for leaf in jax.tree.leaves(made["projector"]))
    assert head_parameters(encoder.width, head.hidden, head.projection) == found


def test_plan_of_the_micro_study_is_the_expected_graph() -> None:
    plan = make_plan(load_study(MICRO, ['sizes=["xxs","xs"]']))
    needs = {step.name: step.needs for step in plan.steps}
    assert list(needs)[:3] == ["phantom", "prepare", "pretrain/mae-xxs-seed0-trunk-128"]
    assert needs["pretrain/mae-xxs-seed0-trunk-128"] == ("prepare",)
    assert needs["pretrain/mae-xxs-seed0-160"] == ("pretrain/mae-xxs-seed0-trunk-128",)
    assert needs["pretrain/mae-xxs-seed0-trunk-256"] == ("pretrain/mae-xxs-seed0-trunk-128",)
    assert needs["transfer/mae-xs-seed0-320-infarct"] == ("pretrain/mae-xs-seed0-320",)
    assert needs["transfer/scratch-xs-seed0-infarct"] == ("prepare",)
    assert needs["transfer/classical-brain-age"] == ("prepare",)
    assert set(needs["collect"]) == {name for name in needs if name.startswith("transfer/")}
    assert needs["report"] == ("collect",)
    assert len(plan.steps) == 2 + 2 * 4 + (4 + 2 + 1) * 3 + 2
    seen: set[str] = set()
    for step in plan.steps:
        assert set(step.needs) <= seen
        seen.add(step.name)


def test_fractions_of_the_subjects_are_an_axis_of_the_plan_with_trunks_of_their_own() -> None:
    plan = make_plan(load_study(MICRO, ["fractions=[0.125,1.0]"]))
    needs = {step.name: step.needs for step in plan.steps}
    assert needs["pretrain/mae-xxs-data0.125-seed0-320"] == (
        "pretrain/mae-xxs-data0.125-seed0-trunk-256",
    )
    assert needs["transfer/mae-xxs-data0.125-seed0-320-infarct"] == (
        "pretrain/mae-xxs-data0.125-seed0-320",
    )
    assert needs["transfer/mae-xxs-seed0-320-infarct"] == ("pretrain/mae-xxs-seed0-320",)
    fractions = {
        step.name: step.config.fraction
        for step in plan.steps
        if isinstance(step.config, PretrainStep)
    }
    assert all(
        fraction == (0.125 if "data" in name else 1.0) for name, fraction in fractions.items()
    )
    assert len(plan.steps) == 2 + 2 * 4 + (4 + 1 + 1) * 3 + 2


def test_trunk_sharing_saves_what_separate_runs_would_repeat() -> None:
    plan = make_plan(load_study(MICRO))
    spent = sum(step.flops for step in plan.steps if step.kind in ("trunk", "cooldown"))
    trained = sum(step.samples for step in plan.steps if step.kind in ("trunk", "cooldown"))
    assert trained == 256 + 32 + 64
    assert (spent + plan.flops_saved) / spent == pytest.approx((160 + 320) / trained)


def test_every_cooldown_ends_at_its_duration_after_its_share_of_decay() -> None:
    for step in make_plan(load_study(MICRO)).steps:
        if step.kind == "cooldown":
            assert isinstance(step.config, PretrainStep)
            assert step.config.end - step.config.decay_from == 0.2 * step.config.end == step.samples


def test_objectives_are_an_axis_of_the_plan_named_by_kind_or_by_a_name_of_their_own() -> None:
    objectives = (
        'objectives=[{"kind":"mae"},{"kind":"mae","name":"mae-blocks","block":2},'
        '{"kind":"contrastive"}]'
    )
    plan = make_plan(load_study(MICRO, [objectives]))
    needs = {step.name: step.needs for step in plan.steps}
    for label in ("mae", "mae-blocks", "contrastive"):
        assert needs[f"transfer/{label}-xxs-seed0-320-infarct"] == (
            f"pretrain/{label}-xxs-seed0-320",
        )
        assert needs[f"pretrain/{label}-xxs-seed0-320"] == (
            f"pretrain/{label}-xxs-seed0-trunk-256",
        )
    assert len(plan.steps) == 2 + 3 * 4 + (3 * 2 + 1 + 1) * 3 + 2


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (['objectives=[{"kind":"mae"},{"kind":"mae","block":2}]'], "no entry twice"),
        (['objectives=[{"kind":"simsiam"}]'], "objectives.0"),
        (
            ['objectives=[{"kind":"contrastive"}]', "execution.mesh=[8,1]"],
            "must be a multiple of 16",
        ),
        (
            ["execution.mesh=[3,1]"],
            "batch=8 is not divisible by the 3 x 1 devices .* multiple of 3",
        ),
        (['objectives=[{"kind":"contrastive"}]', "pretrain.augment=none"], "two equal views"),
        (['objectives=[{"kind":"mae","mask_ratio":1.0}]'], "less than 1"),
        (['objectives=[{"kind":"contrastive","name":"a/b"}]'], "objectives is named 'a/b'"),
    ],
)
def test_objectives_that_cannot_be_run_are_refused(overrides: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_plan(load_study(MICRO, overrides))


def test_families_side_by_side_have_runs_controls_and_rungs_of_their_own() -> None:
    families = 'families=[{"kind":"vit"},{"kind":"unet","levels":3,"sizes":["xs","s"]}]'
    plan = make_plan(load_study(MICRO, [families]))
    names = {step.name for step in plan.steps}
    assert {
        "pretrain/mae-xxs-seed0-320",
        "pretrain/mae-unet-xs-seed0-320",
        "pretrain/mae-unet-s-seed0-320",
    } <= names
    assert {"transfer/scratch-xxs-seed0-infarct", "transfer/scratch-unet-s-seed0-infarct"} <= names
    assert not any("unet-xxs" in name for name in names)
    with pytest.raises(ValueError, match=r"families is .*no entry twice"):
        load_study(MICRO, ['families=[{"kind":"vit"},{"kind":"vit"}]'])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (
            "transfer.finetune.window=[16,16,12]",
            r"transfer.finetune.window is \(16, 16, 12\); expected multiples of 8",
        ),
        ("transfer.finetune.window=[32,16,16]", "each at most that of data.volumes.shape"),
        ("transfer.finetune.tuning=[1]", "expected budgets below the 1 learning_rates"),
        ("transfer.finetune.learning_rates=[]", "expected one rate or more"),
    ],
)
def test_recipes_that_do_not_fit_are_refused_naming_the_field(change: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        load_study(MICRO, [change])


def test_a_number_of_shots_that_is_added_leaves_the_other_transfers_as_they_are() -> None:
    study = load_study(MICRO)
    task = study.tasks[0]
    more = dataclasses.replace(task, shots=(*task.shots, 5))
    before = {step.name: step.config for step in make_plan(study).steps}
    grown = dataclasses.replace(study, tasks=(more, *study.tasks[1:]))
    after = {step.name: step.config for step in make_plan(grown).steps}
    transfers = [name for name in before if name.startswith("transfer/")]
    assert all(after[name] == before[name] for name in transfers)
    added = sorted(after.keys() - before.keys())
    assert [name.rsplit("-", 1)[1] for name in added] == ["5shots"] * 4


def test_transfers_of_a_task_share_it_so_that_thousands_are_resolved_once() -> None:
    plan = make_plan(load_study(MICRO, ["seeds=[0,1,2]"]))
    transfers = [step.config for step in plan.steps if isinstance(step.config, TransferStep)]
    assert len(transfers) == 30
    for name in ("infarct", "meningioma", "brain-age"):
        ours = [config for config in transfers if config.task.name == name]
        for field in ("task", "transfer", "data"):
            assert len({id(getattr(config, field)) for config in ours}) == 1, (name, field)
