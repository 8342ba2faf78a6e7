"""Tables, numbers and names of files from outside: refused in a sentence, or taken as they are."""

from pathlib import Path

import pandas as pd
import pytest

from scaling.cli.reports import report
from scaling.handin.case_files import read_number
from scaling.laws.tables import read_table
from scaling.tracking.imported import results_of

ROWS = "run,size,value\na,1,0.5\nb,2,0.6\nc,4,0.7\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"run,size,value\n", "has no rows"),
        (ROWS.encode() + b"\0\0,1,2\n", r"control characters in row 4, '\\x00\\x00'"),
        (ROWS.replace("b,", "\x1b[2J,").encode(), r"control characters in row 2, '\\x1b\[2J'"),
        (ROWS.replace("run", "run\x1b]0;x\x07").encode(), "a column .* with control characters"),
        (ROWS.encode() + b'"never closed,1,2\n', "cannot be read as a table"),
        (ROWS.encode() + b"a,b,c,d,e\n", "cannot be read as a table"),
        (ROWS.encode("utf-16"), "is not UTF-8 text"),
        (ROWS.encode() + "é,1,2\n".encode("latin-1"), "is not UTF-8 text"),
    ],
)
def test_text_that_is_no_plain_table_is_refused_naming_its_file(
    tmp_path: Path, content: bytes, words: str
) -> None:
    file = tmp_path / "theirs.csv"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=words) as error:
        read_table(file)
    assert "theirs.csv" in str(error.value)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" * 20, ROWS.encode()])
def test_parquet_that_is_none_is_refused_naming_its_file(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "theirs.parquet"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"theirs.parquet cannot be read as a table"):
        read_table(file)


def test_bytes_instead_of_text_are_refused(tmp_path: Path) -> None:
    pd.DataFrame({"size": [b"\xff", b"\xfe"]}).to_parquet(tmp_path / "theirs.parquet")
    with pytest.raises(ValueError, match=r"Column size of .*theirs.parquet holds bytes in row 1"):
        read_table(tmp_path / "theirs.parquet")


@pytest.mark.parametrize("name", ["[red]x[nope]", "a b;touch x", "-rf", "$(touch x)", "new\nline"])
def test_table_of_any_name_is_read(tmp_path: Path, name: str) -> None:
    file = tmp_path / f"{name}.csv"
    file.write_text(ROWS)
    assert read_table(file)["value"].tolist() == [0.5, 0.6, 0.7]


@pytest.mark.parametrize("name", ["..", "..."])
def test_page_of_a_table_whose_name_is_dots_stays_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / f"{name}.csv"
    file.write_text(ROWS)
    report(file, out=Path("pages/deep"), x="size", y="value", metric="auroc")
    assert [page.relative_to(tmp_path).as_posix() for page in tmp_path.rglob("*.html")] == [
        "pages/deep/table/report.html"
    ]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0.1, float("inf")], "1 infinite values, the first in row 2"),
        (pd.to_datetime(["2020-01-01", "2020-01-02"]), "holds dates"),
        ([{"a": 1}, None], "expected numbers"),
        (["0.1", "=1+1"], "holds '=1[+]1': expected numbers"),
    ],
)
def test_import_of_values_that_are_no_numbers_is_refused(values: object, words: str) -> None:
    runs = pd.DataFrame({"n": [1, 2], "dice": values})
    with pytest.raises(ValueError, match=rf"column dice .*{words}"):
        results_of(runs, "n", None, ["dice"], {})


@pytest.mark.parametrize("text", ["1_0", "0x10", "1e999", "nan", "1 2", "", "__import__('os')"])
def test_prediction_that_is_no_number_is_refused_naming_its_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "sub_1.txt"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"sub_1.txt holds .*; expected one finite number"):
        read_number(file)
