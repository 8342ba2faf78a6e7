"""`experiments/benchmarks/acceptance.py` on a CPU: what runs the day a device is there."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from scaling.files import read_json, write_json

BENCHMARKS = Path(__file__).parents[2] / "experiments" / "benchmarks"
HOST = "crops a second of this host"


@pytest.fixture(scope="module")
def acceptance() -> Iterator[ModuleType]:
    """The script as a module, its neighbours importable."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import acceptance

        yield acceptance


def reduced(acceptance: ModuleType, name: str) -> dict[str, Any]:
    """The figures of a reduced case, measured in this process."""
    (case,) = (case for case in acceptance.cases(True) if case.name == name)
    return acceptance.figures(case)


def test_cases_have_names_of_their_own_and_functions_that_exist(acceptance: ModuleType) -> None:
    import acceptance_input
    import acceptance_runs
    import acceptance_steps

    measures = set()
    for listed in (acceptance.cases(False), acceptance.cases(True)):
        assert len({case.name for case in listed}) == len(listed)
        assert all(case.minutes <= 8 for case in listed)
        for case in listed:
            measures.add(case.measure)
            modules = (acceptance_input, acceptance_runs, acceptance_steps)
            assert any(hasattr(module, case.measure) for module in modules)
    assert measures == {case.measure for case in acceptance.cases(True)}


def test_a_step_is_measured_beside_xla_and_the_plan(acceptance: ModuleType) -> None:
    figures = reduced(acceptance, "ViT xxs")
    assert figures["ms a step"] > figures["ms at least"] > 0
    assert 0 < figures["utilisation"] < 1
    assert figures["GB by the plan"] == pytest.approx(figures["GB by XLA"], rel=0.5)
    json.dumps(figures)


def test_saving_and_waiting_are_measured(acceptance: ModuleType) -> None:
    waited = reduced(acceptance, "ViT xxs, crops read by the host")
    assert 0 <= waited["input wait"] <= 1
    saved = reduced(acceptance, "saving ViT xxs")
    # Parameters and two moments of encoder and decoder in float32.
    assert saved["GB saved"] > 3 * 4 * 1e5 / 1e9
    assert saved["seconds until it is on the disk"] >= saved["seconds of the call"] > 0


def test_the_script_goes_on_with_what_is_left_and_keeps_what_it_has(
    acceptance: ModuleType, tmp_path: Path
) -> None:
    names = [case.name for case in acceptance.cases(True)]
    written = {name: {"stage": "before", "ms": 1.0} for name in names if name != HOST}
    write_json(tmp_path / acceptance.JSON, written)
    assert acceptance.main([str(tmp_path), "--reduced", "--minutes", "0"]) == 1
    assert acceptance.main([str(tmp_path), "--reduced"]) == 0
    record = read_json(tmp_path / acceptance.JSON)
    assert {name: record[name] for name in written} == written
    assert record[HOST]["2 processes"] > 0
    table = (tmp_path / acceptance.TABLE).read_text()
    assert f"| {HOST} |" in table
    assert "| vit-64, batch 1 | 1 |" in table
    assert acceptance.main([str(tmp_path), "--reduced", "--minutes", "0"]) == 0


def test_a_case_that_fails_or_takes_too_long_is_a_result(
    acceptance: ModuleType, tmp_path: Path
) -> None:
    case = acceptance.Case("no such case", "steps", 5.0, "training_step")
    assert "no such case" not in {listed.name for listed in acceptance.cases(True)}
    result = acceptance.run_apart(case, tmp_path, 5.0, reduced=True)
    assert "KeyError" in result["error"]
    assert acceptance.run_apart(case, tmp_path, 1e-4, reduced=True) is None


@pytest.mark.slow
def test_every_reduced_case_has_figures(acceptance: ModuleType, tmp_path: Path) -> None:
    while acceptance.main([str(tmp_path), "--reduced", "--minutes", "30"]):
        pass
    record = read_json(tmp_path / acceptance.JSON)
    assert {name: result.get("error") for name, result in record.items()} == dict.fromkeys(record)
    assert record["kill and resume"]["equal after SIGKILL"] == "True"
