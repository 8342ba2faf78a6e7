"""Forest plots: effects with their intervals, in units of the smallest effect of interest."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import plotly.graph_objects as go

from scaling.laws import Effect, Findings, Verdict
from scaling.report.style import (
    ACCENT,
    MUTED,
    base_figure,
    change,
    control_of,
    heading,
)

EFFECTS = {
    "budget": ("size and duration", "diamond"),
    "size": ("size", "circle"),
    "duration": ("duration", "square"),
}
LIGHTER = "#5a9bc8"
REACH = 8.0  # units of the smallest effect beyond which the axis is cut
ROW = 34  # pixels
TABLE_HEADINGS = ["", "Metric", "Change (positive is better)", "90 % interval", "Decision"]


@dataclass(frozen=True)
class Row:
    """One line of a forest plot; `smallest` is the unit that `effect` is drawn in."""

    name: str
    group: str
    metric: str
    effect: Effect
    smallest: float
    relative: bool
    symbol: str
    colour: str
    hover: str


def forest(verdicts: Sequence[Verdict]) -> go.Figure:
    """Every verdict's effects; a trace per kind of effect (budget, size, duration) that occurs."""
    rows = []
    for verdict in verdicts:
        for effect in verdict.effects:
            label, symbol = EFFECTS.get(effect.name, (effect.name, "circle"))
            colour = ACCENT if effect.name == "budget" else LIGHTER
            rows.append(
                Row(
                    name=f"{escape(verdict.task)}<br>{label}",
                    group=label,
                    metric=verdict.metric,
                    effect=effect,
                    smallest=verdict.smallest_effect,
                    relative=verdict.relative,
                    symbol=symbol,
                    colour=colour,
                    hover=verdict_hover(verdict, effect, label),
                )
            )
    return forest_of(rows, "There is no verdict to draw.")


def against_controls(findings: Findings) -> go.Figure:
    """Pretrained models against every control, all objectives together; one trace per task."""
    rows = []
    for one in findings.against:
        if one.objective != "all":
            continue
        comparison = one.comparison
        control = control_of(comparison.arm_b)[0]
        text = effect_text(comparison.effect, one.metric, comparison.relative)
        rows.append(
            Row(
                name=f"{escape(one.task)}, {escape(heading(one.metric))}<br>{escape(control)}",
                group=one.task,
                metric=one.metric,
                effect=comparison.effect,
                smallest=comparison.smallest_effect,
                relative=comparison.relative,
                symbol="circle",
                colour=ACCENT,
                hover=f"<b>{escape(one.task)}: pretrained against {escape(control)}</b><br>{text}"
                f"<br>{comparison.effect.decision}; {one.better} of {one.runs} models are better",
            )
        )
    return forest_of(rows, "There is no control to compare with.")


def forest_of(rows: Sequence[Row], nothing: str) -> go.Figure:
    """Rows from top to bottom; within +-1 an effect is not worth having.

    An effect without an interval is hollow. An estimate, or the end of an interval, beyond the axis
    is an arrow at its edge.
    """
    lengths = [end / row.smallest for row in rows for end in ends_of(row.effect)]
    left = max(min([-2.0, *lengths]), -REACH)
    right = min(max([2.0, *lengths]), REACH)
    groups = list(dict.fromkeys(row.group for row in rows))
    traces = []
    for group in groups:
        traces.append(markers([row for row in rows if row.group == group], left, right))
    arrows = [arrow for row in rows for arrow in arrows_of(row, left, right)]
    if arrows:
        traces.append(arrow_trace(arrows))
    alt = " ".join(f"{plain(row.name)}: {text_of(row)}." for row in rows)
    figure = base_figure(
        traces,
        alt=alt or nothing,
        x_title="Effect in units of the smallest<br>one of interest (right is better →)",
        y_title="",
        height=120 + ROW * max(len(rows), 3),
    )
    order = [row.name for row in rows][::-1]
    figure.update_yaxes(
        type="category", categoryorder="array", categoryarray=order, showgrid=False, ticks=""
    )
    margin = 0.04 * (right - left)
    figure.update_xaxes(range=[left - margin, right + margin])
    if rows:
        figure.add_vrect(x0=-1, x1=1, fillcolor=MUTED, opacity=0.12, line_width=0, layer="below")
        figure.add_vline(x=0, line={"color": MUTED, "width": 1})
        figure.add_annotation(
            text="not worth having",
            x=-1,
            y=1,
            yref="paper",
            xanchor="left",
            yanchor="bottom",
            showarrow=False,
            font={"size": 11, "color": MUTED},
        )
    meta = dict(figure.layout.meta)
    meta["table"] = {"headings": TABLE_HEADINGS, "rows": [table_row(row) for row in rows]}
    return figure.update_layout(meta=meta)


