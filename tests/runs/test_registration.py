"""A design is registered before test cases are read; changes since are named."""

import dataclasses
from pathlib import Path

import pytest

from scaling.files import write_json
from scaling.runs.experiment import load_study
from scaling.runs.ledger import LEDGER, read_ledger, record_evaluation, seen_before
from scaling.runs.plan import make_plan
from scaling.runs.registration import design_digest, register, registered_in_words

STUDY = load_study(Path(__file__).parents[1] / "micro_study.py")


def test_design_of_another_name_or_machine_is_the_same_design() -> None:
    execution = dataclasses.replace(STUDY.execution, workers=7)
    renamed = dataclasses.replace(STUDY, name="other", execution=execution)
    assert design_digest(renamed) == design_digest(STUDY)


def test_design_of_other_seeds_is_another_design() -> None:
    assert design_digest(dataclasses.replace(STUDY, seeds=(1,))) != design_digest(STUDY)


def test_registration_names_the_fields_that_changed_since(tmp_path: Path) -> None:
    said = register(tmp_path, make_plan(STUDY))
    assert design_digest(STUDY) in said
    assert said.endswith("unchanged since.")
    changed = dataclasses.replace(STUDY, seeds=(0, 1))
    assert "seeds was [0], is [0, 1]" in registered_in_words(tmp_path, changed)
    with pytest.raises(ValueError, match=r"registers another design: seeds was \[0\]"):
        register(tmp_path, make_plan(changed))


def test_registration_after_a_test_case_was_read_is_refused(tmp_path: Path) -> None:
    plan = make_plan(STUDY)
    begun = next(step for step in plan.steps if step.kind == "transfer")
    write_json(tmp_path / begun.name / "config.json", {})
    with pytest.raises(ValueError, match="a registration comes before them"):
        register(tmp_path, plan)
    assert "was not registered" in registered_in_words(tmp_path, STUDY)


def test_ledger_counts_earlier_studies_and_designs_on_the_same_cases(tmp_path: Path) -> None:
    cases = ["test/sub_1/ses_1", "test/sub_2/ses_1"]
    one = dataclasses.replace(STUDY, name="one")
    two = dataclasses.replace(STUDY, name="two", seeds=(1,))
    again = dataclasses.replace(STUDY, name="again")
    for earlier in (one, two, again):
        assert record_evaluation(tmp_path, earlier, "age", cases) == ""
    record_evaluation(tmp_path, one, "age", cases)  # a second time: no further line
    assert len(read_ledger(tmp_path)) == 3
    said = seen_before(tmp_path, dataclasses.replace(STUDY, name="now"), "age", [*cases, "new"])
    assert said is not None
    assert said.startswith("2 of the 3 test cases of age had been evaluated by 3 earlier studies")
    assert "of 2 designs" in said


def test_ledger_of_a_study_alone_does_not_count_itself(tmp_path: Path) -> None:
    record_evaluation(tmp_path, STUDY, "age", ["a"])
    assert seen_before(tmp_path, STUDY, "age", ["a"]) is None


def test_ledger_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / LEDGER).mkdir()
    assert "is not recorded" in record_evaluation(tmp_path, STUDY, "age", ["a"])


def test_ledger_with_a_damaged_line_names_it(tmp_path: Path) -> None:
    record_evaluation(tmp_path, STUDY, "age", ["a"])
    with (tmp_path / LEDGER).open("a") as lines:
        lines.write("{\n")
    with pytest.raises(ValueError, match=r"evaluations\.jsonl line 2 is not an evaluation"):
        read_ledger(tmp_path)
