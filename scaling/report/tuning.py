"""Figures of what makes sizes and durations comparable.

That is one learning rate for every width, and one trunk for every duration.
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from scaling.report.style import SYMBOLS, base_figure, ramp, si

PARAMETRISATIONS = {"mup": "muP", "standard": "standard parametrisation"}


def with_base(sweep: pd.DataFrame, parametrisation: str) -> pd.DataFrame:
    """The runs of one parametrisation; at the smallest width both are one, and run once."""
    return sweep[
        (sweep["parametrisation"] == parametrisation) | (sweep["width"] == sweep["width"].min())
    ]


def best_rates(sweep: pd.DataFrame) -> pd.DataFrame:
    """The learning rate of the lowest loss: rows are family and parametrisation, columns widths.

    `sweep` has the columns `inputs.LR_TRANSFER`.
    """
    rows = {}
    for family, runs in sweep.groupby("family"):
        for parametrisation, label in PARAMETRISATIONS.items():
            tried = with_base(runs, parametrisation)
            best = tried.loc[tried.groupby("width")["loss"].idxmin()]
            rows[family, label] = best.set_index("width")["rate"]
    return pd.DataFrame(rows).T


def rate_sweep(sweep: pd.DataFrame, parametrisation: str) -> go.Figure:
    """Held-out loss against learning rate, a line per width, its best rate marked.

    `sweep` has the runs (`LR_TRANSFER`) of one family. Both parametrisations share their axis of
    losses, cut above the widest range that the lowest losses and their neighbours need.
    """
    runs = with_base(sweep, parametrisation)
    widths = sorted(runs["width"].unique())
    traces = []
    for i, (width, colour) in enumerate(zip(widths, ramp(len(widths)), strict=True)):
        line = runs[runs["width"] == width].sort_values("rate")
        best = line["loss"].to_numpy() == line["loss"].min()
        name = f"width {width:g}"
        sizes = np.where(best, 15, 7).tolist()
        traces.append(
            go.Scatter(
                x=line["rate"].tolist(),
                y=line["loss"].tolist(),
                mode="lines+markers",
                name=name,
                hoverinfo="text",
                marker={"color": colour, "symbol": SYMBOLS[i % len(SYMBOLS)], "size": sizes},
                line={"color": colour, "width": 2},
                hovertext=rate_texts(name, line),
            )
        )
    label = PARAMETRISATIONS[parametrisation]
    best_of_width = best_rates(sweep).loc[(sweep["family"].iloc[0], label)].dropna()
    best_text = ", ".join(f"{rate:.2g} at width {width:g}" for width, rate in best_of_width.items())
    figure = base_figure(
        traces,
        alt=f"Held-out loss against learning rate, {label}: the best rate is {best_text}.",
        x_title=f"Learning rate, {label} (log scale)",
        y_title="Held-out loss (lower is better ↓)",
        height=380,
    )
    rates = sorted(sweep["rate"].unique())
    figure.update_xaxes(type="log", tickvals=rates, ticktext=[f"{rate:.2g}" for rate in rates])
    low = sweep["loss"].min()
    high = sweep.groupby(["parametrisation", "width"])["loss"].median().max()
    return figure.update_yaxes(range=[low - 0.05 * (high - low), high + 0.05 * (high - low)])


def rate_texts(name: str, line: pd.DataFrame) -> list[str]:
    """What the points of a line say when hovered: its name, their rate and loss."""
    pairs = zip(line["rate"], line["loss"], strict=True)
    return [f"{name}, rate {rate:.2g}: loss {loss:.4g}" for rate, loss in pairs]


def at_their_best(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs (`WSD_COSINE`) at the best rate of each size and schedule; seeds are averaged.

    A cosine run has the best rate of its duration. Cooldowns share the rate of their trunk, so
    theirs is the rate with the lowest mean logarithm of the losses.
    """
    cells = runs.groupby(["size", "schedule", "duration", "rate"], as_index=False)
    mean = cells[["loss", "samples"]].mean()
    cosine, wsd = mean[mean["schedule"] == "cosine"], mean[mean["schedule"] == "wsd"]
    over_durations = np.log(wsd["loss"]).groupby([wsd["size"], wsd["rate"]]).mean().reset_index()
    best_of_trunk = over_durations.groupby("size")["loss"].idxmin()
    cooldowns = wsd.merge(over_durations.loc[best_of_trunk, ["size", "rate"]])
    best_of_run = cosine.groupby(["size", "duration"])["loss"].idxmin()
    return pd.concat([cooldowns, cosine.loc[best_of_run]], ignore_index=True)


SCHEDULES = {
    "wsd": ("cooldowns of one trunk", "solid", "circle"),
    "cosine": ("cosine runs trained apart", "dash", "x"),
}


def schedules(runs: pd.DataFrame) -> go.Figure:
    """Held-out loss against duration of cooldowns off one trunk and of cosine runs trained apart.

    Both are `at_their_best`; two traces per size.
    """
    best = at_their_best(runs)
    sizes = list(dict.fromkeys(runs["size"]))
    traces = []
    for size, colour in zip(sizes, ramp(len(sizes)), strict=True):
        for schedule, (label, dash, symbol) in SCHEDULES.items():
            of_schedule = (best["size"] == size) & (best["schedule"] == schedule)
            line = best[of_schedule].sort_values("duration")
            traces.append(
                go.Scatter(
                    x=line["duration"].tolist(),
                    y=line["loss"].tolist(),
                    mode="lines+markers",
                    name=f"{size}: {label}",
                    marker={"color": colour, "symbol": symbol, "size": 9},
                    line={"color": colour, "width": 2, "dash": dash},
                    hoverinfo="text",
                    hovertext=rate_texts(label, line),
                )
            )
    figure = base_figure(
        traces,
        alt=compared(runs),
        x_title="Samples seen (log scale)",
        y_title="Held-out loss (lower is better ↓)",
        height=380,
    )
    ticks = sorted(runs["duration"].unique())
    return figure.update_xaxes(type="log", tickvals=ticks, ticktext=[si(t) for t in ticks])


def compared(runs: pd.DataFrame) -> str:
    """How far the losses of cooldowns are from those of cosine runs, and the samples of either."""
    best = at_their_best(runs)
    losses = best.pivot_table(index=["size", "duration"], columns="schedule", values="loss")
    apart = 100 * (losses["wsd"] / losses["cosine"] - 1)
    spent = best.groupby("schedule")["samples"].sum()
    return (
        f"Cooldowns of one trunk end {apart.min():+.1f} to {apart.max():+.1f} % from cosine runs "
        "trained apart, each at its best rate, "
        f"for {100 * spent['wsd'] / spent['cosine']:.0f} % of their samples."
    )
