"""The fitted curves of a study, from its results alone."""

import pandas as pd

from scaling.laws import Curve, fit
from scaling.report.style import metric_of
from scaling.report.views import draw_scores, views

FITTED_TO = (
    "The fitted curve and its 90 % band follow the runs of the longest duration (against size) or of the largest size (against "
    "duration), each few-shot draw weighing the same; they are drawn in the view they were fitted to, the first of each metric. "
    "Where all those runs branch off one trunk, as with a single seed, the band tells how much cooldowns differ by chance, not how "
    "much another trunk would."
)


def fit_curves(results: pd.DataFrame, protocol: str = "finetune", domain: str = "out") -> dict[tuple[str, str, str], Curve]:
    """(task, metric, axis) -> curve through the runs at the other axis's largest level, in the first view of each task and metric
    that `views` lists for this protocol and domain.

    Runs of one trunk are resampled together, if there are several trunks. A task with fewer than three levels of an axis, or whose
    scores touch zero on an unbounded metric, has no curve there."""
    curves = {}
    for task in results["task"].unique():
        for metric in results.loc[results["task"] == task, "metric"].unique():
            view = next((v for v in views(results, task, protocol, domain) if v.metric == metric), None)
            if view is None:
                continue
            scores = draw_scores(results, task, view, "pretrained")
            runs = scores.groupby(["run", "params", "duration"], as_index=False)["value"].mean()
            trunks = results.drop_duplicates("run").set_index("run")["trunk"]
            runs["trunk"] = runs["run"].map(trunks).fillna(runs["run"])
            for axis, column, other in (("size", "params", "duration"), ("duration", "duration", "params")):
                part = runs[runs[other] == runs[other].max()]
                what = metric_of(metric)
                if part[column].nunique() < 3 or (what.bounds is None and part["value"].min() <= 0):
                    continue
                cluster = "trunk" if len(part["trunk"].unique()) > 1 else None
                curves[task, metric, axis] = fit(
                    part, column, "value", bounds=what.bounds, lower_is_better=what.lower_is_better, cluster=cluster
                )
    return curves
