"""Tables from outside: what their text may hold."""

import re
from pathlib import Path

import pandas as pd

# Control characters, which can move a terminal's cursor, recolour it or rename its window.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def require_plain(table: pd.DataFrame, path: Path) -> None:
    """Raises ValueError, naming column and row, when a header or an entry holds control characters
    or bytes instead of text.
    """
    for name in map(str, table.columns):
        if CONTROL.search(name):
            raise ValueError(f"{path} has a column {name!r} with control characters: rename it.")
    for column in table.select_dtypes(["object", "string", "category"]):
        for row, entry in enumerate(table[column], start=1):
            if isinstance(entry, bytes):
                raise ValueError(
                    f"Column {column} of {path} holds bytes in row {row}, {entry[:20]!r}: write "
                    "text or numbers."
                )
            if isinstance(entry, str) and CONTROL.search(entry):
                raise ValueError(
                    f"Column {column} of {path} holds control characters in row {row}, "
                    f"{entry[:40]!r}: write plain text."
                )
