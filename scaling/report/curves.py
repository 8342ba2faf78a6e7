"""The fitted curves of a study, from its results alone."""

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from scaling.laws import Curve, Outlook, Verdict, outlook
from scaling.laws.curves.along import curves_along
from scaling.laws.curves.two_stage import backtest, compared
from scaling.laws.known_metrics import label_of
from scaling.report.style import change, metric_of
from scaling.report.views import ALL, View, draw_scores, views, with_series

FITTED_TO = (
    "The fitted curve and its 90 % band follow the runs of the longest duration (against size) or "
    "of the largest size (against duration), each few-shot draw weighing the same; they are drawn "
    "in the view they were fitted to, the first of each metric and series. Where all those runs "
    "branch off one trunk, as with a single seed, the band tells how much cooldowns differ by "
    "chance, not how much another trunk would."
)

Key = tuple[str, str, str]  # task, metric, axis


def fit_curves(
    results: pd.DataFrame, protocol: str = "finetune", domain: str = "out"
) -> dict[Key, Curve]:
    """(task, metric, axis) -> curve (`curves_along`) of each task and metric.

    It is fitted to the first view of one series that `views` lists for this protocol and domain.
    """
    curves = {}
    for task, metric, runs in series_runs(results, protocol, domain):
        what = metric_of(metric)
        for axis, curve in curves_along(runs, what.bounds, what.lower_is_better):
            curves[task, metric, axis] = curve
    return curves


def look_beyond(
    results: pd.DataFrame,
    protocol: str = "finetune",
    domain: str = "out",
    pretraining: pd.DataFrame | None = None,
) -> dict[tuple[str, str], Outlook]:
    """(task, metric) -> what its runs say beyond themselves, for each task's main metric.

    With the table of `pretraining`, also whether held-out losses foretell the metric better."""
    outlooks: dict[tuple[str, str], Outlook] = {}
    seen: set[str] = set()
    for task, metric, runs in series_runs(results, protocol, domain):
        if task in seen:
            continue
        what = metric_of(metric)
        sized = runs.rename(columns={"params": "size"})
        beyond = outlook(sized, label_of(metric), what.bounds, what.lower_is_better)
        if beyond is not None:
            over_loss = over_the_loss(
                sized, pretraining, label_of(metric), what.bounds, what.lower_is_better
            )
            outlooks[task, metric] = replace(beyond, sentences=(*over_loss, *beyond.sentences))
            seen.add(task)
    return outlooks


def over_the_loss(
    runs: pd.DataFrame,
    pretraining: pd.DataFrame | None,
    metric: str,
    bounds: tuple[float, float] | None,
    lower_is_better: bool,
) -> tuple[str, ...]:
    """Whether the held-out loss of pretraining foretells a metric better than the budget does.

    Nothing where the losses of some runs are missing, or too few budgets were run to tell."""
    if pretraining is None or pretraining.empty:
        return ()
    losses = pretraining.drop_duplicates("run").set_index("run")["loss"]
    with_loss = runs.assign(loss=runs["run"].map(losses))
    if not (with_loss["loss"] > 0).all() or len(with_loss["loss"].unique()) < 2:
        return ()
    moving = tuple(axis for axis in ("size", "duration") if len(runs[axis].unique()) > 1)
    try:
        errors = backtest(with_loss, moving, "loss", "value", bounds, lower_is_better)
    except ValueError:  # too few budgets or runs: nothing is said
        return ()
    return (compared(errors[0], errors[1], metric)[1],)


def series_runs(
    results: pd.DataFrame, protocol: str, domain: str
) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Task, metric, and the runs of its first view of one series, main metric first.

    Runs have the columns run, params, duration, trunk, value.
    """
    results = with_series(results)
    trunks = results.drop_duplicates("run").set_index("run")["trunk"]
    for task in results["task"].unique():
        for metric, view in fitted_views(views(results, task, protocol, domain)).items():
            scores = draw_scores(results, task, view, "pretrained")
            cells = scores.groupby(["run", "params", "duration"], as_index=False)
            runs = pd.DataFrame(cells["value"].mean())
            runs["trunk"] = runs["run"].map(trunks).fillna(runs["run"])
            yield task, metric, runs


def fitted_views(listed: list[View]) -> dict[str, View]:
    """Metric -> the view its curves are fitted to: its first one of a single series."""
    first: dict[str, View] = {}
    for view in listed:
        if view.series != ALL:
            first.setdefault(view.metric, view)
    return first


def agreement(curve: Curve, verdict: Verdict, axis: str, low: float, high: float) -> str:
    """Whether a fitted curve and the card's effect of an axis agree, and why not where they differ.

    The curve's rise from `low` to `high` is compared with the interval of the verdict's effect.
    """
    effects = {effect.name: effect for effect in verdict.effects}
    effect = effects.get(axis) or effects.get("budget")
    if effect is None or effect.low is None or effect.high is None:
        return ""
    (start, end), _, _ = curve.predict([low, high])
    rise = (start - end) if verdict.lower_is_better else (end - start)
    if verdict.relative:
        rise /= verdict.baseline
    curve_text = change(float(rise), verdict.relative)
    interval = f"{change(effect.low, verdict.relative)} to {change(effect.high, verdict.relative)}"
    if effect.low <= rise <= effect.high:
        return f"The curve's change of {curve_text} lies within the card's interval, {interval}."
    return (
        f"The curve's change of {curve_text} lies outside of the card's interval, {interval}: the "
        "curve follows only the runs of the longest duration or largest size, while the card is "
        "about all runs and judges them case by case."
    )
