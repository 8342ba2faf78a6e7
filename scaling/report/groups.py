"""Confusion of classes and metrics by group of cases, as tables of the page."""

import math
import re

import pandas as pd

from scaling.report.style import control_of, heading, score

Table = tuple[list[str], list[list[str]]]  # headings, rows


def confusion_tables(confusions: pd.DataFrame, task: str) -> list[tuple[str, Table]]:
    """Model and table of a task: a row per true class, a column per predicted one; a cell is the
    number of cases and its share of the true class.
    """
    if confusions.empty:
        return []
    tables = []
    for model, cells in confusions[confusions["task"] == task].groupby("model", sort=False):
        names = list(dict.fromkeys(cells["true"]))
        counts = cells.set_index(["true", "predicted"])["cases"]
        rows = []
        for true in names:
            total = sum(float(counts[true, predicted]) for predicted in names)
            row = [f"true {true}"]
            for predicted in names:
                row.append(count_and_share(float(counts[true, predicted]), total))
            rows.append(row)
        tables.append((control_of(str(model))[0], (["", *names], rows)))
    return tables


def count_and_share(count: float, total: float) -> str:
    """A number of cases, and its share where there is one: "3.5 (70 %)"."""
    share = f" ({100 * count / total:.0f}\N{NO-BREAK SPACE}%)" if total else ""
    return f"{count:.3g}{share}"


def group_tables(groups: pd.DataFrame, task: str) -> list[tuple[str, Table]]:
    """Variable and table of a task: a row per metric and model, a column per group with its number
    of cases, the largest disparity last.
    """
    if groups.empty:
        return []
    of_task = groups[(groups["task"] == task) & (groups["variable"] != "")]
    tables = []
    for variable, rows in of_task.groupby("variable", sort=False):
        members = rows[rows["what"] == "group"].groupby("group")["cases"].max()
        members = members.sort_index(key=lambda names: names.map(place_of_group), kind="stable")
        headings = ["Metric", "Model", *(f"{name} ({n:.3g})" for name, n in members.items())]
        lines = []
        for (name, model), values in rows.groupby(["metric", "model"], sort=False):
            metric = str(name)
            value_of = values.set_index("group")["value"]
            shown = [score(value_of.get(group, float("nan")), metric) for group in members.index]
            disparity = score(value_of[""], metric)
            lines.append([heading(metric), control_of(str(model))[0], *shown, disparity])
        tables.append((str(variable), ([*headings, "Largest disparity"], lines)))
    return tables


def place_of_group(name: str) -> float:
    """Where a group stands among the others: "<=25", "25-50" and "100+" by their lower bound, other
    names after them.
    """
    bounds = re.fullmatch(r"(<=|<|>=|>)?(\d+(?:\.\d*)?)(?:\+|-\d+(?:\.\d*)?)?", name)
    if bounds is None:
        return math.inf
    return -1.0 if str(bounds[1]).startswith("<") else float(bounds[2])


def fairness_table(groups: pd.DataFrame, task: str) -> Table:
    """A row per metric and model of a task: the score, and beside it the fairness score."""
    headings = ["Metric", "Model", "Score", "Fairness score"]
    if groups.empty:
        return headings, []
    rows = []
    of_task = groups[(groups["task"] == task) & (groups["variable"] == "")]
    for (name, model), values in of_task.groupby(["metric", "model"], sort=False):
        metric = str(name)
        value_of = values.set_index("what")["value"]
        fair = value_of.get("fairness")
        told = "–" if fair is None or pd.isna(fair) else f"{fair:.3f}"
        row = [heading(metric), control_of(str(model))[0], score(value_of["score"], metric), told]
        rows.append(row)
    return headings, rows
