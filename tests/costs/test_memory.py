"""The closed form of a step's memory against the account of XLA's compiled step, and what a plan
makes of it.
"""

import math
from pathlib import Path

import jax
import pytest

from scaling.costs.accelerators import ACCELERATORS
from scaling.costs.memory import step_memory
from scaling.engines.jobs import does_not_fit
from scaling.runs.experiment import load_study
from scaling.runs.plan import make_plan
from scaling.study.config import Family, Mae, Pretrain, ResEnc, UNet, ViT
from scaling.study.ladder import resolve_decoder, resolve_encoder
from scaling.study.objectives import Contrastive, CrossSequence, Hybrid, Momentum, ObjectiveConfig
from scaling.training.mesh import abstract_batch, make_mesh
from scaling.training.program import NEVER, pretraining_program

MICRO = Path(__file__).parents[1] / "micro_study.py"
MAE = Mae()
RUNGS: list[tuple[Family, str, int, int]] = [
    (ViT(), "s", 48, 16),
    (ViT(decoder_width=256, decoder_depth=4), "m", 48, 8),
    (ViT(), "l", 24, 8),
]
HEADS: tuple[Family, str, int, int] = (
    ViT(decoder_width=256),
    "l",
    48,
    8,
)  # four in the encoder and in the decoder
CONVOLUTIONAL: list[tuple[Family, str, int, int]] = [
    (UNet(levels=4), "m", 32, 8),
    (UNet(levels=3, skips=False), "xs", 32, 8),
    (ResEnc(levels=4), "xs", 32, 8),
]


def ratio(
    family: Family,
    size: str,
    recipe: Pretrain,
    shape: tuple[int, int, int],
    config: ObjectiveConfig = MAE,
    parts: int = 1,
    accelerator: str = "cpu-2",
) -> float:
    """The closed form over what XLA says: arguments, outputs and temporaries of a step, state
    counted once, since it is donated.
    """
    encoder, decoder, mesh = (
        resolve_encoder(family, size),
        resolve_decoder(family),
        make_mesh(*shape),
    )
    platform = ACCELERATORS[accelerator].platform
    program = pretraining_program(config, encoder, decoder, recipe, mesh, parts, platform)
    volumes = config.batch_shape(recipe.batch, recipe.crop)
    lowered = program.step.lower(
        program.abstract, abstract_batch(mesh, volumes), jax.random.key(1), 1.5e-3, 10, NEVER
    )
    found = lowered.compile().memory_analysis()
    state = sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * 4
        for leaf in jax.tree.leaves(program.abstract)
    )
    if shape[0] == 1:
        assert found.alias_size_in_bytes >= state
    taken = (
        found.argument_size_in_bytes
        + found.output_size_in_bytes
        - found.alias_size_in_bytes
        + found.temp_size_in_bytes
    )
    return step_memory(config, encoder, decoder, recipe, shape, accelerator, parts) / taken


@pytest.mark.parametrize(
    ("remat", "shape", "parts"),
    [
        ("none", (1, 1, 1), 1),
        ("blocks", (1, 8, 1), 1),
        pytest.param("dots", (1, 1, 1), 4, marks=pytest.mark.slow),
    ],
)
def test_memory_of_a_small_step_is_what_xla_says(
    remat: str, shape: tuple[int, int, int], parts: int
) -> None:
    recipe = Pretrain(crop=(24, 24, 24), batch=16, warmup=16, remat=remat)  # type: ignore[arg-type]
    assert ratio(ViT(), "xxs", recipe, shape, parts=parts) == pytest.approx(1, abs=0.15)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "size", "crop", "batch", "remat", "shape"),
    [(*rung, "none", (1, 1, 1)) for rung in RUNGS + CONVOLUTIONAL]
    + [
        (*rung, remat, shape)
        for rung in RUNGS
        for remat in ("blocks", "dots")
        for shape in ((1, 1, 1), (1, 8, 1), (8, 1, 1))
    ]
    + [
        (*HEADS, remat, shape)
        for remat in ("none", "blocks", "dots")
        for shape in ((1, 1, 4), (1, 2, 4), (2, 2, 2))
    ],
)
def test_memory_of_every_family_is_what_xla_says(
    family: Family, size: str, crop: int, batch: int, remat: str, shape: tuple[int, int, int]
) -> None:
    recipe = Pretrain(crop=(crop,) * 3, batch=batch, warmup=16, remat=remat)  # type: ignore[arg-type]
    assert ratio(family, size, recipe, shape) == pytest.approx(1, abs=0.15)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config", [Contrastive(), Momentum(), Hybrid(), CrossSequence()], ids=lambda c: c.kind
)
@pytest.mark.parametrize(
    ("family", "size", "crop", "batch"),
    [RUNGS[0], (UNet(levels=3), "xs", 32, 8), (ResEnc(levels=3), "xs", 32, 8)],
)
def test_memory_of_every_objective_is_what_xla_says(
    config: ObjectiveConfig, family: Family, size: str, crop: int, batch: int
) -> None:
    recipe = Pretrain(crop=(crop,) * 3, batch=batch, warmup=16)
    assert ratio(family, size, recipe, (1, 1, 1), config) == pytest.approx(1, abs=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["none", "blocks", "dots"])
