"""The fitted curves of a study, from its results alone."""

import pandas as pd

from scaling.laws import Curve
from scaling.laws.curve import curves_along
from scaling.report.style import metric_of
from scaling.report.views import draw_scores, views

FITTED_TO = (
    "The fitted curve and its 90 % band follow the runs of the longest duration (against size) or of the largest size (against "
    "duration), each few-shot draw weighing the same; they are drawn in the view they were fitted to, the first of each metric. "
    "Where all those runs branch off one trunk, as with a single seed, the band tells how much cooldowns differ by chance, not how "
    "much another trunk would."
)


def fit_curves(results: pd.DataFrame, protocol: str = "finetune", domain: str = "out") -> dict[tuple[str, str, str], Curve]:
    """(task, metric, axis) -> curve (`curves_along`) in the first view of each task and metric that `views` lists for this protocol and
    domain."""
    curves = {}
    for task in results["task"].unique():
        for metric in results.loc[results["task"] == task, "metric"].unique():
            view = next((v for v in views(results, task, protocol, domain) if v.metric == metric), None)
            if view is None:
                continue
            scores = draw_scores(results, task, view, "pretrained")
            runs = pd.DataFrame(scores.groupby(["run", "params", "duration"], as_index=False)["value"].mean())
            trunks = results.drop_duplicates("run").set_index("run")["trunk"]
            runs["trunk"] = runs["run"].map(trunks).fillna(runs["run"])
            what = metric_of(metric)
            for axis, curve in curves_along(runs, what.bounds, what.lower_is_better):
                curves[task, metric, axis] = curve
    return curves
