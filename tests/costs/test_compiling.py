"""`scaling plan --compile`: the distinct programs of a plan, compiled, kept and listed."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from scaling.costs.accelerators import ACCELERATORS
from scaling.engines.compiled_listing import print_compiled
from scaling.engines.compiling import NOT_COMPILED, Outcome, compile_plan
from scaling.engines.plan_programs import plan_programs
from scaling.runs.experiment import load_study
from scaling.runs.plan import Plan, make_plan
from scaling.training.topology import devices_of, installed

MICRO = Path(__file__).parents[1] / "micro_study.py"
KINDS = {
    "pretraining",
    "held-out loss",
    "embedding",
    "fine-tuning",
    "prediction",
    "features",
}


def brain_age_plan() -> Plan:
    """The micro study with one of its tasks: one program of each kind."""
    study = load_study(MICRO)
    return make_plan(replace(study, tasks=study.tasks[2:]))


def compiled(plan: Plan, minutes: float) -> list[Outcome]:
    return list(compile_plan(plan, minutes, lambda line: None))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A user's cache of this file's tests."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def outcomes(cache: Path) -> list[Outcome]:
    """All programs compiled."""
    return compiled(brain_age_plan(), 30.0)


def test_programs_of_a_plan_are_distinct_and_largest_first() -> None:
    programs = plan_programs(make_plan(load_study(MICRO)))
    assert len({program.key for program in programs}) == len(programs)
    estimates = [program.estimate for program in programs]
    assert estimates == sorted(estimates, reverse=True)
    assert {program.kind for program in programs} == KINDS


def test_more_seeds_and_durations_add_no_programs() -> None:
    more = make_plan(load_study(MICRO, ("seeds=[0,1]", "durations=[160,320,640]")))
    assert len(plan_programs(more)) == len(plan_programs(make_plan(load_study(MICRO))))


def test_every_program_compiles_for_the_cpu(outcomes: list[Outcome]) -> None:
    assert {outcome.program.kind for outcome in outcomes} == KINDS
    for outcome in outcomes:
        assert outcome.compiled is not None, outcome.reason
        assert outcome.compiled.memory > 0
        assert 0 < outcome.compiled.flops / outcome.compiled.seconds <= ACCELERATORS["cpu-2"].peak


def test_flops_of_the_compiled_step_are_those_of_the_plan(outcomes: list[Outcome]) -> None:
    trunk = next(step for step in brain_age_plan().steps if step.kind == "trunk")
    (step,) = (outcome for outcome in outcomes if outcome.program.kind == "pretraining")
    assert step.compiled is not None
    assert step.compiled.flops == pytest.approx(trunk.flops / trunk.steps, rel=0.15)


def test_compiled_programs_are_kept_and_damaged_files_are_not_read(
    outcomes: list[Outcome], cache: Path
) -> None:
    def kept() -> list[str]:
        again = compiled(brain_age_plan(), 0.0)
        return [outcome.reason for outcome in again if not outcome.compiled]

    assert kept() == []
    files = list((cache / "brain-mri-scaling" / "plans").glob("*.json"))
    text = files[0].read_text()
    files[0].write_text(text[:-5])
    assert set(kept()) == {NOT_COMPILED}
    files[0].write_text(text)


def test_the_table_shows_xla_beside_the_plan_and_says_what_is_left(
    outcomes: list[Outcome],
) -> None:
    console = Console(width=400, record=True, quiet=False)
    left = replace(outcomes[0], compiled=None, reason=NOT_COMPILED)
    print_compiled([*outcomes, left], "cpu-2", console)
    text = console.export_text()
    assert "plan/XLA" in text
    assert f"1 of {len(outcomes) + 1} programs are not compiled yet" in text
    assert "Least times: every kernel at 0.2 TFLOP/s or 20 GB/s" in text


@pytest.mark.parametrize(
    ("accelerator", "module", "extra"),
    [("h100", "jax_plugins.xla_cuda12", "cuda"), ("tpu-v5e", "libtpu", "tpu")],
)
def test_a_compiler_that_is_not_installed_is_named(
    accelerator: str, module: str, extra: str
) -> None:
    if installed(module):
        pytest.skip(f"{module} is installed")
    with pytest.raises(ValueError, match=rf"brain-mri-scaling\[{extra}\]"):
        devices_of(accelerator, 1)
