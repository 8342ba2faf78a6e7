"""Tables on disk (csv, tsv, parquet) as text, whoever wrote them."""

import codecs
import csv
import io
from pathlib import Path

import pandas as pd

UNKNOWN = ("n/a", "nan", "na", "none", "null", "unknown")
# A byte order mark says the encoding; without one it is UTF-8, or else Windows' Latin-1.
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
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
    table = table.loc[:, ~table.columns.duplicated()]
    table = table.apply(lambda column: column.str.strip())
    return table.mask(table.apply(lambda column: column.str.lower().isin(UNKNOWN)), "")


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
    if b"\0" in content[:1000]:
        raise ValueError(f"{file} is no table but a binary file; expected columns of text")
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1")


def parsed(file: Path, text: str) -> pd.DataFrame:
    """Rows of a table; columns are separated by tabs, commas or semicolons, whichever heads it.

    Separators at the end of a row are ignored, quotation marks that are never closed are letters.
    Raises ValueError for an empty file and for a row with more values than there are columns.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"{file} is empty; expected columns separated by tabs or commas")
    separator = max("\t,;", key=lines[0].count)
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


def without_end(fields: list[str]) -> list[str]:
    """Fields of a row without empty ones at its end."""
    last = len(fields)
    while last and not fields[last - 1].strip():
        last -= 1
    return fields[:last]
