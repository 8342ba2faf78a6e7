"""What pretraining adds over an untrained encoder, run by run."""

from html import escape

import pandas as pd
import plotly.graph_objects as go

from scaling.laws.arms import baseline_arm
from scaling.report.measured import Measured, measured, paired_improvement
from scaling.report.style import MUTED, SYMBOLS, base_figure, control_of, heading, ramp, score, si
from scaling.report.traces import as_floats, bars, draws_text, range_text
from scaling.report.views import View

ROW = 24  # pixels


def improvement(
    results: pd.DataFrame, task: str, view: View, smallest: float | None = None
) -> go.Figure:
    """Paired difference of each run from the untrained encoder of its size, one row per run.

    One trace; a band of +- `smallest`, the smallest effect of interest, where it is given.
    """
    return improvement_of(measured(results, task, view), task, view, smallest)


def improvement_of(
    shown: Measured, task: str, view: View, smallest: float | None = None
) -> go.Figure:
    """`improvement` from what is `measured`, which the figures of a view share."""
    points = paired_improvement(shown, view).iloc[::-1]
    against = control_of(baseline_arm(view.protocol))[0]
    x_title = f"{heading(view.metric)}: improvement over<br>{against} (right is better →)"
    if points.empty:
        missing = f"No control ({against}) to compare with."
        return base_figure([], alt=missing, x_title=x_title, y_title="", height=200)
    durations = sorted(points["duration"].unique())
    colours = dict(zip(durations, ramp(len(durations)), strict=True))
    symbols = {d: SYMBOLS[place % len(SYMBOLS)] for place, d in enumerate(durations)}
    trace = go.Scatter(
        x=as_floats(points["mean"]),
        y=row_names(points),
        mode="markers",
        name="paired difference",
        hovertext=[hover(row, view, against) for _, row in points.iterrows()],
        hoverinfo="text",
        marker={
            "color": [colours[d] for d in points["duration"]],
            "symbol": [symbols[d] for d in points["duration"]],
            "size": 9,
        },
        error_x={**bars(points), "color": MUTED},
        showlegend=False,
    )
    best = points.sort_values("mean").iloc[-1]
    above = int((points["low"] > 0).sum())
    figure = base_figure(
        [trace],
        alt=f"{task}: improvement of {heading(view.metric)} over the same recipe {against}, "
        f"by run; largest {score(best['mean'], view.metric)} for {best['run']}; "
        f"{above} of {len(points)} intervals lie above zero.",
        x_title=x_title,
        y_title="",
        height=max(240, 140 + ROW * len(points)),
    )
    figure.update_yaxes(type="category", showgrid=False)
    figure.add_vline(x=0, line={"color": MUTED, "width": 1})
    if smallest:
        ends = {"x0": -smallest, "x1": smallest}
        figure.add_vrect(**ends, fillcolor=MUTED, opacity=0.1, line_width=0, layer="below")
    return figure


def row_names(points: pd.DataFrame) -> list[str]:
    """A name per run: size and duration, with its seed and series where there are several."""
    several_seeds = len(points["seed"].unique()) > 1
    several_series = len(points["series"].unique()) > 1
    names = []
    for _, row in points.iterrows():
        name = f"{row['size'] or row['run']} · {si(row['duration'])}"
        if several_seeds:
            name += f" · seed {row['seed']}"
        if several_series:
            name += f" · {row['series']}"
        names.append(escape(name))
    return names


def hover(row: pd.Series, view: View, against: str) -> str:
    """What a row says when hovered."""
    gain = f"{score(row['mean'], view.metric)}{range_text(row, view.metric)}"
    paired = draws_text(row["draws"], view.shots) or "one score"
    return (
        f"<b>{escape(str(row['run']))}</b><br>better than {against} by {gain}"
        f"<br>{against} of this size: {score(row['baseline'], view.metric)}; paired over {paired}"
    )
