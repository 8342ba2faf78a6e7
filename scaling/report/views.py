"""From the tidy results table to what one figure shows: a row per run with its mean and interval over few-shot draws.

A score of a run and draw is the plain mean over the sites of a domain; its interval over draws is Student's t at 90 %."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import t as student_t

from scaling.laws.arms import SUPERVISED, baseline_arm
from scaling.laws.known_metrics import METRICS
from scaling.report.style import metric_of

CONFIDENCE = 0.90
RUN = ["run", "objective", "size", "params", "duration", "seed"]


@dataclass(frozen=True)
class View:
    """One choice of what to look at; `key` names it in the page."""

    metric: str
    objective: str
    domain: str
    protocol: str
    shots: int

    @property
    def key(self) -> str:
        return "|".join(
            map(str, (self.metric, self.objective, self.domain, self.protocol, self.shots))
        )


def views(
    results: pd.DataFrame, task: str, protocol: str = "finetune", domain: str = "out"
) -> list[View]:
    """All views of a task that hold a pretrained run, the one to show first at the front: the task's first metric (AUROC, Dice, mean
    absolute error), the domain and the protocol that are asked for, most shots."""
    rows = results[
        (results["task"] == task) & (results["arm"] == "pretrained") & np.isfinite(results["value"])
    ]
    found = rows[["metric", "objective", "domain", "protocol", "shots"]].drop_duplicates()
    metrics = list(METRICS)

    def order(view: View) -> tuple[int, bool, bool, str, int, str]:
        place = metrics.index(view.metric) if view.metric in metrics else len(metrics)
        return (
            place,
            view.domain != domain,
            view.protocol != protocol,
            view.protocol,
            -view.shots,
            view.objective,
        )

    return sorted(
        (View(m, o, d, p, int(s)) for m, o, d, p, s in found.itertuples(index=False)), key=order
    )


def draw_scores(results: pd.DataFrame, task: str, view: View, arm: str) -> pd.DataFrame:
    """One row per run and draw of an arm: its columns, `value` (mean over sites), `cases` (sum over sites) and `sites`.

    A control has no objective, and often one protocol only: then that one, whatever the view's."""
    rows = results[
        (results["task"] == task) & (results["arm"] == arm) & (results["metric"] == view.metric)
    ]
    rows = rows[(rows["domain"] == view.domain) & np.isfinite(rows["value"])]
    if arm == "pretrained":
        rows = rows[
            (rows["protocol"] == view.protocol)
            & (rows["objective"] == view.objective)
            & (rows["shots"] == view.shots)
        ]
    elif arm in SUPERVISED:  # by a protocol of its own, on all labelled cases
        rows = rows[rows["shots"] == rows["shots"].max()]
    else:
        rows = rows[rows["shots"] == view.shots]
        same = rows["protocol"] == view.protocol
        rows = rows[
            same if same.any() or rows.empty else rows["protocol"] == rows["protocol"].iloc[0]
        ]
    rows = rows.fillna(
        {"objective": "", "size": "", "params": 0, "duration": 0, "seed": 0}
    )  # what a control has none of
    grouped = rows.groupby([*RUN, "draw"]).agg({"value": "mean", "cases": "sum", "site": "count"})
    return grouped.rename(columns={"site": "sites"}).reset_index()


def over_draws(scores: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Mean and Student's t interval over draws of each group: columns `by`, mean, low, high (NaN from a single draw), draws, cases, sites.

    Runs that share a group (seeds, sizes) are averaged within a draw first."""
    values = scores.pivot_table("value", by, "draw")
    mean, draws = values.mean(axis=1), values.count(axis=1)
    half = student_t.ppf((1 + CONFIDENCE) / 2, draws - 1) * values.std(axis=1) / np.sqrt(draws)
    counts = scores.groupby(by)[["cases", "sites"]].max()
    return counts.assign(mean=mean, low=mean - half, high=mean + half, draws=draws).reset_index()


def run_points(results: pd.DataFrame, task: str, view: View) -> pd.DataFrame:
    """One row per pretrained run: its columns, then mean, low, high over draws, draws, cases, sites; by duration, then parameters."""
    points = over_draws(draw_scores(results, task, view, "pretrained"), RUN)
    return points.sort_values(["duration", "params", "seed"], ignore_index=True)


def controls(results: pd.DataFrame, task: str, view: View) -> dict[str, pd.DataFrame]:
    """Each control arm's scores per run and draw, those of the known controls first: of the networks that the view shows, where a control
    has any of them. Arms without results are left out.
    """
    arms = [a for a in results.loc[results["task"] == task, "arm"].unique() if a != "pretrained"]
    known = ["scratch", "random", *SUPERVISED, "classical"]
    arms.sort(key=lambda a: (known.index(a) if a in known else len(known), a))
    shown = draw_scores(results, task, view, "pretrained")["size"].unique()
    found = {arm: draw_scores(results, task, view, arm) for arm in arms}
    own = {arm: scores["size"].isin(shown) for arm, scores in found.items()}
    return {
        arm: scores[own[arm]] if own[arm].any() else scores
        for arm, scores in found.items()
        if len(scores)
    }


def paired_improvement(results: pd.DataFrame, task: str, view: View) -> pd.DataFrame:
    """Per run, how much better it is than the untrained encoder of its size on the same draws (positive = better, whichever way the
    metric points): the columns of `run_points` and `baseline`, the mean score it is compared with."""
    pretrained = draw_scores(results, task, view, "pretrained")
    control = draw_scores(results, task, view, baseline_arm(view.protocol))
    control = control.groupby(["size", "draw"])["value"].mean().rename("baseline").reset_index()
    pairs = pretrained.merge(control, on=["size", "draw"])
    sign = -1.0 if metric_of(view.metric).lower_is_better else 1.0
    difference = pairs.assign(value=sign * (pairs["value"] - pairs["baseline"]))
    points = over_draws(difference, RUN)
    means = pairs.groupby("run")["baseline"].mean()
    points["baseline"] = points["run"].map(means)
    return points.sort_values(["params", "duration", "seed"], ignore_index=True)
