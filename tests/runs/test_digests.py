"""Outputs that are not what was written are found, named, and their step counts as not done."""

import json
import os
from pathlib import Path

import pytest

from scaling.runs.digests import DamagedError, damage, flipped, record, require_whole
from scaling.runs.experiment import load_study
from scaling.runs.plan import Plan, make_plan
from scaling.runs.rundir import (
    begin,
    damage_of,
    disown,
    finish,
    plan_status,
    step_status,
)

MICRO = Path(__file__).parents[1] / "micro_study.py"
TRANSFER = "transfer/mae-xxs-seed0-160-infarct"
COOLDOWN = "pretrain/mae-xxs-seed0-160"


def flip(file: Path, keep_time: bool = False) -> None:
    """Flip one bit in the middle of a file."""
    state = file.stat()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    if keep_time:
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))


@pytest.fixture
def study(tmp_path: Path) -> tuple[Path, Plan]:
    """A study whose steps are done, each with a small output, as if they had run."""
    plan = make_plan(load_study(MICRO))
    for step in plan.steps:
        folder = begin(tmp_path, step, "cpu")
        (folder / "checkpoints/20").mkdir(parents=True)
        (folder / "checkpoints/20/weights").write_bytes(b"weights of " + step.name.encode())
        (folder / "results.parquet").write_bytes(b"results of " + step.name.encode())
    for step in plan.steps:
        finish(tmp_path / step.name, step, 1.0)
    return tmp_path, plan


def test_flipped_bit_in_an_output_makes_its_step_and_only_it_damaged(
    study: tuple[Path, Plan],
) -> None:
    folder, plan = study
    flip(folder / COOLDOWN / "checkpoints/20/weights")
    statuses = plan_status(folder, plan)
    assert {name for name, status in statuses.items() if status != "done"} == {COOLDOWN}
    assert statuses[COOLDOWN] == "damaged"
    assert "checkpoints/20/weights is damaged: its content is not what was written" in damage_of(
        folder, plan.step_of[COOLDOWN]
    )


@pytest.mark.parametrize("harm", ["empty", "missing", "longer"])
@pytest.mark.parametrize("name", ["results.parquet", "checkpoints/20/weights"])
def test_output_that_is_empty_missing_or_longer_is_named(
    study: tuple[Path, Plan], harm: str, name: str
) -> None:
    folder, plan = study
    file = folder / TRANSFER / name
    match harm:
        case "empty":
            file.write_bytes(b"")
        case "missing":
            file.unlink()
        case _:
            file.write_bytes(file.read_bytes() + b"!")
    assert step_status(folder, plan.step_of[TRANSFER]) == "damaged"
    assert str(file) in damage_of(folder, plan.step_of[TRANSFER])


def test_copied_study_with_new_times_is_still_done(study: tuple[Path, Plan]) -> None:
    folder, plan = study
    for file in folder.rglob("*"):
        os.utime(file, (1e9, 1e9))
    assert set(plan_status(folder, plan).values()) == {"done"}


def test_flipped_bit_that_changed_no_time_is_found_by_whoever_opens_the_file(
    tmp_path: Path,
) -> None:
    file = tmp_path / "predictions.parquet"
    file.write_bytes(b"predictions")
    records = record(tmp_path, [file])
    flip(file, keep_time=True)
    assert damage(tmp_path, records) == ""
    with pytest.raises(DamagedError, match=r"predictions.parquet is damaged") as caught:
        require_whole(tmp_path, records)
    assert caught.value.file == file


def test_step_whose_file_another_found_damaged_is_run_again(study: tuple[Path, Plan]) -> None:
    folder, plan = study
    damaged = folder / COOLDOWN / "checkpoints/20/weights"
    assert disown(folder, plan, damaged, "weights are damaged") == COOLDOWN
    assert step_status(folder, plan.step_of[COOLDOWN]) == "failed"
    assert (folder / COOLDOWN / "ERROR").read_text() == "weights are damaged\n"
    assert disown(folder, plan, Path("/elsewhere"), "") == ""


def test_collected_table_with_a_flipped_bit_is_collected_again(study: tuple[Path, Plan]) -> None:
    folder, plan = study
    table = folder / "results.parquet"
    table.write_bytes(b"the results of all steps")
    finish(folder / "collect", plan.step_of["collect"], 1.0, [table])
    records = json.loads((folder / "collect/DONE").read_text())["files"]
    assert flipped(folder / "collect", records) is None
    flip(table, keep_time=True)
    damaged = flipped(folder / "collect", records)
    assert damaged is not None
    assert damaged.resolve() == table.resolve()
    assert disown(folder, plan, damaged, "the table is damaged") == "collect"
    # A table that a verb has written anew since is another one, not a damaged one.
    table.write_bytes(b"the results of some steps")
    assert flipped(folder / "collect", records) is None


@pytest.mark.parametrize("content", [b"", b"{", b"\0" * 40])
def test_step_with_an_unreadable_marker_is_resumed(
    study: tuple[Path, Plan], content: bytes
) -> None:
    folder, plan = study
    (folder / COOLDOWN / "DONE").write_bytes(content)
    assert step_status(folder, plan.step_of[COOLDOWN]) == "partial"
    begin(folder, plan.step_of[COOLDOWN], "cpu")
    assert (folder / COOLDOWN / "checkpoints/20/weights").exists()


def test_finished_step_needs_no_config_and_an_unfinished_one_without_starts_anew(
    study: tuple[Path, Plan],
) -> None:
    folder, plan = study
    (folder / COOLDOWN / "config.json").write_bytes(b"")
    assert step_status(folder, plan.step_of[COOLDOWN]) == "done"
    (folder / COOLDOWN / "DONE").unlink()
    assert step_status(folder, plan.step_of[COOLDOWN]) == "todo"
    (folder / COOLDOWN / "attempts.jsonl").write_text('{"seconds": 1, "devices": 1}\n')
    begin(folder, plan.step_of[COOLDOWN], "cpu")
    assert not (folder / COOLDOWN / "checkpoints").exists()
    assert (folder / COOLDOWN / "attempts.jsonl").exists()


def test_run_folder_of_format_one_is_done_and_that_of_a_later_one_is_refused(
    study: tuple[Path, Plan],
) -> None:
    folder, plan = study
    step = plan.step_of[COOLDOWN]
    marker = folder / COOLDOWN / "DONE"
    marker.write_text(json.dumps({"needs": list(step.needs), "seconds": 2.0}))
    assert step_status(folder, step) == "done"
    marker.write_text(json.dumps({"needs": list(step.needs), "seconds": 2.0, "format": 3}))
    with pytest.raises(ValueError, match=r"DONE has format 3, and this version reads formats 1"):
        step_status(folder, step)


def test_config_of_an_earlier_version_that_lacks_a_field_has_its_default(
    study: tuple[Path, Plan],
) -> None:
    folder, plan = study
    step = plan.step_of[COOLDOWN]
    (folder / COOLDOWN / "DONE").unlink()
    file = folder / COOLDOWN / "config.json"
    config = json.loads(file.read_text())
    del config["pretrain"]["remat"]
    file.write_text(json.dumps(config))
    assert step_status(folder, step) == "partial"
    other = make_plan(load_study(MICRO, ["pretrain.remat=blocks"])).step_of[COOLDOWN]
    with pytest.raises(ValueError, match=r'pretrain.remat was "none", is "blocks"'):
        step_status(folder, other)
