"""Anybody's table of results in the shape that curves and verdicts want: size, duration, run, draw, case, task, value."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from scaling.laws.link import HIGHER_IS_BETTER, LOWER_IS_BETTER

OPTIONAL = ("run", "case", "draw", "cluster", "task")


def read_table(path: Path) -> pd.DataFrame:
    """A csv or parquet file; raises ValueError naming the file if it is neither, or holds no rows, and OSError if it is not there."""
    if path.suffix not in (".csv", ".tsv", ".parquet"):
        raise ValueError(f"{path} is not a table: expected .csv, .tsv or .parquet.")
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",")
    except pd.errors.EmptyDataError:
        raise ValueError(f"{path} is empty: expected a header and rows.") from None
    if table.empty:
        raise ValueError(f"{path} has no rows: expected one per run, or per run and case.")
    return table


def shaped(table: pd.DataFrame, x: Sequence[str], y: str, names: dict[str, str | None]) -> pd.DataFrame:
    """The columns x (size, then duration), y (value) and those named in `names` (run, case, draw, cluster, task), renamed to what the
    laws call them. A name that is None falls back to a column of that very name, if there is one; a run falls back to seed.

    Raises ValueError where a named column is absent, or where one x cannot be told from the other."""
    if not 1 <= len(x) <= 2:
        raise ValueError(f"--x names {len(x)} columns: give one (size, or any budget) or two (size,duration).")
    wanted = dict(zip(("size", "duration"), x, strict=False)) | {"value": y}
    for role in OPTIONAL:
        column = names.get(role) or (role if role in table else None)
        if column:
            wanted[role] = column
    missing = [c for c in wanted.values() if c not in table]
    if missing:
        raise ValueError(f"The table has no column {', '.join(missing)} (found {', '.join(map(str, table.columns))}).")
    result = pd.DataFrame({role: table[column] for role, column in wanted.items()})
    if "run" not in wanted and "seed" in table:
        cell = dict.fromkeys([*x, *(c for c in ("size", "duration", "objective", "arm") if c in table), "seed"])
        result["run"] = pd.factorize(pd.MultiIndex.from_frame(table[list(cell)]))[0]
    for column in ("label", "prediction", "metric"):
        if column in table and column not in result:
            result[column] = table[column]
    return result


def run_means(table: pd.DataFrame) -> pd.DataFrame:
    """One row per run: the mean of `value` over its draws and cases, with the run's other columns. Without a run column, the rows of a
    cell and case count as separate runs, in the order of the table."""
    cell = [c for c in ("size", "duration") if c in table]
    if "run" not in table:
        repeat = table.groupby([*cell, *(c for c in ("draw", "case") if c in table)], dropna=False).cumcount()
        table = table.assign(run=table[cell].astype(str).agg("/".join, axis=1) + "#" + repeat.astype(str))
    keep = [c for c in ("run", *cell, "cluster") if c in table]
    if table["value"].isna().any():
        raise ValueError(f"Column value holds {int(table['value'].isna().sum())} missing entries: score or drop those rows first.")
    return pd.DataFrame(table.groupby(keep, as_index=False, sort=False)["value"].mean())


def direction(name: str, values: pd.Series, lower: bool | None) -> tuple[bool, tuple[float, float] | None, str]:
    """Whether lower is better, the bounds of the metric, and a sentence on what was assumed, from its name and its values."""
    word = name.lower()
    numbers = pd.to_numeric(values, errors="coerce")
    inside = bool(((numbers >= 0) & (numbers <= 1)).all())
    told = lower is not None
    if lower is None:
        parts = set(word.replace("-", "_").split("_"))
        lower = bool(parts & LOWER_IS_BETTER) or (not parts & HIGHER_IS_BETTER and not inside)
    if not lower and not inside:
        bounds: tuple[float, float] | None = (-1.0, 1.0) if bool((np.abs(numbers) <= 1).all()) else None
    else:
        bounds = None if lower else (0.0, 1.0)
    scale = "an error without bounds" if bounds is None else f"bounded by {bounds[0]:g} and {bounds[1]:g}"
    other = "" if told else " (--lower or --higher says otherwise)"
    return lower, bounds, f"{name} is taken as {scale}, better when {'lower' if lower else 'higher'}{other}."
