"""The one writer: what it flushes and when, what it says when the disk fails, what it leaves
behind.
"""

import errno
import json
import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scaling import files


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The system calls that decide what a loss of power leaves: fsync and rename, with their
    paths.
    """
    made: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def traced_fsync(descriptor: int) -> None:
        made.append(("fsync", os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def traced_replace(source: Path, target: Path) -> None:
        made.append(("rename", f"{source} -> {target}"))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", traced_fsync)
    monkeypatch.setattr(os, "replace", traced_replace)
    return made


def test_file_is_flushed_before_its_rename_and_the_folder_after(
    tmp_path: Path, calls: list[tuple[str, str]]
) -> None:
    target = tmp_path / "DONE"
    files.write_json(target, {"seconds": 1.0})
    temporary = str(files.temporary_file(target))
    assert calls == [
        ("fsync", temporary),
        ("rename", f"{temporary} -> {target}"),
        ("fsync", str(tmp_path)),
    ]
    assert json.loads(target.read_text()) == {"seconds": 1.0}


def test_appended_line_is_flushed_and_ends_a_line_that_was_cut_short(
    tmp_path: Path, calls: list[tuple[str, str]]
) -> None:
    file = tmp_path / "attempts.jsonl"
    file.write_text('{"seconds": 1}\n{"sec')
    files.append_line(file, {"seconds": 2})
    assert file.read_text() == '{"seconds": 1}\n{"sec\n{"seconds": 2}\n'
    assert calls == [("fsync", str(file))]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "its disk is full; free some space and run again"),
        (errno.EDQUOT, "your disk quota is used up"),
        (errno.EROFS, "its file system is read-only"),
        (errno.EACCES, "you may not write there"),
        (errno.EIO, "its disk reports an error"),
    ],
)
def test_failing_disk_is_told_in_one_sentence_and_the_old_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    target = tmp_path / "results.csv"
    files.write_text(target, "old")

    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=rf"^{target} cannot be written: {words}") as caught:
        files.write_text(target, "new")
    assert caught.value.errno == number
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_folder_whose_name_a_file_has_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(OSError, match=r"study.json cannot be written: a part of this path is a fi"):
        files.write_json(tmp_path / "runs/study.json", {})
    with pytest.raises(OSError, match=r"study.json cannot be written: a part of this path is a fi"):
        files.write_json(tmp_path / "runs/deep/study.json", {})


def test_temporary_files_of_dead_processes_are_removed_and_those_of_living_ones_stay(
    tmp_path: Path,
) -> None:
    mine = files.temporary_file(tmp_path / "a")
    dead = mine.with_name(mine.name.replace(f"-{os.getpid()}.", "-4194999."))
    elsewhere = tmp_path / ".a.0badcafe-7.tmp"
    forgotten = tmp_path / ".b.0badcafe-7.tmp"
    for file in (mine, dead, elsewhere, forgotten):
        file.touch()
    os.utime(forgotten, (0, 0))
    (tmp_path / ".hidden").touch()
    files.remove_leftovers(tmp_path)
    assert set(tmp_path.iterdir()) == {mine, elsewhere, tmp_path / ".hidden"}


@pytest.mark.parametrize("content", [b"", b"\0\0\0\0", b"[1, 2]", b'{"seconds": 1', b"\xff\xfe"])
def test_marker_that_cannot_be_read_counts_as_absent(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "DONE").write_bytes(content)
    assert files.read_marker(tmp_path / "DONE") is None
    assert files.read_marker(tmp_path / "missing") is None


def test_table_carries_its_format_and_a_later_one_is_refused(tmp_path: Path) -> None:
    table = pd.DataFrame({"run": ["a", "b"], "value": [0.5, float("nan")], "draw": [0, 1]})
    files.write_table(table, tmp_path / "new.parquet")
    pd.testing.assert_frame_equal(files.read_parquet(tmp_path / "new.parquet"), table)
    assert pq.read_schema(tmp_path / "new.parquet").metadata[b"format"] == b"2"
    table.to_parquet(tmp_path / "old.parquet", index=False)
    pd.testing.assert_frame_equal(files.read_parquet(tmp_path / "old.parquet"), table)
    later = pa.Table.from_pandas(table).replace_schema_metadata({b"format": b"99"})
    pq.write_table(later, tmp_path / "later.parquet")
    with pytest.raises(ValueError, match=r"later.parquet has format 99, and this version reads"):
        files.read_parquet(tmp_path / "later.parquet")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no table at all"])
def test_broken_table_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "results.parquet").write_bytes(content)
    with pytest.raises(ValueError, match=r"results.parquet cannot be read as a table .* run again"):
        files.read_parquet(tmp_path / "results.parquet")


def table_or_none(file: Path) -> pd.DataFrame | None:
    """What a file holds, None when reading it is refused."""
    try:
        return files.read_parquet(file)
    except ValueError:
        return None


def test_flipped_bit_in_the_pages_of_a_table_gives_no_other_values(tmp_path: Path) -> None:
    file = tmp_path / "results.parquet"
    table = pd.DataFrame({"value": [0.5, 0.25, 0.125] * 20, "site": ["near", "far", "far"] * 20})
    files.write_table(table, file)
    content = file.read_bytes()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    refused = 0
    places = range(4, footer, 5)
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1
        file.write_bytes(damaged)
        read = table_or_none(file)
        refused += read is None
        assert read is None or read.equals(table), place
    assert refused > len(places) / 2
