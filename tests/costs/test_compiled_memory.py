"""The estimate of a program's memory against XLA's account of programs compiled for GPUs, TPUs and
CPUs: the table that `experiments/benchmarks/compiled_memory.py` writes.
"""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from scaling.training.topology import installed

SCRIPT = Path(__file__).parents[2] / "experiments" / "benchmarks" / "compiled_memory.py"
NEEDS = {"h100": "jax_plugins.xla_cuda12", "tpu-v5e": "libtpu"}


def loaded() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT_MODULE = loaded()
TABLE = SCRIPT_MODULE.read()


@pytest.mark.parametrize("number", TABLE.index)
def test_the_estimate_is_what_xla_takes(number: int) -> None:
    row = TABLE.loc[number]
    estimate = SCRIPT_MODULE.estimate(row)
    assert estimate == pytest.approx(float(row["estimate"]), rel=0.01)
    assert 0.85 <= estimate / float(row["xla"]) <= 1.15


@pytest.mark.slow
@pytest.mark.parametrize("number", TABLE.index)
def test_a_setting_compiled_again_takes_what_the_table_says(number: int) -> None:
    row = TABLE.loc[number]
    module = NEEDS.get(row["accelerator"])
    if module and not installed(module):
        pytest.skip(f"{module} is not installed")
    again = SCRIPT_MODULE.compiled(row)
    assert again["xla"] == pytest.approx(float(row["xla"]), rel=0.02)
    assert again["estimate"] == pytest.approx(float(row["estimate"]), rel=0.01)
