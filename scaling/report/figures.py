"""The curves of a task: performance against size or duration, and what pretraining adds over an untrained encoder.

Each function takes tables and returns a `plotly.graph_objects.Figure`, for the page and for notebooks alike; `layout.meta["alt"]` says in
words what the figure shows. A marker is one run; its bar is the 90 % interval over few-shot draws."""

import math
from html import escape
from typing import Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from scaling.laws import Curve
from scaling.laws.arms import baseline_arm
from scaling.report.style import (
    ACCENT,
    MUTED,
    SYMBOLS,
    axis_title,
    base_figure,
    control_of,
    heading,
    metric_of,
    ramp,
    rgba,
    score,
    si,
)
from scaling.report.views import (
    View,
    controls,
    over_draws,
    paired_improvement,
    run_points,
)

Axis = Literal["size", "duration"]
AXES = {"size": "Encoder parameters", "duration": "Samples seen in pretraining"}
DODGE = 0.012  # sideways offset between levels, as a share of the axis, so that their bars do not hide one another


def performance(
    results: pd.DataFrame, task: str, view: View, axis: Axis, curve: Curve | None = None
) -> go.Figure:
    """Scores against encoder parameters (a line per duration) or samples seen (a line per size), with the controls.

    Traces: two for the curve (band, line) if given, two for each control (band, line), two for each level (line through the mean of
    the seeds, markers of the runs)."""
    return performance_of(
        run_points(results, task, view), controls(results, task, view), task, view, axis, curve
    )


def performance_of(
    points: pd.DataFrame,
    arms: dict[str, pd.DataFrame],
    task: str,
    view: View,
    axis: Axis,
    curve: Curve | None = None,
) -> go.Figure:
    """`performance` from its `run_points` and `controls`, which the two axes of a view share."""
    column, by = ("params", "duration") if axis == "size" else ("duration", "params")
    if points.empty:
        return base_figure(
            [],
            alt="No finished results.",
            x_title=AXES[axis],
            y_title=axis_title(view.metric, task),
        )
    low, high = _x_range(points[column])
    traces = _curve_traces(curve, points[column]) if curve else []
    sized = {
        arm: over_draws(scores, ["size", "params"]).sort_values("params")
        for arm, scores in arms.items()
    }
    for arm, scores in arms.items():
        traces += _control_traces(arm, scores, sized[arm], view, axis, (low, high))
    levels = sorted(points[by].unique())
    for i, (level, colour) in enumerate(zip(levels, ramp(len(levels)), strict=True)):
        group = points[points[by] == level]
        shift = (high / low) ** (DODGE * (i - (len(levels) - 1) / 2))
        name = (
            f"{si(level)} samples"
            if axis == "size"
            else escape(f"{group['size'].iloc[0]}, {si(level)}".strip(", "))
        )
        traces += [
            t.update(legendrank=i)
            for t in _level_traces(
                group, column, name, colour, SYMBOLS[i % len(SYMBOLS)], shift, view
            )
        ]
    figure = base_figure(
        traces,
        alt=_alt(points, arms, task, view, axis),
        x_title=f"{AXES[axis]} (log scale)",
        y_title=axis_title(view.metric, task),
    )
    figure.update_xaxes(
        type="log", range=[math.log10(low), math.log10(high)], **_ticks(points, column)
    )
    figure.update_yaxes(range=_y_range([points, *sized.values()], view.metric))
    return figure


