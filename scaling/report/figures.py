"""The curves of a task: performance against compute, size or duration.

Each function takes tables and returns a `plotly.graph_objects.Figure`, for the page and for
notebooks alike; `layout.meta["alt"]` says in words what the figure shows. A marker is one run; its
bar is the 90 % interval over few-shot draws.
"""

import math
from collections.abc import Iterator
from html import escape
from typing import Literal

import pandas as pd
import plotly.graph_objects as go

from scaling.laws import Curve
from scaling.report.measured import KNOWN_ARMS, Measured, measured
from scaling.report.style import (
    SYMBOLS,
    axis_title,
    base_figure,
    control_of,
    heading,
    palette,
    ramp,
    score,
    si,
)
from scaling.report.traces import (
    as_floats,
    control_traces,
    curve_traces,
    level_line,
    reference_point,
    run_markers,
    y_range,
)
from scaling.report.views import ALL, View

Axis = Literal["compute", "size", "duration"]
AXES: dict[Axis, str] = {
    "compute": "Pretraining compute in FLOPs",
    "size": "Encoder parameters",
    "duration": "Samples seen in pretraining",
}
COLUMNS: dict[Axis, str] = {"compute": "flops", "size": "params", "duration": "duration"}
# Sideways offset between levels, as a share of the axis, so that no bar hides another.
DODGE = 0.012


def performance(
    results: pd.DataFrame, task: str, view: View, axis: Axis, curve: Curve | None = None
) -> go.Figure:
    """Scores against compute, encoder parameters or samples seen, with the controls as lines.

    Against size there is a line per duration, else a line per size. A view of all series has a
    colour per series: against size at its longest duration, against duration at its largest size.

    Traces: two for the curve (band, line) if given, two for each control (band, line; a point for
    a competitor whose place is stated), two for each level (line through the mean of the seeds,
    markers of the runs).
    """
    return performance_of(measured(results, task, view), task, view, axis, curve)


def performance_of(
    shown: Measured, task: str, view: View, axis: Axis, curve: Curve | None = None
) -> go.Figure:
    """`performance` from what is `measured`, which the axes of a view share."""
    points, arms = shown.points, shown.arms
    x_title, column = AXES[axis], COLUMNS[axis]
    if axis == "compute" and not (points["flops"] > 0).all():
        points = points.assign(flops=points["params"] * points["duration"])
        x_title = "Compute as parameters × samples"
    y_title = axis_title(view.metric, task)
    if points.empty:
        return base_figure([], alt="No finished results.", x_title=x_title, y_title=y_title)
    places = reference_places(shown, axis)
    low, high = x_range(pd.Series([*points[column], *places.values()]))
    traces = curve_traces(curve, points[column]) if curve else []
    for arm, at in places.items():
        traces.append(reference_point(arm, shown.overall[arm], at, view))
    for arm in arms:
        if arm in places:
            continue
        of_sizes, overall = shown.by_size[arm], shown.overall[arm]
        traces += control_traces(arm, overall, of_sizes, view, axis == "size", (low, high))
    for rank, (name, colour, group, shift) in enumerate(levels(points, axis, view)):
        aside = group[column] * (high / low) ** (DODGE * shift)
        shifted = group.assign(**{"at": group[column], column: aside})
        symbols = marker_symbols(shifted, points, axis, rank)
        lines = group_lines(shifted, column, colour, name, axis)
        for trace in [*lines, run_markers(shifted, column, colour, symbols, name, view)]:
            traces.append(trace.update(legendrank=rank))
    figure = base_figure(
        traces,
        alt=describe(points, arms, task, view, axis),
        x_title=f"{x_title} (log scale)",
        y_title=y_title,
    )
    logarithmic = [math.log10(low), math.log10(high)]
    figure.update_xaxes(type="log", range=logarithmic, **ticks(points, axis))
    intervals = [points, *shown.by_size.values()]
    return figure.update_yaxes(range=y_range(intervals, view.metric))


