"""What all figures of a view show: pretrained runs, controls, and how much better the runs are."""

from dataclasses import dataclass

import pandas as pd

from scaling.laws.arms import CLASSICAL, HISTOGRAM, SUPERVISED, baseline_arm
from scaling.report.style import metric_of
from scaling.report.views import View, draw_scores, over_draws, with_facts, with_series

KNOWN_ARMS = ("scratch", "random", *SUPERVISED, CLASSICAL, HISTOGRAM)


@dataclass(frozen=True)
class Measured:
    """The tables of a view, which its figures share. `pretrained` and `arms`: rows per run and draw
    (`draw_scores`); the others: mean and interval over draws (`over_draws`).
    """

    pretrained: pd.DataFrame
    points: pd.DataFrame
    arms: dict[str, pd.DataFrame]
    by_size: dict[str, pd.DataFrame]
    overall: dict[str, pd.DataFrame]


def measured(results: pd.DataFrame, task: str, view: View) -> Measured:
    """The runs and controls of a view."""
    results = with_series(results)
    pretrained = draw_scores(results, task, view, "pretrained")
    arms = controls(results, task, view, pretrained["network"])
    by_size = {}
    overall = {}
    for arm, scores in arms.items():
        by_size[arm] = over_draws(scores, ["size", "params"]).sort_values("params")
        overall[arm] = over_draws(scores.assign(arm=arm), ["arm"])
    return Measured(pretrained, run_points(pretrained), arms, by_size, overall)


def run_points(scores: pd.DataFrame) -> pd.DataFrame:
    """One row per run with the columns of `over_draws`; by duration, then size."""
    points = with_facts(over_draws(scores, ["run"]), scores)
    return points.sort_values(["duration", "params", "series", "seed"], ignore_index=True)


def controls(
    results: pd.DataFrame, task: str, view: View, networks: "pd.Series[str]"
) -> dict[str, pd.DataFrame]:
    """Each control arm's scores per run and draw, those of the known controls first.

    Of the `networks` that the view shows, where a control has any of them. Arms without results are
    left out. An arm that is none of the known ones is a reference: a model from
    elsewhere; one whose scores are the same after every draw counts as one draw.
    """
    of_task = results[results["task"] == task]
    arms = [arm for arm in of_task["arm"].unique() if arm != "pretrained"]
    places = {arm: place for place, arm in enumerate(KNOWN_ARMS)}
    arms.sort(key=lambda arm: (places.get(arm, len(places)), arm))
    shown = networks.unique()
    chosen = {}
    for arm in arms:
        scores = draw_scores(results, task, view, arm)
        same_network = scores["network"].isin(shown)
        if same_network.any():
            scores = scores[same_network]
        if arm not in KNOWN_ARMS and scores.groupby("run")["value"].nunique().max() == 1:
            scores = scores.drop_duplicates("run")  # one model for all draws: no spread over draws
        if len(scores):
            chosen[arm] = scores
    return chosen


def paired_improvement(shown: Measured, view: View) -> pd.DataFrame:
    """Per run, how much better it is than the untrained encoder of its network on the same draws.

    Positive is better, whichever way the metric points. Columns of `run_points`, and `baseline`,
    the mean score that the run is compared with. Empty without such a control.
    """
    control = shown.arms.get(baseline_arm(view.protocol), shown.pretrained.iloc[:0])
    by_draw = control.groupby(["network", "draw"])["value"].mean().rename("baseline")
    pairs = shown.pretrained.merge(by_draw.reset_index(), on=["network", "draw"])
    sign = -1.0 if metric_of(view.metric).lower_is_better else 1.0
    difference = pairs.assign(value=sign * (pairs["value"] - pairs["baseline"]))
    points = with_facts(over_draws(difference, ["run"]), difference)
    means = pairs.groupby("run")["baseline"].mean()
    points["baseline"] = points["run"].map(means)
    return points.sort_values(["params", "duration", "series", "seed"], ignore_index=True)
