"""What experiment files import."""

import importlib
import subprocess
import sys

import pytest

import scaling


def test_public_names_are_the_studys_own_classes() -> None:
    for module, names in scaling.PUBLIC.items():
        for name in names:
            expected = getattr(importlib.import_module(f"scaling.study.{module}"), name)
            assert getattr(scaling, name) is expected
    listed = sorted(name for names in scaling.PUBLIC.values() for name in names)
    assert sorted(scaling.__all__) == listed


def test_public_names_import_no_jax() -> None:
    code = (
        "import sys; from scaling import Study, Data, Task, Mae, ViT; print('jax' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "False"


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        scaling.Nonsense  # noqa: B018
