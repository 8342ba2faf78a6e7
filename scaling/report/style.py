"""Names, colours and number formats shared by all figures and tables.

Ordered levels (sizes, durations) take an ordered ramp of blues and a marker shape each; series
(objectives, families) take unordered colours; controls take an orange, greys and a dash pattern
each: everything can be told apart without colour (palette checked for the three common kinds of
colour blindness). The page turns light colours into dark ones itself (`page.js`)."""

import math
from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go
from plotly.colors import hex_to_rgb, sample_colorscale, unlabel_rgb

from scaling.laws.known_metrics import KnownMetric, known_metric, label_of

INK, MUTED, GRID, ACCENT = "#1c2733", "#5c6b7a", "#e3e8ed", "#1f5f99"
RAMP = ["#74b3d8", "#2f7fbd", "#0d2f5c"]
# Okabe and Ito, "Color Universal Design" (2008), darkened to be read on white.
SERIES = ["#0a5fa0", "#b0690a", "#0b7d5c", "#a44a86", "#6b5b00", "#2b8fc0", "#9c3a1e"]
SYMBOLS = ["circle", "square", "diamond", "triangle-up", "pentagon", "x", "star", "hexagon"]
FONT = '-apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, "Liberation Sans", sans-serif'

CONTROLS = {  # arm -> label, colour, dash
    "scratch": ("from scratch", "#b9541a", "dash"),
    "random": ("random encoder, probe", "#6b7280", "dashdot"),
    "supervised out of domain": ("supervised, finetuning site", "#7a4e9c", "longdash"),
    "supervised in domain": ("supervised, test sites", "#2e7d5b", "longdash"),
    "classical": ("classical features", "#3f4650", "dot"),
    "histogram": ("histogram of intensities", "#8a7a1f", "dot"),
}
DECISIONS = {  # decision -> symbol, class of its card
    "improves": ("▲", "good"),
    "improves, slightly": ("△", "good"),
    "no worthwhile improvement": ("▬", "flat"),
    "harms": ("▼", "bad"),
    "undetermined": ("?", "open"),
    "no verdict": ("–", "none"),
}


def metric_of(name: str) -> KnownMetric:
    """The known metric, or a plain description of an unknown one."""
    return known_metric(name) or KnownMetric(name, bounds=None)


def heading(metric: str) -> str:
    """The label of a metric at the start of a line or an axis."""
    label = label_of(metric)
    return label[:1].upper() + label[1:]


def control_of(arm: str) -> tuple[str, str, str]:
    """Label, colour and dash of a control; any other arm is a reference under its own name."""
    return CONTROLS.get(arm, (arm, "#8a2d5f", "longdashdot"))


def direction(metric: str) -> str:
    """Which way a metric is better, for an axis."""
    return "lower is better ↓" if metric_of(metric).lower_is_better else "higher is better ↑"


def axis_title(metric: str, task: str) -> str:
    """The title of an axis of scores."""
    unit = f" in {unit_of(metric, task)}" if unit_of(metric, task) else ""
    return f"{heading(metric)}{unit} ({direction(metric)})"


def unit_of(metric: str, task: str) -> str:
    """The unit of a metric where it has one: an error of an age is in years."""
    return "years" if metric in ("mae", "rmse") and "age" in task.lower() else ""


def ramp(n: int) -> list[str]:
    """n colours from light to dark, for ordered levels."""
    places = [place / (n - 1) for place in range(n)] if n > 1 else [1.0]
    return [str(colour) for colour in sample_colorscale(RAMP, places)]


def palette(n: int) -> list[str]:
    """n colours without an order, for series; they repeat after seven."""
    return [SERIES[place % len(SERIES)] for place in range(n)]


def si(x: float | None, unit: str = "") -> str:
    """A number of three digits with k, M, G, T, P or E; an en dash for what is not known."""
    if x is None or not math.isfinite(x):
        return "–"
    power = 0 if abs(x) < 1000 else min(int(math.log10(abs(x)) // 3), 6)
    if power < 6 and float(f"{abs(x) / 1000**power:.3g}") >= 1000:
        power += 1
    number = f"{x / 1000**power:.3g}"
    return f"{number} {['', 'k', 'M', 'G', 'T', 'P', 'E'][power]}{unit}".rstrip()


def hours(seconds: float | None) -> str:
    """Seconds as a length of time in the unit that suits it."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.2f} h"


def score(x: float, metric: str) -> str:
    """A score of a metric: three decimals where it has bounds, else two."""
    if not math.isfinite(x):
        return "–"
    decimals = 3 if metric_of(metric).bounds else 2
    return f"{x:.{decimals}f}".replace("-", "−")


def change(x: float | None, relative: bool, decimals: int = 3) -> str:
    """A signed change, in per cent where it is a fraction."""
    if x is None:
        return "–"
    text = f"{100 * x:+.1f}\N{NO-BREAK SPACE}%" if relative else f"{x:+.{decimals}f}"
    return text.replace("-", "−")


def rgba(colour: str, alpha: float) -> str:
    """A "#rrggbb" or "rgb(r, g, b)" colour made transparent."""
    channels = hex_to_rgb(colour) if colour.startswith("#") else unlabel_rgb(colour)
    return f"rgba({','.join(f'{c:.0f}' for c in channels)},{alpha})"


def base_figure(
    traces: Sequence[go.Scatter], *, alt: str, x_title: str, y_title: str, height: int = 440
) -> go.Figure:
    """A figure in the report's style.

    `alt` is its text for readers who do not see it (kept in layout.meta); without traces it stands
    in the figure's place.
    """
    axis = {
        "gridcolor": GRID,
        "zeroline": False,
        "linecolor": MUTED,
        "ticks": "outside",
        "tickcolor": MUTED,
        "automargin": True,
    }
    layout = go.Layout(
        template=go.layout.Template(),
        meta={"alt": alt},
        height=height,
        font={"family": FONT, "size": 13, "color": INK},
        paper_bgcolor="white",
        plot_bgcolor="white",
        margin={"l": 8, "r": 14, "t": 30, "b": 8},
        hovermode="closest",
        hoverlabel={
            "bgcolor": "white",
            "bordercolor": MUTED,
            "font": {"family": FONT, "size": 13},
            "align": "left",
        },
        legend={
            "orientation": "h",
            "yref": "container",
            "y": 0,
            "yanchor": "bottom",
            "x": 0,
            "font": {"size": 12},
        },
        xaxis={"title": {"text": x_title, "font": {"size": 13}, "standoff": 10}, **axis},
        yaxis={"title": {"text": y_title, "font": {"size": 13}, "standoff": 10}, **axis},
    )
    figure = go.Figure(list(traces), layout)
    if not traces:
        figure.add_annotation(
            text=escape(alt), showarrow=False, xref="paper", yref="paper", x=0.5, y=0.5
        )
        figure.update_xaxes(visible=False).update_yaxes(visible=False)
    return figure