def reference_places(shown: Measured, axis: Axis) -> dict[str, float]:
    """Competitor -> its stated place on an axis of size or duration, where it has one; the others
    are lines. What their pretraining cost is not stated.
    """
    places: dict[str, float] = {}
    if axis == "compute":
        return places
    for arm, scores in shown.arms.items():
        at = float(scores[COLUMNS[axis]].max())
        if arm not in KNOWN_ARMS and at > 0 and len(shown.by_size[arm]) == 1:
            places[arm] = at
    return places


def levels(
    points: pd.DataFrame, axis: Axis, view: View
) -> Iterator[tuple[str, str, pd.DataFrame, float]]:
    """Name, colour, runs and sideways shift (in steps) of each level that a figure tells apart."""
    if view.series == ALL:
        names = sorted(points["series"].unique())
        for place, (name, colour) in enumerate(zip(names, palette(len(names)), strict=True)):
            group = points[points["series"] == name]
            if axis == "size":
                group = group[group["duration"] == group["duration"].max()]
            if axis == "duration":
                group = group[group["params"] == group["params"].max()]
            yield escape(name), colour, group, place - (len(names) - 1) / 2
        return
    by = "duration" if axis == "size" else "params"
    values = sorted(points[by].unique())
    for place, (value, colour) in enumerate(zip(values, ramp(len(values)), strict=True)):
        group = points[points[by] == value]
        name = f"{si(value)} samples"
        if by == "params":
            name = escape(f"{group['size'].iloc[0]}, {si(value)}".strip(", "))
        shift = 0.0 if axis == "compute" else place - (len(values) - 1) / 2
        yield name, colour, group, shift


def group_lines(
    group: pd.DataFrame, column: str, colour: str, name: str, axis: Axis
) -> list[go.Scatter]:
    """The lines of a level: one, but against compute one per network, whose durations it joins."""
    if axis != "compute":
        return [level_line(group, column, colour, name)]
    return [level_line(of_size, column, colour, name) for _, of_size in group.groupby("network")]


def marker_symbols(
    group: pd.DataFrame, points: pd.DataFrame, axis: Axis, rank: int
) -> str | list[str]:
    """A shape per level; against compute a shape per size, since colours tell the series there."""
    if axis != "compute":
        return SYMBOLS[rank % len(SYMBOLS)]
    sizes = sorted(points["params"].unique())
    return [SYMBOLS[sizes.index(size) % len(SYMBOLS)] for size in group["params"]]


def ticks(points: pd.DataFrame, axis: Axis) -> dict[str, object]:
    """A tick at each level of size or duration, as long as they are few enough to be read."""
    column = COLUMNS[axis]
    rows = points.sort_values(column).drop_duplicates(column)
    if axis == "compute" or len(rows) > 7:
        return {"dtick": 1, "exponentformat": "power"} if axis == "compute" else {}
    names = []
    for _, row in rows.iterrows():
        size = f"{escape(row['size'])}<br>" if axis == "size" and row["size"] else ""
        names.append(f"{size}{si(row[column])}")
    return {"tickvals": as_floats(rows[column]), "ticktext": names, "showgrid": True}


def x_range(x: pd.Series) -> tuple[float, float]:
    """The ends of a logarithmic axis around its values."""
    low, high = float(x.min()), float(x.max())
    margin = (high / low) ** 0.1 if high > low else 2.0
    return low / margin, high * margin


def describe(
    points: pd.DataFrame, arms: dict[str, pd.DataFrame], task: str, view: View, axis: Axis
) -> str:
    """What a figure shows, for a reader who does not see it."""
    ends = points.groupby(COLUMNS[axis])["mean"].mean()
    label = heading(view.metric)
    domains = {"out": ", out of domain", "in": ", in domain"}
    text = f"{task}{domains.get(view.domain, '')}: {label} against {AXES[axis].lower()}. "
    text += f"Mean {score(ends.iloc[0], view.metric)} at {si(ends.index[0])}"
    if len(ends) > 1:
        text += f", {score(ends.iloc[-1], view.metric)} at {si(ends.index[-1])}"
    for arm, scores in arms.items():
        text += f"; {control_of(arm)[0]} {score(scores['value'].mean(), view.metric)}"
    return text + "."
