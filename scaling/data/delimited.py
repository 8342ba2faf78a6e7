"""Tables on disk (csv, tsv, parquet) as text, whoever wrote them."""

import codecs
import csv
import io
from pathlib import Path

import pandas as pd

from scaling.data.opening import OTHERS

UNKNOWN = (
    *("n/a", "nan", "na", "none", "null", "unknown", "missing", "not available", "n.a.", "#n/a"),
    *("<na>", "-", "--", "?", "."),
)
# A byte order mark says the encoding; without one it is UTF-8, or else Windows' Latin-1.
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as the mark of UTF-16 does
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
TABLES_CSV = 2**20  # characters a field may have


def read_table(file: Path) -> pd.DataFrame:
    """A csv, tsv or parquet table as text: columns in lower case, unknown values "".

    Raises ValueError naming the file where it is no table, and OSError where it may not be read.
    """
    if file.suffix == ".parquet":
        table = read_parquet(file)
    else:
        table = parsed(file, decoded(file, file.read_bytes()))
    names = [str(name).strip().lower() for name in table.columns]
    table.columns = pd.Index(names)
    refuse_two_columns(file, table)
    table = table.loc[:, ~table.columns.duplicated()]
    table = table.apply(lambda column: column.str.strip())
    return table.mask(table.apply(lambda column: column.str.lower().isin(UNKNOWN)), "")


def refuse_two_columns(file: Path, table: pd.DataFrame) -> None:
    """Raises ValueError where two columns of one name say different things."""
    for name in table.columns[table.columns.duplicated()].unique():
        columns = table.loc[:, table.columns == name]
        if name and columns.nunique(axis=1).gt(1).any():
            raise ValueError(
                f"{file} has {columns.shape[1]} columns {name!r} with different values; "
                "expected one"
            )


def read_parquet(file: Path) -> pd.DataFrame:
    """A parquet table, all values as text. Raises ValueError naming the file."""
    try:
        return pd.read_parquet(file).astype("string").fillna("").astype(str)
    except ValueError as error:
        raise ValueError(f"{file} is no parquet table that can be read ({error})") from error


def decoded(file: Path, content: bytes) -> str:
    """The text of a file in UTF-8, UTF-16 or Latin-1. Raises ValueError naming the file."""
    for mark, encoding in MARKS:
        if content.startswith(mark):
            try:
                return content.decode(encoding)
            except UnicodeDecodeError as error:
                raise ValueError(f"{file} is no text in {encoding} ({error})") from error
    beginning = content[:1000]
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros = beginning[first::2]
        if len(zeros) > 4 and zeros.count(0) > 0.9 * len(zeros):
            text = content.decode(encoding, "replace")
            if text[:100].replace("\t", " ").replace("\r", "").replace("\n", "").isprintable():
                return text
    for magic, what in OTHERS:
        if beginning.lstrip().lower().startswith(magic):
            raise ValueError(f"{file} is {what}")
    if b"\0" in beginning:
        raise ValueError(f"{file} is no table but a binary file; expected columns of text")
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1")


def parsed(file: Path, text: str) -> pd.DataFrame:
    """Rows of a table; columns are separated by tabs, commas, semicolons, bars or spaces,
    whichever heads it.

    Separators at the end of a row are ignored, quotation marks that are never closed are letters.
    Raises ValueError for an empty file and for a row with more values than there are columns.
    """
    lines = without_comments([line for line in text.splitlines() if line.strip()])
    if not lines:
        raise ValueError(f"{file} is empty; expected columns separated by tabs or commas")
    separator = max("\t,;|", key=lines[0].count)
    if separator not in lines[0] and len(lines[0].split()) > 1:
        separator = "\t"
        lines = ["\t".join(line.split()) for line in lines]
    csv.field_size_limit(TABLES_CSV)
    rows = list(csv.reader(io.StringIO("\n".join(lines)), delimiter=separator))
    if len(rows) < len(lines):  # an open quotation mark has swallowed rows
        rows = [line.replace('"', "").split(separator) for line in lines]
    names = without_end(rows[0])
    values = []
    for number, row in enumerate(rows[1:], start=2):
        fields = without_end(row)
        if len(fields) > len(names):
            raise ValueError(
                f"{file}, line {number} has {len(fields)} values for {len(names)} columns; "
                "expected as many"
            )
        values.append(fields + [""] * (len(names) - len(fields)))
    return pd.DataFrame(values, columns=names, dtype=str)


def without_comments(lines: list[str]) -> list[str]:
    """Lines of a table without those before its first row that begin with "#"; a header that does,
    as long as the row below it, is a header.
    """
    first = 0
    while first < len(lines) - 1 and lines[first].startswith("#"):
        header, row = lines[first].lstrip("# "), lines[first + 1]
        separator = max("\t,;|", key=header.count)
        if separator in header and header.count(separator) == row.count(separator):
            return [header, *lines[first + 1 :]]
        first += 1
    return lines[first:]


def without_end(fields: list[str]) -> list[str]:
    """Fields of a row without empty ones at its end."""
    last = len(fields)
    while last and not fields[last - 1].strip():
        last -= 1
    return fields[:last]
