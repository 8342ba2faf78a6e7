"""What is said beyond the runs: curves of equal compute with their best size, and the self-test."""

import math
from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from scaling.laws import Outlook, SelfTest, iso_compute
from scaling.laws.curves.frontier import budgets_within
from scaling.report.figures import AXES
from scaling.report.style import ACCENT, axis_title, base_figure, ramp, rgba, score, si


def equal_compute(outlook: Outlook, task: str, metric: str) -> go.Figure:
    """The fitted surface along five budgets (size x duration) with its 90 % band.

    It covers the sizes and durations that were run; a star stands where the best size of a budget
    lies within them. Traces: a band and a line per budget that was run at two sizes, then the
    stars.
    """
    curve = outlook.curve
    budgets = budgets_within(curve)
    traces: list[go.Scatter] = []
    for budget, colour in zip(budgets, ramp(len(budgets)), strict=True):
        line = iso_compute(curve, float(budget), points=60)
        line = line[line["duration"].between(curve.x_low[1] * 0.999, curve.x_high[1] * 1.001)]
        if len(line) > 1:
            traces += budget_traces(line, f"{si(budget)} parameters × samples", colour, metric)
    if outlook.frontier is not None:
        best = outlook.frontier.table[outlook.frontier.table["inside"]]
        if len(best):
            traces.append(best_sizes(best))
    return base_figure(
        traces,
        alt=f"{task}: the fitted surface along budgets of equal size x duration. "
        f"{outlook.sentences[-1]}",
        x_title=f"{AXES['size']} (log scale)",
        y_title=axis_title(metric, task),
        height=380,
    ).update_xaxes(type="log")


def budget_traces(
    line: pd.DataFrame, name: str, colour: str, metric: str
) -> tuple[go.Scatter, go.Scatter]:
    """The band and the line of one budget."""
    size = line["size"].tolist()
    texts = []
    for row in line.to_dict("records"):
        place = f"{si(row['size'])} parameters, {si(row['duration'])} samples"
        span = f"{score(row['low'], metric)} to {score(row['high'], metric)}"
        texts.append(f"{place}: {score(row['mean'], metric)} ({span})")
    band = go.Scatter(
        x=size + size[::-1],
        y=line["low"].tolist() + line["high"].tolist()[::-1],
        fill="toself",
        fillcolor=rgba(colour, 0.08),
        mode="none",
        hoverinfo="skip",
        showlegend=False,
        legendgroup=name,
    )
    curve = go.Scatter(
        x=size,
        y=line["mean"].tolist(),
        mode="lines",
        name=name,
        legendgroup=name,
        line={"color": colour, "width": 2},
        hovertext=texts,
        hoverinfo="text",
    )
    return band, curve


def best_sizes(best: pd.DataFrame) -> go.Scatter:
    """A star at the best size of each budget."""
    return go.Scatter(
        x=best["size"].tolist(),
        y=best["mean"].tolist(),
        mode="markers",
        name="best size of a budget",
        marker={"symbol": "star", "size": 11, "color": ACCENT},
        hovertemplate="best: %{x:.3s} parameters: %{y:.4g}<extra></extra>",
    )


def self_test_rows(tests: Mapping[str, SelfTest]) -> list[tuple[str, ...]]:
    """A row per task on simulated studies like this one.

    Improvement claimed without an effect; with twice the smallest effect of interest, improvement
    found and shown to be worthwhile; how often the interval was right; its mean half width; the
    number of simulated studies.
    """

    def share(x: float) -> str:
        return f"{100 * x:.1f}\N{NO-BREAK SPACE}%"

    rows = []
    for task, test in tests.items():
        worthwhile = test.real.decisions.get("improves", 0.0)
        width = f"±{test.real.half_width:.3g}" if math.isfinite(test.real.half_width) else "none"
        shares = (test.null.claims, test.real.claims, worthwhile, test.null.coverage)
        rows.append((task, *map(share, shares), width, str(test.null.studies)))
    return rows
