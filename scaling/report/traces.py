"""The pieces that curves are drawn from: bands, bars, controls, and the words of a hover."""

import math
from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from scaling.laws import Curve
from scaling.report.style import ACCENT, CONTROLS, control_of, heading, metric_of, rgba, score, si
from scaling.report.views import View


def level_line(points: pd.DataFrame, column: str, colour: str, name: str) -> go.Scatter:
    """A line through the mean of the seeds at each level of `column`."""
    line = points.groupby(column, as_index=False)["mean"].mean()
    return go.Scatter(
        x=as_floats(line[column]),
        y=as_floats(line["mean"]),
        mode="lines",
        line={"color": colour, "width": 2},
        hoverinfo="skip",
        showlegend=False,
        legendgroup=name,
        name=name,
    )


def run_markers(
    points: pd.DataFrame, column: str, colour: str, symbol: str | list[str], name: str, view: View
) -> go.Scatter:
    """A marker per run, with its interval over few-shot draws and what it is when hovered."""
    edge = {"color": "white", "width": 1}
    return go.Scatter(
        x=as_floats(points[column]),
        y=as_floats(points["mean"]),
        mode="markers",
        error_y=bars(points),
        marker={"color": colour, "symbol": symbol, "size": 9, "line": edge},
        hovertext=[run_hover(row, view) for _, row in points.iterrows()],
        hoverinfo="text",
        # Markers stand a little aside of where they belong: the table of numbers has the place.
        customdata=as_floats(points["at"] if "at" in points else points[column]),
        legendgroup=name,
        name=name,
    )


def control_traces(
    arm: str,
    overall: pd.DataFrame,
    by_size: pd.DataFrame,
    view: View,
    along_size: bool,
    ends: tuple[float, float],
) -> list[go.Scatter]:
    """The band and the line of a control, from its scores `overall` and `by_size` (`Measured`).

    `along_size`: a line over sizes where the arm has an encoder of each. Else a level line at its
    mean over sizes, between the `ends` of the axis. A competitor's name stands at its line: all
    have one colour.
    """
    label, colour, dash = control_of(arm)
    label = escape(label)
    of_sizes = ""
    if along_size and len(by_size) > 1:
        rows, at = by_size, as_floats(by_size["params"])
    else:
        rows, at = overall.iloc[[0, 0]], list(ends)
        if len(by_size) > 1:
            label += " (mean of sizes)"
        of_sizes = "".join(size_hover(row, view.metric) for _, row in by_size.iterrows())
    texts = [f"<b>{label}</b><br>{numbers(row, view)}{of_sizes}" for _, row in rows.iterrows()]
    line = go.Scatter(
        x=at,
        y=as_floats(rows["mean"]),
        mode="lines",
        line={"color": colour, "width": 2, "dash": dash},
        name=label,
        legendgroup=arm,
        hovertext=texts,
        hoverinfo="text",
    )
    if arm not in CONTROLS:
        named = [escape(arm)] + [""] * (len(at) - 1)
        line.update(mode="lines+text", text=named, textposition="top right")
    return [band(at, rows["low"], rows["high"], colour, 0.09, label, arm), line]


def reference_point(arm: str, overall: pd.DataFrame, at: float, view: View) -> go.Scatter:
    """The labelled point of a competitor whose place on the axis is stated, from its scores
    `overall` (`Measured`).
    """
    _, colour, _ = control_of(arm)
    label = escape(arm)
    return go.Scatter(
        x=[at],
        y=as_floats(overall["mean"]),
        mode="markers+text",
        error_y=bars(overall),
        marker={"color": colour, "symbol": "star-diamond", "size": 11},
        text=[label],
        textposition="top center",
        hovertext=[f"<b>{label}</b><br>{numbers(row, view)}" for _, row in overall.iterrows()],
        hoverinfo="text",
        customdata=[at],
        name=label,
        legendgroup=arm,
    )


def curve_traces(curve: Curve, x: pd.Series) -> list[go.Scatter]:
    """The band and the line of a fitted curve over the range of `x`."""
    at = np.geomspace(x.min(), x.max(), 60)
    mean, low, high = curve.predict(at)
    name = "fitted curve"
    texts = []
    for middle, bottom, top in zip(mean, low, high, strict=True):
        texts.append(f"<b>{name}</b><br>{middle:.3f}, 90 % band {bottom:.3f} to {top:.3f}")
    line = go.Scatter(
        x=at.tolist(),
        y=mean.tolist(),
        mode="lines",
        line={"color": ACCENT, "width": 5},
        opacity=0.35,
        name=name,
        legendgroup=name,
        hovertext=texts,
        hoverinfo="text",
    )
    return [band(at.tolist(), low, high, ACCENT, 0.1, name, name), line]