def markers(rows: Sequence[Row], left: float, right: float) -> go.Scatter:
    """The estimates of one group of rows with their intervals, cut at the ends of the axis."""
    positions, symbols, below, above = [], [], [], []
    for row in rows:
        estimate = row.effect.estimate / row.smallest
        position = min(max(estimate, left), right)
        symbol = row.symbol if row.effect.low is not None else f"{row.symbol}-open"
        if estimate < left:
            symbol = "triangle-left"
        if estimate > right:
            symbol = "triangle-right"
        positions.append(position)
        symbols.append(symbol)
        low, high = interval(row)
        # A bar ends where the axis does: an arrow says that it goes on.
        below.append(max(position - max(low, left), 0.0))
        above.append(max(min(high, right) - position, 0.0))
    return go.Scatter(
        x=positions,
        y=[row.name for row in rows],
        mode="markers",
        name=rows[0].group,
        showlegend=False,
        hovertext=[row.hover for row in rows],
        hoverinfo="text",
        marker={"symbol": symbols, "size": 10, "color": [row.colour for row in rows]},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": above,
            "arrayminus": below,
            "thickness": 1.8,
            "width": 4,
        },
    )


def interval(row: Row) -> tuple[float, float]:
    """The interval of a row in units of its smallest effect; its estimate where there is none."""
    low, high = row.effect.low, row.effect.high
    if low is None or high is None:
        return row.effect.estimate / row.smallest, row.effect.estimate / row.smallest
    return low / row.smallest, high / row.smallest


Arrow = tuple[float, str, str]  # position, row, symbol


def arrows_of(row: Row, left: float, right: float) -> list[Arrow]:
    """Arrows where the interval of a row leaves the axis."""
    low, high = interval(row)
    arrows: list[Arrow] = []
    if low < left:
        arrows.append((left, row.name, "triangle-left"))
    if high > right:
        arrows.append((right, row.name, "triangle-right"))
    return arrows


def arrow_trace(arrows: Sequence[Arrow]) -> go.Scatter:
    """All arrows of a figure."""
    return go.Scatter(
        x=[position for position, _, _ in arrows],
        y=[name for _, name, _ in arrows],
        mode="markers",
        name="beyond the axis",
        showlegend=False,
        hoverinfo="skip",
        marker={"symbol": [symbol for _, _, symbol in arrows], "size": 9, "color": MUTED},
    )


def ends_of(effect: Effect) -> list[float]:
    """The estimate and the ends of an effect's interval, where it has one."""
    return [end for end in (effect.estimate, effect.low, effect.high) if end is not None]


def effect_text(effect: Effect, metric: str, relative: bool) -> str:
    """An effect and its interval in the units of the metric."""
    label, estimate = heading(metric), change(effect.estimate, relative)
    if effect.low is None or effect.high is None:
        return f"{label} {estimate}, no interval"
    return f"{label} {estimate} [{change(effect.low, relative)}, {change(effect.high, relative)}]"


def text_of(row: Row) -> str:
    """A row's effect in words."""
    return effect_text(row.effect, row.metric, row.relative)


def table_row(row: Row) -> list[str]:
    """A row of the figure's table of numbers."""
    effect = row.effect
    span = "none"
    if effect.low is not None and effect.high is not None:
        span = f"{change(effect.low, row.relative)} to {change(effect.high, row.relative)}"
    estimate = change(effect.estimate, row.relative)
    return [plain(row.name), heading(row.metric), estimate, span, effect.decision]


def plain(name: str) -> str:
    """A row's name without its line break."""
    return name.replace("<br>", ": ")


def verdict_hover(verdict: Verdict, effect: Effect, label: str) -> str:
    """What an effect of a verdict says when hovered."""
    text = effect_text(effect, verdict.metric, verdict.relative)
    hover = f"<b>{escape(verdict.task)}: {label}</b><br>{text}<br>{effect.decision}"
    if effect.probability is not None:
        hover += f"<br>P(more than the smallest) = {effect.probability:.2f}"
    return hover
