"""The loss of pretraining: at the end of each run, along its training, and against compute."""

from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from scaling.report.figures import AXES, COLUMNS, Axis
from scaling.report.style import INK, SYMBOLS, base_figure, hours, ramp, si

LOSS = "Held-out loss (lower is better ↓)"
HEIGHT = 380  # pixels


def pretraining_loss(pretraining: pd.DataFrame, axis: Axis, objective: str) -> go.Figure:
    """Final held-out loss of one objective; one trace per level.

    Against size there is a line per duration, against duration a line per size.
    """
    of_objective = pretraining["objective"] == objective
    runs = pretraining[of_objective & pretraining["loss"].notna()]
    column, by = COLUMNS[axis], "duration" if axis == "size" else "params"
    values = sorted(runs[by].unique())
    colours = ramp(len(values)) if values else []
    traces = []
    for place, (value, colour) in enumerate(zip(values, colours, strict=True)):
        group = runs[runs[by] == value].sort_values([column, "seed"])
        name = f"{si(value)} samples"
        if axis == "duration":
            name = escape(f"{group['size'].iloc[0]}, {si(value)}".strip(", "))
        one_seed = len(group["seed"].unique()) == 1
        traces.append(
            go.Scatter(
                x=group[column].astype(float).tolist(),
                y=group["loss"].astype(float).tolist(),
                mode="lines+markers" if one_seed else "markers",
                name=name,
                marker={"color": colour, "symbol": SYMBOLS[place % len(SYMBOLS)], "size": 9},
                line={"color": colour, "width": 2},
                hoverinfo="text",
                hovertext=[hover(row) for _, row in group.iterrows()],
            )
        )
    outcome = ": no finished run."
    if len(runs):
        outcome = f": from {runs['loss'].max():.4g} down to {runs['loss'].min():.4g}."
    figure = base_figure(
        traces,
        alt=f"Held-out {objective} loss against {AXES[axis].lower()}{outcome}",
        x_title=f"{AXES[axis]} (log scale)",
        y_title=LOSS,
        height=HEIGHT,
    )
    levels = sorted(runs[column].unique())
    figure.update_xaxes(type="log")
    if 0 < len(levels) <= 7:
        texts = [si(level) for level in levels]
        figure.update_xaxes(tickvals=[float(level) for level in levels], ticktext=texts)
    return figure


def loss_against_compute(pretraining: pd.DataFrame, objective: str) -> go.Figure:
    """Final held-out loss of all runs of an objective against FLOPs, and the frontier below them.

    Traces: one of markers per size, then the frontier: the lowest loss that was reached with no
    more than a given compute.
    """
    of_objective = pretraining["objective"] == objective
    usable = pretraining["loss"].notna() & (pretraining["flops"] > 0)
    runs = pretraining[of_objective & usable].sort_values("flops")
    sizes = sorted(runs["params"].unique())
    colours = ramp(len(sizes)) if sizes else []
    traces = []
    for place, (size, colour) in enumerate(zip(sizes, colours, strict=True)):
        group = runs[runs["params"] == size]
        traces.append(
            go.Scatter(
                x=group["flops"].astype(float).tolist(),
                y=group["loss"].astype(float).tolist(),
                mode="lines+markers",
                name=escape(f"{group['size'].iloc[0]}, {si(size)}".strip(", ")),
                marker={"color": colour, "symbol": SYMBOLS[place % len(SYMBOLS)], "size": 9},
                line={"color": colour, "width": 1},
                hoverinfo="text",
                hovertext=[hover(row) for _, row in group.iterrows()],
            )
        )
    if len(runs) > 1:
        traces.append(frontier_trace(runs))
    return base_figure(
        traces,
        alt=f"Held-out {objective} loss of every run against its compute, with the frontier of the "
        "lowest loss per compute.",
        x_title=f"{AXES['compute']} (log scale)",
        y_title=LOSS,
        height=HEIGHT,
    ).update_xaxes(type="log", dtick=1, exponentformat="power")


