"""Tables as the verbs read them: anybody's, or the results of a study."""

from pathlib import Path
from typing import TYPE_CHECKING

from scaling.cli.terminal import errors

if TYPE_CHECKING:
    import pandas as pd


def read_scores(path: Path) -> "pd.DataFrame":
    """A table of scores; of a study's own results.csv, one protocol's pretrained runs."""
    from scaling.laws.own_results import is_study_results, scores_table
    from scaling.laws.tables import read_table

    table = read_table(path)
    if not is_study_results(table):
        return table
    scores, sentence = scores_table(table)
    errors.print(sentence, markup=False, highlight=False)
    return scores


def read_models(path: Path) -> "pd.DataFrame":
    """A table of models; of a study's own results.csv, a row per run or control."""
    from scaling.laws.own_results import is_study_results, models_table
    from scaling.laws.tables import read_table

    table = read_table(path)
    if not is_study_results(table):
        return table
    models, sentence = models_table(table)
    errors.print(sentence, markup=False, highlight=False)
    return models


def axes_of(table: "pd.DataFrame") -> list[str]:
    """The columns of size and duration that a table has, by their names.

    Raises ValueError, listing the columns of numbers, when it has neither.
    """
    axes = [name for name in ("size", "duration") if name in table]
    if axes:
        return axes
    numbers = ", ".join(map(str, table.select_dtypes("number").columns)) or "none"
    raise ValueError(
        "the table has no column size or duration: name the column of sizes or budgets with --x "
        f"(columns of numbers: {numbers})"
    )


def score_column(table: "pd.DataFrame") -> str:
    """The column of scores by its name. Raises ValueError, listing columns, when it is not
    named.
    """
    if "value" in table or {"label", "prediction"} <= set(table):
        return "value"
    numbers = ", ".join(map(str, table.select_dtypes("number").columns)) or "none"
    raise ValueError(
        "the table has no column value: name the column of scores with --y "
        f"(columns of numbers: {numbers})"
    )
