"""How transfer is cut to fit a device, and what its plan says where nothing fits."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.costs.accelerators import ACCELERATORS, accelerator_of
from scaling.costs.transfer_memory import finetune_layout, finetune_setting, fitting_memory
from scaling.engines.jobs import does_not_fit
from scaling.runs.experiment import load_study
from scaling.runs.plan import make_plan
from scaling.study.config import Finetune, ResEnc, ViT
from scaling.study.ladder import resolve_encoder
from scaling.transfer.finetune_program import some_at_once

FOMO25 = Path(__file__).parents[2] / "experiments" / "fomo25.py"
WHOLE = (160, 192, 160)  # voxels of 1 mm
GB = 1e9


def memory(size: str, shape: tuple[int, int, int], masks: bool, sequences: int) -> float:
    """GB of the small scale's fine-tuning, five draws of two numbers of shots, nothing cut."""
    recipe = Finetune(batch=4)
    encoder = resolve_encoder(ViT(), size)
    return finetune_layout(encoder, recipe, masks, sequences, shape, 5, "h200").memory / GB


# XLA's account of the programs that were compiled for an H100, float32, five draws.
@pytest.mark.parametrize(("masks", "sequences", "compiled"), [(False, 4, 31.0), (True, 3, 24.1)])
def test_finetuning_on_whole_volumes_is_within_15_percent_of_what_was_compiled(
    masks: bool, sequences: int, compiled: float
) -> None:
    assert memory("2xl", (48, 64, 48), masks, sequences) == pytest.approx(compiled, rel=0.15)


def test_finetuning_that_computes_blocks_again_is_within_15_percent_of_what_was_compiled() -> None:
    # ViT l on four sequences of whole volumes in bfloat16, five draws: 11.8 GB by XLA on an H100.
    recipe = Finetune(batch=4, dtype="bfloat16")
    setting = finetune_setting("blocks", recipe, False, WHOLE, "h100")
    taken = fitting_memory(resolve_encoder(ViT(), "l"), recipe, False, 4, setting, 5, 5)
    assert taken / GB == pytest.approx(11.8, rel=0.15)


def test_every_transfer_of_the_full_study_fits_on_one_card_of_80_gb() -> None:
    plan = make_plan(load_study(FOMO25, scale="full"))
    transfers = [step for step in plan.steps if step.kind == "transfer" and step.parameters]
    assert all(0 < step.memory <= 0.75 * 80 * GB for step in transfers)
    assert not does_not_fit(plan)


def test_finetuning_in_float32_of_the_largest_rung_is_refused_with_what_would_help() -> None:
    fields = ("transfer.finetune.dtype=float32", "transfer.finetune.batch=64")
    sentence = does_not_fit(make_plan(load_study(FOMO25, fields, "full")))
    assert "transfer/" in sentence
    assert "GB for programs; set transfer.finetune.dtype=bfloat16" in sentence


def test_layout_recomputes_before_it_takes_fewer_rows() -> None:
    encoder = resolve_encoder(ViT(), "l")
    recipe = Finetune(batch=4, dtype="bfloat16")

    def layout(rows: int, accelerator: str = "h100") -> tuple[str, bool]:
        cut = finetune_layout(encoder, recipe, False, 4, WHOLE, rows, accelerator)
        assert cut.memory <= ACCELERATORS[accelerator].usable
        return cut.remat, cut.rows == rows

    assert layout(1) == ("none", True)
    assert layout(10) == ("blocks", True)
    assert layout(100) == ("blocks", False)


def test_networks_that_are_not_vmapped_take_one_row_at_a_time() -> None:
    encoder = resolve_encoder(ResEnc(), "l")
    recipe = Finetune(batch=4, dtype="bfloat16", window=(96, 96, 96))
    assert finetune_layout(encoder, recipe, True, 3, WHOLE, 10, "h100").rows == 1


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_places_a_chunk_at_a_time_give_what_all_at_once_give(count: int) -> None:
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 4)), jnp.float32)
    y = jnp.arange(5.0)
    chunked = some_at_once(lambda row, scale: {"sum": (row * scale).sum()}, count)
    expected = jax.vmap(lambda row, scale: (row * scale).sum())(x, y)
    np.testing.assert_allclose(chunked(x, y)["sum"], expected, rtol=1e-6)


def test_accelerators_are_told_from_the_names_of_devices() -> None:
    assert accelerator_of("NVIDIA H200", "gpu") == "h200"
    assert accelerator_of("NVIDIA L40S", "gpu") == "a100"
    assert accelerator_of("cpu", "cpu") == "cpu-2"