def test_memory_in_bfloat16_on_cpu_is_what_xla_says(remat: str) -> None:
    family, size, crop, batch = RUNGS[0]
    recipe = Pretrain(crop=(crop,) * 3, batch=batch, warmup=16, remat=remat, dtype="bfloat16")  # type: ignore[arg-type]
    assert ratio(family, size, recipe, (1, 1, 1)) == pytest.approx(1, abs=0.15)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "size", "crop", "batch"), RUNGS + CONVOLUTIONAL)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 8, 1), (8, 1, 1)])
def test_memory_of_what_a_gpu_is_given_is_enough_and_hardly_more(
    family: Family,
    size: str,
    crop: int,
    batch: int,
    shape: tuple[int, int, int],
) -> None:
    # Compiled here: XLA's own attention and convolutions.
    recipe = Pretrain(crop=(crop,) * 3, batch=batch, warmup=16)
    assert 0.85 < ratio(family, size, recipe, shape, accelerator="h100") < 1.3


def test_plan_divides_a_number_of_devices_by_what_fits() -> None:
    large = [
        "pretrain.batch=16",
        "durations=[320]",
        "execution.accelerator=tpu-v5e",
        'sizes=["xxs","4xl"]',
    ]
    large += ["families.0.decoder_width=2048", "families.0.decoder_depth=12"]
    plan = make_plan(load_study(MICRO, [*large, "execution.mesh=8"]))
    trunks = [step for step in plan.steps if step.kind == "trunk"]
    assert [step.mesh for step in trunks] == [(8, 1, 1), (4, 2, 1)]
    assert all(step.memory <= 16e9 for step in trunks)
    assert not does_not_fit(plan)
    assert "trunk-256 does not fit: it needs" in does_not_fit(
        make_plan(load_study(MICRO, [*large, "execution.mesh=[8,1]"]))
    )


def test_plan_shares_out_samples_where_there_are_more_devices_than_samples() -> None:
    heads = ['sizes=["xxs","l"]', "families.0.decoder_width=256", "families.0.decoder_depth=1"]
    plan = make_plan(load_study(MICRO, [*heads[1:], 'sizes=["l"]', "execution.mesh=32"]))
    assert {step.mesh for step in plan.steps if step.kind == "trunk"} == {(8, 1, 4)}
    asked = make_plan(load_study(MICRO, [*heads[1:], 'sizes=["l"]', "execution.mesh=[4,2,4]"]))
    assert {step.mesh for step in asked.steps if step.kind == "cooldown"} == {(4, 2, 4)}
    with pytest.raises(
        ValueError,
        match=r"tensor axis of 4, but the attention heads of a vit of this size .* among 1; choose",
    ):
        make_plan(load_study(MICRO, [*heads, "execution.mesh=[2,1,4]"]))
    with pytest.raises(
        ValueError,
        match=r"batch=8 is not divisible by the 32 devices of execution.mesh; it must be a "
        r"multiple of 32",
    ):
        make_plan(load_study(MICRO, [*heads, "execution.mesh=32"]))
    with pytest.raises(
        ValueError, match=r"tensor axis of 2, but the attention heads of a unet of this size"
    ):
        make_plan(
            load_study(
                MICRO,
                ['families=[{"kind":"unet","levels":2}]', 'sizes=["xs"]', "execution.mesh=[1,1,2]"],
            )
        )


def test_parts_of_a_batch_take_less_and_are_refused_where_cases_are_compared() -> None:
    plans = [
        make_plan(load_study(MICRO, ["pretrain.batch=16", f"execution.accumulate={parts}"]))
        for parts in (1, 4)
    ]
    whole, parts = (
        max(step.memory for step in plan.steps if step.name.startswith("pretrain/"))
        for plan in plans
    )
    assert parts < 0.7 * whole
    with pytest.raises(
        ValueError,
        match=r"execution.accumulate is 2, but objective 'contrastive' needs the whole batch "
        r"at once",
    ):
        load_study(MICRO, ['objectives=[{"kind":"contrastive"}]', "execution.accumulate=2"])
    with pytest.raises(
        ValueError,
        match=r"not divisible by the 2 x 2 devices of execution.mesh times execution.accumulate=3",
    ):
        make_plan(load_study(MICRO, ["execution.mesh=[2,2]", "execution.accumulate=3"]))