def improvement(
    results: pd.DataFrame, task: str, view: View, smallest: float | None = None
) -> go.Figure:
    """Paired difference of each run from the untrained encoder of its size, one row per run; one trace, and a band of +- `smallest`."""
    points = paired_improvement(results, task, view).iloc[::-1]
    label = heading(view.metric)
    against = control_of(baseline_arm(view.protocol))[0]
    x_title = f"{label}: improvement over<br>{against} (right is better →)"
    if points.empty:
        return base_figure(
            [],
            alt=f"No control ({against}) to compare with.",
            x_title=x_title,
            y_title="",
            height=200,
        )
    durations = sorted(points["duration"].unique())
    colour = dict(zip(durations, ramp(len(durations)), strict=True))
    symbol = {d: SYMBOLS[i % len(SYMBOLS)] for i, d in enumerate(durations)}
    seeds = len(points["seed"].unique()) > 1
    rows = [
        escape(
            f"{r['size'] or r['run']} · {si(r['duration'])}"
            + (f" · seed {r['seed']}" if seeds else "")
        )
        for _, r in points.iterrows()
    ]
    hover = [
        f"<b>{escape(r['run'])}</b><br>better than {against} by {score(r['mean'], view.metric)}{_range_text(r, view.metric)}"
        f"<br>{against} of this size: {score(r['baseline'], view.metric)} · {r['draws']} paired draws"
        for _, r in points.iterrows()
    ]
    trace = go.Scatter(
        x=_list(points["mean"]), y=rows, mode="markers", name="paired difference", hovertext=hover, hoverinfo="text",
        marker={"color": [colour[d] for d in points["duration"]], "symbol": [symbol[d] for d in points["duration"]], "size": 9},
        error_x={**_bars(points), "color": MUTED}, showlegend=False,
    )  # fmt: skip
    best = points.sort_values("mean").iloc[-1]
    figure = base_figure(
        [trace],
        alt=f"{task}: improvement of {label} over the same recipe {against}, by run; largest {score(best['mean'], view.metric)} for "
        f"{best['run']}; {int((points['low'] > 0).sum())} of {len(points)} intervals lie above nought.",
        x_title=x_title,
        y_title="Size · samples seen",
        height=max(240, 140 + 24 * len(points)),
    )
    figure.update_yaxes(type="category", showgrid=False)
    figure.add_vline(x=0, line={"color": MUTED, "width": 1})
    if smallest:
        figure.add_vrect(
            x0=-smallest, x1=smallest, fillcolor=MUTED, opacity=0.1, line_width=0, layer="below"
        )
    return figure


def _level_traces(
    group: pd.DataFrame, column: str, name: str, colour: str, symbol: str, shift: float, view: View
) -> list[go.Scatter]:
    line = group.groupby(column, as_index=False)["mean"].mean()
    shared = {"legendgroup": name, "name": name}
    return [
        go.Scatter(
            x=_list(line[column] * shift), y=_list(line["mean"]), mode="lines", line={"color": colour, "width": 2},
            hoverinfo="skip", showlegend=False, **shared,
        ),
        go.Scatter(
            x=_list(group[column] * shift), y=_list(group["mean"]), mode="markers", error_y=_bars(group),
            marker={"color": colour, "symbol": symbol, "size": 9, "line": {"color": "white", "width": 1}},
            hovertext=[_hover(r, view) for _, r in group.iterrows()], hoverinfo="text", **shared,
        ),
    ]  # fmt: skip


def _control_traces(
    arm: str,
    scores: pd.DataFrame,
    sized: pd.DataFrame,
    view: View,
    axis: Axis,
    x: tuple[float, float],
) -> list[go.Scatter]:
    """A line over sizes where the arm has an encoder of each, else a level line at its mean over sizes; each with its band."""
    label, colour, dash = control_of(arm)
    label = escape(label)
    if axis == "size" and len(sized) > 1:
        rows, at = sized, _list(sized["params"])
    else:
        rows, at = over_draws(scores.assign(arm=arm), ["arm"]).iloc[[0, 0]], list(x)
        label += " (mean of sizes)" if len(sized) > 1 else ""
    each = "".join(
        f"<br>{escape(r['size'])}: {score(r['mean'], view.metric)}{_range_text(r, view.metric)}"
        for _, r in sized.iterrows()
        if r["size"]
    )
    text = [
        f"<b>{label}</b><br>{_numbers(r, view)}{each if axis == 'duration' else ''}"
        for _, r in rows.iterrows()
    ]
    line = go.Scatter(
        x=at, y=_list(rows["mean"]), mode="lines", line={"color": colour, "width": 2, "dash": dash},
        name=label, legendgroup=arm, hovertext=text, hoverinfo="text",
    )  # fmt: skip
    return [_band(at, rows["low"], rows["high"], colour, 0.09, label, arm), line]


def _curve_traces(curve: Curve, x: pd.Series) -> list[go.Scatter]:
    at = np.geomspace(x.min(), x.max(), 60)
    mean, low, high = curve.predict(at)
    name = "fitted curve"
    text = [
        f"<b>{name}</b><br>{m:.3f}, 90 % band {a:.3f} to {b:.3f}"
        for m, a, b in zip(mean, low, high, strict=True)
    ]
    line = go.Scatter(
        x=at.tolist(), y=mean.tolist(), mode="lines", line={"color": ACCENT, "width": 5}, opacity=0.35, name=name, legendgroup=name,
        hovertext=text, hoverinfo="text",
    )  # fmt: skip
    return [_band(at.tolist(), low, high, ACCENT, 0.1, name, name), line]


