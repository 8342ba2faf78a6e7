"""The fitted curves of a study, from its results alone."""

from collections.abc import Iterator

import pandas as pd

from scaling.laws import Curve, Outlook, outlook
from scaling.laws.curves.curve import curves_along
from scaling.laws.known_metrics import label_of
from scaling.report.style import metric_of
from scaling.report.views import View, draw_scores, views

FITTED_TO = (
    "The fitted curve and its 90 % band follow the runs of the longest duration (against size) or of the largest size (against "
    "duration), each few-shot draw weighing the same; they are drawn in the view they were fitted to, the first of each metric. "
    "Where all those runs branch off one trunk, as with a single seed, the band tells how much cooldowns differ by chance, not how "
    "much another trunk would."
)


def fit_curves(
    results: pd.DataFrame, protocol: str = "finetune", domain: str = "out"
) -> dict[tuple[str, str, str], Curve]:
    """(task, metric, axis) -> curve (`curves_along`) in the first view of each task and metric that `views` lists for this protocol and
    domain."""
    return {
        (task, metric, axis): curve
        for task, metric, runs in _runs(results, protocol, domain)
        for axis, curve in curves_along(
            runs, metric_of(metric).bounds, metric_of(metric).lower_is_better
        )
    }


def look_beyond(
    results: pd.DataFrame, protocol: str = "finetune", domain: str = "out"
) -> dict[tuple[str, str], Outlook]:
    """(task, metric) -> what its runs say beyond themselves, for each task's first metric: its main one."""
    found: dict[tuple[str, str], Outlook] = {}
    for task, metric, runs in _runs(results, protocol, domain):
        if not any(task == seen for seen, _ in found):
            what = metric_of(metric)
            said = outlook(
                runs.rename(columns={"params": "size"}),
                label_of(metric),
                what.bounds,
                what.lower_is_better,
            )
            if said is not None:
                found[task, metric] = said
    return found


def _runs(
    results: pd.DataFrame, protocol: str, domain: str
) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Task, metric, and its pretrained runs (run, params, duration, trunk, value) in the first view of that metric."""
    trunks = results.drop_duplicates("run").set_index("run")["trunk"]
    for task in results["task"].unique():
        first: dict[str, View] = {}
        for view in views(results, task, protocol, domain):
            first.setdefault(view.metric, view)
        for metric, view in first.items():
            scores = draw_scores(results, task, view, "pretrained")
            runs = pd.DataFrame(
                scores.groupby(["run", "params", "duration"], as_index=False)["value"].mean()
            )
            runs["trunk"] = runs["run"].map(trunks).fillna(runs["run"])
            yield task, metric, runs
