"""From the tidy results to what one figure shows: a row per run, mean and interval over draws.

A score of a run and draw is the plain mean over the sites of a domain; its interval over few-shot
draws is Student's t at 90 %. A *series* is what sets pretrained runs apart beyond size, duration
and seed: objective, family of networks, share of the data (`scaling.laws.series`).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import t as student_t

from scaling.laws.arms import SUPERVISED
from scaling.laws.known_metrics import METRICS
from scaling.laws.series import column_as_text, series_of

CONFIDENCE = 0.90
ALL = "all"  # the view of every series in one figure
RUN = ["run", "series", "network", "size", "params", "duration", "flops", "seed"]


@dataclass(frozen=True)
class View:
    """One choice of what to look at; `key` names it in the page. Series "all" shows every one."""

    metric: str
    series: str
    domain: str
    protocol: str
    shots: int

    @property
    def key(self) -> str:
        parts = (self.metric, self.series, self.domain, self.protocol, self.shots)
        return "|".join(map(str, parts))


def with_series(results: pd.DataFrame) -> pd.DataFrame:
    """The results with the columns `series`, and `network`: rungs of two families told apart."""
    if "series" in results and "network" in results:
        return results
    network = column_as_text(results, "family") + "-" + column_as_text(results, "size")
    return results.assign(series=series_of(results), network=network)


def views(
    results: pd.DataFrame, task: str, protocol: str = "finetune", domain: str = "out"
) -> list[View]:
    """All views of a task that hold a pretrained run, the one to show first at the front.

    First: the task's main metric (AUROC, Dice, mean absolute error), all series together, the
    domain and the protocol that are asked for, most shots.
    """
    results = with_series(results)
    pretrained = (results["task"] == task) & (results["arm"] == "pretrained")
    rows = results[pretrained & np.isfinite(results["value"])]
    choices = rows[["metric", "series", "domain", "protocol", "shots"]].drop_duplicates()
    listed = [View(m, s, d, p, int(n)) for m, s, d, p, n in choices.itertuples(index=False)]
    if len(choices["series"].unique()) > 1:
        listed += {View(v.metric, ALL, v.domain, v.protocol, v.shots) for v in listed}
    metrics = list(METRICS)

    def order(view: View) -> tuple[int, bool, bool, str, int, bool, str]:
        return (
            metrics.index(view.metric) if view.metric in metrics else len(metrics),
            view.domain != domain,  # False sorts first
            view.protocol != protocol,
            view.protocol,
            -view.shots,
            view.series != ALL,
            view.series,
        )

    return sorted(listed, key=order)


def draw_scores(results: pd.DataFrame, task: str, view: View, arm: str) -> pd.DataFrame:
    """One row per run and draw of an arm: `RUN`, `value` (mean over sites), `cases`, `sites`.

    A control has no series, and often one protocol only: then that one, whatever the view's.
    """
    results = with_series(results)
    of_task = (results["task"] == task) & (results["metric"] == view.metric)
    of_arm = (results["arm"] == arm) & (results["domain"] == view.domain)
    rows = results[of_task & of_arm & np.isfinite(results["value"])]
    if arm == "pretrained":
        rows = rows[(rows["protocol"] == view.protocol) & (rows["shots"] == view.shots)]
        if view.series != ALL:
            rows = rows[rows["series"] == view.series]
    elif arm in SUPERVISED:  # by a protocol of its own, on all labelled cases
        rows = rows[rows["shots"] == rows["shots"].max()]
    else:
        rows = rows[rows["shots"] == view.shots]
        same = rows["protocol"] == view.protocol
        if same.any():
            rows = rows[same]
        elif len(rows):
            rows = rows[rows["protocol"] == rows["protocol"].iloc[0]]
    # What a control has none of.
    empty = {"size": "", "params": 0, "duration": 0, "flops": 0.0, "seed": 0}
    rows = rows.fillna(empty)
    grouped = rows.groupby(["run", "draw"]).agg({"value": "mean", "cases": "sum", "site": "count"})
    return with_facts(grouped.rename(columns={"site": "sites"}).reset_index(), rows)


def over_draws(scores: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Mean and Student's t interval over the draws of each group.

    Columns: `by`, mean, low, high (NaN from a single draw), draws, cases, sites. Runs that share a
    group (seeds, sizes) are averaged within a draw first.
    """
    draw_means = scores.groupby([*by, "draw"], as_index=False)["value"].mean()
    values = draw_means.groupby(by)["value"]
    mean, draws = values.mean(), values.count()
    quantile = student_t.ppf((1 + CONFIDENCE) / 2, draws - 1)
    half = quantile * values.std() / np.sqrt(draws)
    counts = scores.groupby(by)[["cases", "sites"]].max()
    return counts.assign(mean=mean, low=mean - half, high=mean + half, draws=draws).reset_index()


def with_facts(table: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """A table of runs with the facts of each (`RUN`), which `rows` repeat."""
    facts = rows.drop_duplicates("run")[RUN]
    return table.merge(facts, on="run", how="left")
