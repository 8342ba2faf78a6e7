"""Anybody's table of results in the shape that curves and verdicts want: size, duration, run,
draw, case, task, value."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pyarrow import ArrowException

from scaling.laws.columns import require_columns
from scaling.laws.known_metrics import UNIT, known_metric
from scaling.laws.plain_text import require_plain
from scaling.laws.series import series_of
from scaling.laws.verdicts.trunks import with_runs_of_seeds

OPTIONAL = ("run", "case", "draw", "cluster", "block", "task", "site", "patient")
FALLBACKS = {"block": "series", "cluster": "trunk"}
"""Role -> the column that plays it where none has its name."""


def read_table(path: Path) -> pd.DataFrame:
    """A parquet file, or text separated by commas, semicolons (then perhaps with decimal commas)
    or tabs, as its header has it.

    Raises ValueError naming the file if it is none of these or holds no rows, and OSError if it
    is not there."""
    if path.suffix not in (".csv", ".tsv", ".parquet"):
        raise ValueError(f"{path} is not a table: expected .csv, .tsv or .parquet.")
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else _read_text(path)
    except pd.errors.EmptyDataError:
        raise ValueError(f"{path} is empty: expected a header and rows.") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text: save it again as UTF-8.") from None
    except pd.errors.ParserError as error:
        raise ValueError(
            f"{path} cannot be read as a table ({error}): every row needs as many entries as the "
            "header, and text with separators or quotes is quoted."
        ) from error
    except ArrowException as error:
        raise ValueError(f"{path} cannot be read as a table ({error}).") from error
    require_plain(table, path)
    if table.empty:
        raise ValueError(f"{path} has no rows: expected one per run, or per run and case.")
    return table


def _read_text(path: Path) -> pd.DataFrame:
    with path.open(encoding="utf-8-sig") as lines:
        header = lines.readline()
    separator = max(",;\t", key=header.count)
    table = pd.read_csv(path, sep=separator)
    if separator == ";" and any(
        column.astype(str).str.fullmatch(r"-?\d+,\d+").any() for _, column in table.items()
    ):
        table = pd.read_csv(path, sep=separator, decimal=",")
    return table


def shaped(
    table: pd.DataFrame,
    x: Sequence[str],
    y: str,
    names: dict[str, str | None],
    independent: bool = False,
) -> pd.DataFrame:
    """The columns x (size, then duration), y (value) and those that play the roles in `names` (run,
    case, draw, cluster, block, task, site, patient), renamed to what the laws call them.

    A role without a name falls back to a column of that very name, if there is one; a block to what
    objective, family and fraction say together, a cluster to trunk, a run to seed. `independent`:
    durations of one seed are runs of their own, not those of one trunk. Raises ValueError where a
    named column is absent or x holds anything but positive numbers, naming the first that is not.
    """
    if not 1 <= len(x) <= 2:
        raise ValueError(
            f"--x names {len(x)} columns: give one (size, or any budget) or two (size,duration); "
            "`scaling fit` also takes three (size,unique,seen)."
        )
    if len(x) == 2 and x[0] in table and x[1] not in table:
        raise ValueError(
            f"The table has no column {x[1]} (found {', '.join(map(str, table.columns))}): say "
            f"--x {x[0]} if there is only one."
        )
    if "objective" in table and "series" not in table:
        table = table.assign(series=series_of(table))
    from_predictions = y not in table and {"label", "prediction"} <= set(table)
    columns = dict(zip(("size", "duration"), x, strict=False))
    columns["value"] = "prediction" if from_predictions else y
    for role in OPTIONAL:
        fallback = role if role in table else FALLBACKS.get(role, role)
        column = names.get(role) or (fallback if fallback in table else None)
        if column:
            columns[role] = column
    require_columns(table, columns.values())
    result = pd.DataFrame({role: table[column] for role, column in columns.items()})
    for role, column in columns.items():
        if role in ("size", "duration", "value"):
            result[role] = _numbers(table[column], column, positive=role != "value")
    if "block" in result and len(result["block"].unique()) == 1:
        del result["block"]
    for column in ("label", "prediction", "metric", "seed", "arm"):
        if column in table and column not in result:
            result[column] = table[column]
    if "duration" in table and "duration" not in columns.values():
        result["length"] = table["duration"]
    if independent:
        result, _ = with_runs_of_seeds(result, independent=True)
        if "run" in result:
            result["cluster"] = result["run"]
    if from_predictions and "metric" not in result:
        result["metric"] = "auroc" if len(table["label"].unique()) == 2 else "pearson"
    return result


def _numbers(entries: pd.Series, column: str, positive: bool) -> pd.Series:
    """A column as finite numbers; missing ones stay missing, but not where they must be `positive`.

    Raises ValueError naming the first entry that is not one."""
    numbers = pd.to_numeric(entries, errors="coerce")
    wrong = ~np.isfinite(numbers) & entries.notna()
    expected = "finite numbers"
    if positive:
        wrong = ~((numbers > 0) & np.isfinite(numbers))
        expected = "positive numbers"
    if wrong.any():
        raise ValueError(
            f"Column {column} holds {int(wrong.sum())} entries that are not {expected}, the first "
            f"of them '{entries[wrong].iloc[0]}' in row {int(np.flatnonzero(wrong)[0]) + 1} of the "
            f"table: write them as {expected}, or drop the rows."
        )
    return numbers


def direction(
    name: str, values: pd.Series, lower: bool | None
) -> tuple[bool, tuple[float, float] | None, str]:
    """Whether lower is better, the bounds of the metric, and a sentence on what was assumed, from
    its name and its values.

    Raises ValueError when a metric that is known to lie between 0 and 1 does not, or a value is
    not finite."""
    numbers = pd.to_numeric(values, errors="coerce")
    if np.isinf(numbers).any():
        raise ValueError(
            f"{name} holds {int(np.isinf(numbers).sum())} infinite values: drop those runs, or "
            "score them as failed."
        )
    known = known_metric(name)
    if known and known.bounds == UNIT and numbers.max() > 1:
        raise ValueError(
            f"{name} lies between 0 and 1, but reaches {numbers.max():g}: divide percentages by "
            "100."
        )
    inside = bool(((numbers >= 0) & (numbers <= 1)).all())
    other = ""
    if lower is None:
        lower = known.lower_is_better if known else not inside
        other = " (--lower or --higher says otherwise)"
    bounds = None if lower else _bounds(name, numbers)
    scale = "a number without bounds"
    if bounds is not None:
        scale = f"bounded by {bounds[0]:g} and {bounds[1]:g}"
    word = "lower" if lower else "higher"
    return lower, bounds, f"{name} is taken as {scale}, better when {word}{other}."


def _bounds(name: str, numbers: pd.Series) -> tuple[float, float] | None:
    """The bounds of a score that is better when higher, from its values."""
    if bool(((numbers >= 0) & (numbers <= 1)).all()):
        return UNIT
    if bool((np.abs(numbers) <= 1).all()):
        return (-1.0, 1.0)
    return (0.0, 100.0) if in_percent(name, numbers) else None


def in_percent(name: str, values: pd.Series) -> bool:
    """Whether a metric of which nothing is known by its name reads like percentages."""
    numbers = pd.to_numeric(values, errors="coerce")
    within = bool(((numbers >= 0) & (numbers <= 100)).all())
    return known_metric(name) is None and within and bool(numbers.max() > 1)


def tasks_of(
    table: pd.DataFrame, name: str, metric: str | None
) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Task, metric and rows of each task of a shaped table."""
    groups = list(table.groupby("task", sort=False)) if "task" in table else [(name, table)]
    for task, part in groups:
        if metric is None and "metric" in part:
            for of_metric, rows in part.groupby("metric", sort=False):
                yield str(task), str(of_metric), rows.drop(columns="metric")
        else:
            yield str(task), metric or name, part.drop(columns="metric", errors="ignore")
