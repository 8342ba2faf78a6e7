"""The estimate of a step's memory against XLA's account of programs compiled for GPU and CPU: the
table that `experiments/benchmarks/compiled_memory.py` writes.
"""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from scaling.costs.memory import step_memory
from scaling.study.config import Mae, Pretrain
from scaling.study.families import validate_family
from scaling.study.ladder import resolve_decoder, resolve_encoder
from scaling.training.topology import installed

SCRIPT = Path(__file__).parents[2] / "experiments" / "benchmarks" / "compiled_memory.py"
TABLE = pd.read_csv(Path(__file__).with_name("compiled_memory.csv")).fillna({"flags": ""})
NEEDS = {"h100": "jax_plugins.xla_cuda12", "tpu-v5e": "libtpu"}


def closed_form(row: pd.Series) -> int:
    family = validate_family({"kind": row["family"]})
    recipe = Pretrain(
        crop=(int(row["crop"]),) * 3,
        batch=int(row["batch"]),
        warmup=int(row["batch"]),
        dtype=row["dtype"],
        remat=row["remat"],
        augment=row["augment"],
    )
    replica, fsdp, tensor = map(int, row["mesh"].split("x"))
    encoder, decoder = resolve_encoder(family, row["size"]), resolve_decoder(family)
    return step_memory(Mae(), encoder, decoder, recipe, (replica, fsdp, tensor), row["accelerator"])


@pytest.mark.parametrize("number", TABLE.index)
def test_the_estimate_is_enough_and_hardly_more_than_xla_takes(number: int) -> None:
    row = TABLE.loc[number]
    estimate = closed_form(row)
    assert estimate == pytest.approx(row["estimate"], rel=0.01)
    # On a GPU ViT s takes 17 % less than estimated, and recomputed blocks of ViT l 36 % less.
    most = 1.4 if row["accelerator"] == "h100" and row["family"] == "vit" else 1.15
    assert 0.85 <= estimate / row["xla"] <= most


@pytest.mark.slow
@pytest.mark.parametrize("number", TABLE.index)
def test_a_setting_compiled_again_takes_what_the_table_says(number: int) -> None:
    row = TABLE.loc[number]
    module = NEEDS.get(row["accelerator"])
    if module and not installed(module):
        pytest.skip(f"{module} is not installed")
    command = [sys.executable, str(SCRIPT), "--again", str(number)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    xla, estimate, _ = done.stdout.split()[-3:]
    assert int(xla) == pytest.approx(row["xla"], rel=0.02)
    assert int(estimate) == pytest.approx(row["estimate"], rel=0.01)