def frontier_trace(runs: pd.DataFrame) -> go.Scatter:
    """The lowest loss so far of runs sorted by compute, as steps."""
    lowest = np.minimum.accumulate(runs["loss"].to_numpy(float))
    return go.Scatter(
        x=runs["flops"].astype(float).tolist(),
        y=lowest.tolist(),
        mode="lines",
        line={"color": INK, "width": 1.5, "dash": "dot", "shape": "hv"},
        name="frontier",
        hoverinfo="skip",
    )


def training_figure(training: pd.DataFrame, objective: str) -> go.Figure:
    """Training loss along every run of an objective, and its held-out loss where it was logged.

    A line per run (size and seed): the trunk, then dotted the cooldowns that branch off it.
    """
    points = training[training["objective"] == objective]
    sizes = sorted(points["params"].unique())
    colours = dict(zip(sizes, ramp(len(sizes)), strict=True)) if sizes else {}
    traces: list[go.Scatter] = []
    for run, curve in points.groupby("run", sort=False):
        colour = colours[curve["params"].iloc[0]]
        name = escape(str(run))
        for dash, part in (("solid", "trunk"), ("dot", "cooldown")):
            of_part = curve[curve["part"] == part]
            if len(of_part):
                traces.append(loss_line(of_part, name, colour, dash, not traces_of(traces, name)))
    if "heldout_loss" in points:
        logged = points[points["heldout_loss"].notna()]
        for run, curve in logged.groupby("run", sort=False):
            traces.append(heldout_markers(curve, escape(str(run)), colours))
    return base_figure(
        traces,
        alt=f"Training loss of {objective} along {len(points['run'].unique())} runs.",
        x_title="Samples seen in pretraining",
        y_title="Training loss (lower is better ↓)",
        height=HEIGHT,
    )


def traces_of(traces: list[go.Scatter], name: str) -> bool:
    """Whether a run has a line already, and so an entry in the legend."""
    return any(trace.legendgroup == name for trace in traces)


def loss_line(part: pd.DataFrame, name: str, colour: str, dash: str, legend: bool) -> go.Scatter:
    """The training loss of a run's trunk, or of its cooldowns, each a line of its own."""
    samples: list[float | None] = []
    losses: list[float | None] = []
    # The segments of a trunk continue one another, cooldowns do not.
    pieces = part.groupby("step", sort=False) if dash == "dot" else [("trunk", part)]
    for _, piece in pieces:
        if samples:
            samples.append(None)
            losses.append(None)
        samples += piece["samples"].astype(float).tolist()
        losses += piece["loss"].astype(float).tolist()
    return go.Scatter(
        x=samples,
        y=losses,
        mode="lines",
        name=name,
        legendgroup=name,
        showlegend=legend,
        line={"color": colour, "width": 1.5, "dash": dash},
        hovertemplate=f"{name}<br>%{{x:.3s}} samples: training loss %{{y:.4g}}<extra></extra>",
    )


def heldout_markers(curve: pd.DataFrame, name: str, colours: dict[float, str]) -> go.Scatter:
    """The held-out loss of a run where it was logged during training."""
    return go.Scatter(
        x=curve["samples"].astype(float).tolist(),
        y=curve["heldout_loss"].astype(float).tolist(),
        mode="markers",
        name=f"{name}, held out",
        legendgroup=name,
        showlegend=False,
        marker={"color": colours[curve["params"].iloc[0]], "symbol": "circle-open", "size": 6},
        hovertemplate=f"{name}<br>%{{x:.3s}} samples: held-out loss %{{y:.4g}}<extra></extra>",
    )


def hover(run: pd.Series) -> str:
    """What a run of pretraining says when hovered."""
    size = escape(f"size {run['size']}, ") if run["size"] else ""
    return (
        f"<b>{escape(str(run['run']))}</b><br>{size}{si(run['params'])} "
        f"parameters<br>{si(run['duration'])} samples, seed {run['seed']}<br>held-out loss "
        f"{run['loss']:.4g}<br>{si(run['flops'], 'FLOP')} · {hours(run['seconds'])}"
    )
