"""metrics.jsonl: cut where a run goes on, however long it is, and read around broken lines."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scaling.tracking.tracker import keep_rows_before, lines_from_end, read_rows


def write(file: Path, steps: range) -> list[str]:
    lines = [json.dumps({"step": step, "loss": 1 / (step + 1)}) + "\n" for step in steps]
    file.write_text("".join(lines))
    return lines


@pytest.mark.parametrize("block", [1, 7, 64, 2**16])
def test_lines_from_the_end_are_those_of_the_file_with_their_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr("scaling.tracking.tracker.BLOCK", block)
    content = b"a\n\nbcd\nef" + b"x" * 20 + b"\nlast, without an end"
    (tmp_path / "file").write_bytes(content)
    expected, position = [], 0
    for line in content.splitlines(keepends=True):
        expected.append((position, line))
        position += len(line)
    with (tmp_path / "file").open("rb") as file:
        assert list(lines_from_end(file)) == expected[::-1]


@pytest.mark.parametrize("step", [0, 1, 500, 999, 1000, 2000])
def test_rows_from_a_step_on_are_dropped(tmp_path: Path, step: int) -> None:
    lines = write(tmp_path / "metrics.jsonl", range(1000))
    assert keep_rows_before(tmp_path / "metrics.jsonl", step) == (step > 0)
    assert (tmp_path / "metrics.jsonl").read_text() == "".join(lines[:step])


def test_last_line_that_a_kill_cut_short_is_dropped_without_a_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "metrics.jsonl"
    lines = write(file, range(5))
    file.write_text("".join(lines) + '{"step": 5, "lo')
    assert [row["step"] for row in read_rows(file)] == [0, 1, 2, 3, 4]
    assert capsys.readouterr().err == ""
    keep_rows_before(file, 9)
    assert file.read_text() == "".join(lines)


@pytest.mark.parametrize("broken", ["{broken", "", "[1, 2]", '{"loss": 1}', "\0\0\0"])
def test_broken_line_costs_itself_alone_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], broken: str
) -> None:
    file = tmp_path / "metrics.jsonl"
    lines = write(file, range(4))
    lines[1] = broken + "\n"
    file.write_text("".join(lines))
    assert [row["step"] for row in read_rows(file)] == [0, 2, 3]
    said = capsys.readouterr().err
    assert f"{file} is damaged: line 2 holds no row of metrics and is left out" in said
    assert said.count("\n") == 1


CODE = """
import resource, sys, time
from pathlib import Path
from scaling.tracking.tracker import keep_rows_before
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
began = time.process_time()
keep_rows_before(Path(sys.argv[1]), 999_000)
print(time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_million_lines_are_cut_in_two_seconds_and_a_hundred_megabytes(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    with file.open("w") as lines:
        lines.writelines(f'{{"step": {step}, "loss": 0.5}}\n' for step in range(1_000_000))
    command = [sys.executable, "-c", CODE, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, kilobytes = map(float, done.stdout.split())
    assert seconds < 2
    assert kilobytes < 100_000
    with file.open() as lines:
        assert sum(1 for _ in lines) == 999_000
