"""Figures across tasks: the effects against the smallest one of interest, and the loss of pretraining itself."""

from collections.abc import Sequence
from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from scaling.laws import Effect, Verdict
from scaling.report.figures import AXES, Axis
from scaling.report.style import (
    ACCENT,
    MUTED,
    SYMBOLS,
    base_figure,
    change,
    heading,
    hours,
    ramp,
    si,
)

EFFECTS = {
    "budget": ("size and duration", "diamond"),
    "size": ("size", "circle"),
    "duration": ("duration", "square"),
}
REACH = 8.0  # units of the smallest effect beyond which the axis is cut


def effect_text(effect: Effect, verdict: Verdict) -> str:
    """An effect and its interval in the units of the metric."""
    label = heading(verdict.metric)
    estimate = change(effect.estimate, verdict.relative)
    if effect.low is None or effect.high is None:
        return f"{label} {estimate}, no interval"
    return f"{label} {estimate} [{change(effect.low, verdict.relative)}, {change(effect.high, verdict.relative)}]"


def forest(verdicts: Sequence[Verdict]) -> go.Figure:
    """Every effect with its interval, in units of its task's smallest effect of interest: within +-1 it is not worth having.

    An effect without interval is hollow; one beyond the axis is a triangle at its edge.

    Traces: one per kind of effect (budget, size, duration) that occurs."""
    rows = [(v, e) for v in verdicts for e in v.effects]
    names = {
        (v.task, e.name): f"{escape(v.task)}<br>{EFFECTS.get(e.name, (e.name, ''))[0]}"
        for v, e in rows
    }
    ends = [
        x / v.smallest_effect for v, e in rows for x in (e.estimate, e.low, e.high) if x is not None
    ]
    left, right = max(min([-2.0, *ends]), -REACH), min(max([2.0, *ends]), REACH)
    traces = []
    for kind, colour in zip(EFFECTS, (ACCENT, "#6fa8cf", "#6fa8cf"), strict=True):
        of_kind = [(v, e) for v, e in rows if e.name == kind]
        if not of_kind:
            continue
        unit = np.array([v.smallest_effect for v, _ in of_kind])
        estimate, low, high = (
            np.array([getattr(e, end) for _, e in of_kind], float) / unit
            for end in ("estimate", "low", "high")
        )
        x = np.clip(estimate, left, right)
        symbols = np.where(np.isnan(low), EFFECTS[kind][1] + "-open", EFFECTS[kind][1])
        symbols = np.select(
            [estimate < left, estimate > right], ["triangle-left", "triangle-right"], symbols
        )
        traces.append(
            go.Scatter(
                x=x.tolist(), y=[names[v.task, e.name] for v, e in of_kind], mode="markers", name=EFFECTS[kind][0], showlegend=False,
                hovertext=[_forest_hover(v, e) for v, e in of_kind], hoverinfo="text",
                marker={"symbol": symbols.tolist(), "size": 11 if kind == "budget" else 9, "color": colour},
                error_x={
                    "type": "data", "symmetric": False, "array": np.maximum(np.nan_to_num(high - x), 0).tolist(),
                    "arrayminus": np.maximum(np.nan_to_num(x - low), 0).tolist(), "thickness": 1.8, "width": 4,
                },
            )
        )  # fmt: skip
    figure = base_figure(
        traces,
        alt=" ".join(f"{v.task}, {e.name}: {effect_text(e, v)}." for v, e in rows)
        or "There is no verdict to draw.",
        x_title="Effect in units of the smallest<br>one of interest (right is better →)",
        y_title="",
        height=120 + 44 * max(len(rows), 2),
    )
    order = [names[v.task, e.name] for v, e in rows][::-1]
    figure.update_yaxes(
        type="category", categoryorder="array", categoryarray=order, showgrid=False, ticks=""
    )
    margin = 0.04 * (right - left)
    figure.update_xaxes(range=[left - margin, right + margin])
    if rows:
        figure.add_vrect(x0=-1, x1=1, fillcolor=MUTED, opacity=0.12, line_width=0, layer="below")
        figure.add_vline(x=0, line={"color": MUTED, "width": 1})
        figure.add_annotation(
            text="not worth having", x=-1, y=1, yref="paper", xanchor="left", yanchor="bottom", showarrow=False,
            font={"size": 11, "color": MUTED},
        )  # fmt: skip
    return figure


def pretraining_loss(pretraining: pd.DataFrame, axis: Axis, objective: str) -> go.Figure:
    """Final held-out loss of one objective against size (a line per duration) or duration (a line per size); one trace per level."""
    runs = pretraining[(pretraining["objective"] == objective) & pretraining["loss"].notna()]
    column, by = ("params", "duration") if axis == "size" else ("duration", "params")
    levels = sorted(runs[by].unique())
    traces = []
    for i, (level, colour) in enumerate(
        zip(levels, ramp(len(levels)) if levels else [], strict=True)
    ):
        group = runs[runs[by] == level].sort_values([column, "seed"])
        style = "lines+markers" if len(group["seed"].unique()) == 1 else "markers"
        name = (
            f"{si(level)} samples"
            if axis == "size"
            else escape(f"{group['size'].iloc[0]}, {si(level)}".strip(", "))
        )
        traces.append(
            go.Scatter(
                x=group[column].astype(float).tolist(), y=group["loss"].astype(float).tolist(), mode=style, name=name,
                marker={"color": colour, "symbol": SYMBOLS[i % len(SYMBOLS)], "size": 9}, line={"color": colour, "width": 2},
                hoverinfo="text", hovertext=[_loss_hover(r) for _, r in group.iterrows()],
            )
        )  # fmt: skip
    alt = f"Held-out {objective} loss against {AXES[axis].lower()}"
    alt += (
        f": from {runs['loss'].max():.4g} down to {runs['loss'].min():.4g}."
        if len(runs)
        else ": no finished run."
    )
    figure = base_figure(
        traces,
        alt=alt,
        x_title=f"{AXES[axis]} (log scale)",
        y_title="Held-out loss (lower is better ↓)",
        height=380,
    )
    ticks = sorted(runs[column].unique())
    figure.update_xaxes(type="log")
    if 0 < len(ticks) <= 7:
        figure.update_xaxes(tickvals=[float(t) for t in ticks], ticktext=[si(t) for t in ticks])
    return figure


def _forest_hover(verdict: Verdict, effect: Effect) -> str:
    share = (
        ""
        if effect.probability is None
        else f"<br>P(more than the smallest) = {effect.probability:.2f}"
    )
    name = EFFECTS.get(effect.name, (effect.name, ""))[0]
    return f"<b>{escape(verdict.task)}: {name}</b><br>{effect_text(effect, verdict)}<br>{effect.decision}{share}"


def _loss_hover(run: pd.Series) -> str:
    return (
        f"<b>{escape(run['run'])}</b><br>size {escape(str(run['size']))}, {si(run['params'])} parameters"
        f"<br>duration {si(run['duration'])} samples, seed {run['seed']}<br>held-out loss {run['loss']:.4g}"
        f"<br>{si(run['flops'], 'FLOP')} · {hours(run['seconds'])}"
    )
