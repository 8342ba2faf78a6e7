"""Figures of what makes sizes and durations comparable: one learning rate for every width, one trunk for every duration."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from scaling.report.style import SYMBOLS, base_figure, ramp, si

PARAMETRISATIONS = {"mup": "muP", "standard": "standard parametrisation"}


def with_base(sweep: pd.DataFrame, parametrisation: str) -> pd.DataFrame:
    """The runs of one parametrisation; at the smallest width, the base, the two are one and run once."""
    return sweep[
        (sweep["parametrisation"] == parametrisation) | (sweep["width"] == sweep["width"].min())
    ]


def best_rates(sweep: pd.DataFrame) -> pd.DataFrame:
    """The learning rate of the lowest loss: a row per family and parametrisation, a column per width. `sweep` has `inputs.LR_TRANSFER`."""
    rows = {}
    for family, runs in sweep.groupby("family"):
        for parametrisation, label in PARAMETRISATIONS.items():
            tried = with_base(runs, parametrisation)
            rows[family, label] = tried.loc[tried.groupby("width")["loss"].idxmin()].set_index(
                "width"
            )["rate"]
    return pd.DataFrame(rows).T


def rate_sweep(sweep: pd.DataFrame, parametrisation: str) -> go.Figure:
    """Held-out loss against learning rate, a line per width, its best rate marked; `sweep` has the runs (`LR_TRANSFER`) of one family.

    Both parametrisations share their axis of losses, cut above the widest range that the lowest losses and their neighbours need.
    """
    runs = with_base(sweep, parametrisation)
    widths = sorted(runs["width"].unique())
    traces = []
    for i, (width, colour) in enumerate(zip(widths, ramp(len(widths)), strict=True)):
        line = runs[runs["width"] == width].sort_values("rate")
        best = line["loss"].to_numpy() == line["loss"].min()
        traces.append(
            go.Scatter(
                x=line["rate"].tolist(), y=line["loss"].tolist(), mode="lines+markers", name=f"width {width:g}", hoverinfo="text",
                marker={"color": colour, "symbol": SYMBOLS[i % len(SYMBOLS)], "size": np.where(best, 15, 7).tolist()},
                line={"color": colour, "width": 2},
                hovertext=[f"width {width:g}, rate {r:.2g}: loss {loss:.4g}" for r, loss in zip(line["rate"], line["loss"], strict=True)],
            )
        )  # fmt: skip
    found = (
        best_rates(sweep).loc[(sweep["family"].iloc[0], PARAMETRISATIONS[parametrisation])].dropna()
    )
    best_text = ", ".join(f"{rate:.2g} at width {width:g}" for width, rate in found.items())
    figure = base_figure(
        traces,
        alt=f"Held-out loss against learning rate, {PARAMETRISATIONS[parametrisation]}: the best rate is {best_text}.",
        x_title=f"Learning rate, {PARAMETRISATIONS[parametrisation]} (log scale)",
        y_title="Held-out loss (lower is better ↓)",
        height=380,
    )
    rates = sorted(sweep["rate"].unique())
    figure.update_xaxes(type="log", tickvals=rates, ticktext=[f"{rate:.2g}" for rate in rates])
    low, high = (
        sweep["loss"].min(),
        sweep.groupby(["parametrisation", "width"])["loss"].median().max(),
    )
    return figure.update_yaxes(range=[low - 0.05 * (high - low), high + 0.05 * (high - low)])


def at_their_best(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs (`WSD_COSINE`) at the best rate of each size, schedule and, for cosine runs, duration; cooldowns share their trunk's, so
    theirs is the rate with the lowest mean logarithm of the losses. Seeds are averaged.
    """
    mean = runs.groupby(["size", "schedule", "duration", "rate"], as_index=False)[
        ["loss", "samples"]
    ].mean()
    cosine, wsd = (mean[mean["schedule"] == schedule] for schedule in ("cosine", "wsd"))
    over_durations = np.log(wsd["loss"]).groupby([wsd["size"], wsd["rate"]]).mean().reset_index()
    shared = over_durations.loc[over_durations.groupby("size")["loss"].idxmin(), ["size", "rate"]]
    free = cosine.loc[cosine.groupby(["size", "duration"])["loss"].idxmin()]
    return pd.concat([wsd.merge(shared), free], ignore_index=True)


def schedules(runs: pd.DataFrame) -> go.Figure:
    """Held-out loss against duration: cooldowns off one trunk, and cosine runs trained apart, `at_their_best`; two traces per size."""
    best = at_their_best(runs)
    sizes = list(dict.fromkeys(runs["size"]))
    traces = []
    for size, colour in zip(sizes, ramp(len(sizes)), strict=True):
        for schedule, (label, dash, symbol) in {"wsd": ("cooldowns of one trunk", "solid", "circle"),
                                                "cosine": ("cosine runs trained apart", "dash", "x")}.items():  # fmt: skip
            line = best[(best["size"] == size) & (best["schedule"] == schedule)].sort_values(
                "duration"
            )
            traces.append(
                go.Scatter(
                    x=line["duration"].tolist(), y=line["loss"].tolist(), mode="lines+markers", name=f"{size}: {label}",
                    marker={"color": colour, "symbol": symbol, "size": 9}, line={"color": colour, "width": 2, "dash": dash},
                    hoverinfo="text",
                    hovertext=[f"{label}, rate {r:.2g}: loss {loss:.4g}" for r, loss in zip(line["rate"], line["loss"], strict=True)],
                )
            )  # fmt: skip
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
    """In a sentence: how far the losses of cooldowns are from those of cosine runs, each at its best rate, and the samples of either."""
    best = at_their_best(runs)
    losses = best.pivot_table(index=["size", "duration"], columns="schedule", values="loss")
    apart = 100 * (losses["wsd"] / losses["cosine"] - 1)
    spent = best.groupby("schedule")["samples"].sum()
    return (
        f"Cooldowns of one trunk end {apart.min():+.1f} to {apart.max():+.1f} % from cosine runs trained apart, each at its best rate, "
        f"for {100 * spent['wsd'] / spent['cosine']:.0f} % of their samples."
    )