def band(
    x: list[float],
    low: pd.Series | np.ndarray,
    high: pd.Series | np.ndarray,
    colour: str,
    alpha: float,
    name: str,
    group: str,
) -> go.Scatter:
    """A shaded band between two lines, left out where either is not finite."""
    bottom, top = np.asarray(low, float), np.asarray(high, float)
    finite = np.isfinite(bottom) & np.isfinite(top)
    at = np.asarray(x, float)[finite]
    return go.Scatter(
        x=[*at.tolist(), *at[::-1].tolist()],
        y=[*top[finite].tolist(), *bottom[finite][::-1].tolist()],
        fill="toself",
        mode="lines",
        line={"width": 0},
        fillcolor=rgba(colour, alpha),
        hoverinfo="skip",
        showlegend=False,
        name=f"{name}: interval",
        legendgroup=group,
    )


def bars(points: pd.DataFrame) -> dict[str, object]:
    """Error bars to `low` and `high`; none where there is no interval."""
    half = (points["high"] - points["mean"]).fillna(0.0)
    return {"type": "data", "array": as_floats(half), "thickness": 1.4, "width": 3}


def run_hover(run: pd.Series, view: View) -> str:
    """What a marker says of its run."""
    size = escape(f"size {run['size']}, " if run["size"] else "")
    return (
        f"<b>{escape(str(run['run']))}</b><br>{size}{si(run['params'])} parameters"
        f"<br>{si(run['duration'])} samples, seed {run['seed']}<br>{numbers(run, view)}"
    )


def size_hover(row: pd.Series, metric: str) -> str:
    """A control's score at one size, as a further line of its hover."""
    if not row["size"]:
        return ""
    return f"<br>{escape(row['size'])}: {score(row['mean'], metric)}{range_text(row, metric)}"


def numbers(row: pd.Series, view: View) -> str:
    """A score with its interval, and what it was measured on."""
    measured = f"{heading(view.metric)} {score(row['mean'], view.metric)}"
    basis = [draws_text(row["draws"], view.shots), cases_text(row["cases"], row["sites"])]
    return f"{measured}{range_text(row, view.metric)}<br>{' · '.join(filter(None, basis))}"


def draws_text(draws: int, shots: int) -> str:
    """ "3 draws of 16 labelled cases"; nothing for a table that knows no draws."""
    if shots < 1:
        return ""
    word = "draw" if draws == 1 else "draws"
    return f"{draws} {word} of {shots} labelled cases"


def cases_text(cases: int, sites: int) -> str:
    """ "48 test cases, 2 sites"; nothing where cases were not counted."""
    if cases < 1:
        return ""
    word, places = ("case" if cases == 1 else "cases"), ("site" if sites == 1 else "sites")
    return f"{cases} test {word}, {sites} {places}"


def range_text(row: pd.Series, metric: str) -> str:
    """The interval of a score in brackets."""
    if not math.isfinite(row["low"]):
        return " (one draw: no interval)" if row["draws"] == 1 else ""
    return f" (90 %: {score(row['low'], metric)} to {score(row['high'], metric)})"


def y_range(intervals: list[pd.DataFrame], metric: str) -> list[float]:
    """From the lowest to the highest interval of runs and controls, within the metric's bounds.

    It is the same for all axes of a view, so that its figures can be compared.
    """
    rows = pd.concat(intervals)
    low, high = rows[["low", "mean"]].min().min(), rows[["high", "mean"]].max().max()
    pad = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    floor, ceiling = -math.inf, math.inf
    if metric_of(metric).bounds:
        floor, ceiling = metric_of(metric).bounds  # type: ignore[misc]
    elif metric_of(metric).lower_is_better:
        floor = 0.0
    return [max(low - pad, floor - 0.01), min(high + pad, ceiling + 0.01)]


def as_floats(values: pd.Series) -> list[float]:
    """A column as plain numbers."""
    return [float(value) for value in values]