def _band(
    x: list[float], low: pd.Series | np.ndarray, high: pd.Series | np.ndarray, colour: str, alpha: float, name: str, group: str
) -> go.Scatter:  # fmt: skip
    a, b = np.asarray(low, float), np.asarray(high, float)
    known = np.isfinite(a) & np.isfinite(b)
    at = np.asarray(x, float)[known]
    return go.Scatter(
        x=[*at.tolist(), *at[::-1].tolist()], y=[*b[known].tolist(), *a[known][::-1].tolist()], fill="toself", mode="lines",
        line={"width": 0}, fillcolor=rgba(colour, alpha), hoverinfo="skip", showlegend=False, name=f"{name}: interval", legendgroup=group,
    )  # fmt: skip


def _bars(points: pd.DataFrame) -> dict[str, object]:
    """Error bars to `low` and `high`; none where there is no interval."""
    half = (points["high"] - points["mean"]).fillna(0.0)
    return {"type": "data", "array": _list(half), "thickness": 1.4, "width": 3}


def _hover(run: pd.Series, view: View) -> str:
    return (
        f"<b>{escape(run['run'])}</b><br>size {escape(run['size'])}, {si(run['params'])} parameters"
        f"<br>duration {si(run['duration'])} samples, seed {run['seed']}<br>{_numbers(run, view)}"
    )


def _numbers(row: pd.Series, view: View) -> str:
    sites = "site" if row["sites"] == 1 else "sites"
    return (
        f"{heading(view.metric)} {score(row['mean'], view.metric)}{_range_text(row, view.metric)}<br>"
        f"{row['draws']} draws of {view.shots} shots · {row['cases']} test cases, {row['sites']} {sites}"
    )


def _range_text(row: pd.Series, metric: str) -> str:
    if not math.isfinite(row["low"]):
        return " (one draw: no interval)"
    return f" (90 %: {score(row['low'], metric)} to {score(row['high'], metric)})"


def _ticks(points: pd.DataFrame, column: str) -> dict[str, object]:
    """A tick at each level, as long as they are few enough to be read."""
    levels = points.sort_values(column).drop_duplicates(column)
    if len(levels) > 7:
        return {}
    names = [si(x) for x in levels[column]]
    if column == "params":
        names = [
            f"{escape(size)}<br>{name}" if size else name
            for size, name in zip(levels["size"], names, strict=True)
        ]
    return {"tickvals": _list(levels[column]), "ticktext": names, "showgrid": True}


def _x_range(x: pd.Series) -> tuple[float, float]:
    low, high = float(x.min()), float(x.max())
    margin = (high / low) ** 0.1 if high > low else 2.0
    return low / margin, high * margin


def _y_range(intervals: list[pd.DataFrame], metric: str) -> list[float]:
    """From the lowest to the highest interval of runs and controls, within the metric's bounds; the same for both axes of a view."""
    rows = pd.concat(intervals)
    low, high = rows[["low", "mean"]].min().min(), rows[["high", "mean"]].max().max()
    pad = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    bounds = metric_of(metric).bounds or (
        0 if metric_of(metric).lower_is_better else -math.inf,
        math.inf,
    )
    return [max(low - pad, bounds[0] - 0.01), min(high + pad, bounds[1] + 0.01)]


def _alt(
    points: pd.DataFrame, arms: dict[str, pd.DataFrame], task: str, view: View, axis: Axis
) -> str:
    column = "params" if axis == "size" else "duration"
    ends = points.groupby(column)["mean"].mean()
    label = heading(view.metric)
    domain = "out of domain" if view.domain == "out" else "in domain"
    text = f"{task}, {domain}: {label} against {AXES[axis].lower()}. "
    text += f"Mean {score(ends.iloc[0], view.metric)} at {si(ends.index[0])}"
    text += (
        f", {score(ends.iloc[-1], view.metric)} at {si(ends.index[-1])}" if len(ends) > 1 else ""
    )
    for arm, scores in arms.items():
        text += f"; {control_of(arm)[0]} {score(scores['value'].mean(), view.metric)}"
    return text + "."


def _list(values: pd.Series) -> list[float]:
    return [float(v) for v in values]
