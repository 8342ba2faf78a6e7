"""What is said beyond the runs: curves of equal compute with their best size, and how often such a verdict is right."""

import math
from collections.abc import Mapping

import plotly.graph_objects as go

from scaling.laws import Outlook, SelfTest, iso_compute
from scaling.laws.curves.frontier import budgets_within
from scaling.report.figures import AXES
from scaling.report.style import ACCENT, axis_title, base_figure, ramp, rgba, score, si


def equal_compute(outlook: Outlook, task: str, metric: str) -> go.Figure:
    """The fitted surface along five budgets (size x duration) with its 90 % band, over the sizes and durations that were run; a star where
    the best size of a budget lies within them. Traces: a band and a line per budget that was run at two sizes, then the stars."""
    curve = outlook.curve
    budgets = budgets_within(curve)
    traces = []
    for budget, colour in zip(budgets, ramp(len(budgets)), strict=True):
        line = iso_compute(curve, float(budget), points=60)
        line = line[line["duration"].between(curve.x_low[1] * 0.999, curve.x_high[1] * 1.001)]
        if len(line) > 1:
            name, ends = (
                f"{si(budget)} parameters × samples",
                line["low"].tolist() + line["high"].tolist()[::-1],
            )
            hover = [
                f"{si(r['size'])} parameters, {si(r['duration'])} samples: {score(r['mean'], metric)} "
                f"({score(r['low'], metric)} to {score(r['high'], metric)})"
                for r in line.to_dict("records")
            ]
            traces += [
                go.Scatter(
                    x=line["size"].tolist() + line["size"].tolist()[::-1], y=ends, fill="toself", fillcolor=rgba(colour, 0.08), mode="none",
                    hoverinfo="skip", showlegend=False, legendgroup=name,
                ),
                go.Scatter(
                    x=line["size"].tolist(), y=line["mean"].tolist(), mode="lines", name=name, legendgroup=name,
                    line={"color": colour, "width": 2}, hovertext=hover, hoverinfo="text",
                ),
            ]  # fmt: skip
    best = outlook.frontier.table[outlook.frontier.table["inside"]] if outlook.frontier else None
    if best is not None and len(best):
        traces.append(
            go.Scatter(
                x=best["size"].tolist(), y=best["mean"].tolist(), mode="markers", name="best size of a budget",
                marker={"symbol": "star", "size": 11, "color": ACCENT}, hovertemplate="best: %{x:.3s} parameters: %{y:.4g}<extra></extra>",
            )
        )  # fmt: skip
    return base_figure(
        traces,
        alt=f"{task}: the fitted surface along budgets of equal size x duration. {outlook.sentences[-1]}",
        x_title=f"{AXES['size']} (log scale)",
        y_title=axis_title(metric, task),
        height=380,
    ).update_xaxes(type="log")


def self_test_rows(tests: Mapping[str, SelfTest]) -> list[tuple[str, ...]]:
    """Task, then of simulated studies like this one: improvement claimed without an effect; with twice the smallest effect of interest,
    improvement found and shown to be worthwhile; how often the interval was right; its mean half width."""

    def share(x: float) -> str:
        return f"{100 * x:.1f}\N{NO-BREAK SPACE}%"

    rows = []
    for task, test in tests.items():
        worthwhile = test.real.decisions.get("improves", 0.0)
        width = f"±{test.real.half_width:.3g}" if math.isfinite(test.real.half_width) else "none"
        shares = (test.null.claims, test.real.claims, worthwhile, test.null.coverage)
        rows.append((task, *map(share, shares), width, str(test.null.studies)))
    return rows
