"""The three findings of FOMO25 as questions to a study's per-case scores: does pretraining help,
which objective wins where, and what is the ranking. (Whether size and duration help is
`verdict`'s question.)

Cases: a long table with the columns of `verdict` for one task and metric (run, draw, case, value
or label and prediction), and arm ("pretrained" or the name of a control), protocol, objective,
and network (which encoder: a run is compared with controls of its own).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from scaling.laws.known_metrics import METRICS
from scaling.laws.verdicts.case_rankings import rank_cases
from scaling.laws.verdicts.comparison import Comparison, compare
from scaling.laws.verdicts.rankings import RankedMetric, Ranking, rank_differences
from scaling.laws.verdicts.scores import run_scores

PRETRAINED = "pretrained"


@dataclass(frozen=True)
class Against:
    """Pretrained runs of an objective ("all": of every one) against one control."""

    task: str
    metric: str
    objective: str
    comparison: Comparison

    @property
    def better(self) -> int:
        """How many of the pretrained runs are better than the control."""
        return self.comparison.better_a

    @property
    def runs(self) -> int:
        return self.comparison.runs_a


@dataclass(frozen=True)
class Findings:
    """`against`: finding (a), per task, control and objective; `ranking`: all runs and controls
    over all tasks; `differences`: finding (b), rank on a task less rank on another by objective
    (see `rank_differences`); `runs`: arm and objective of every run; `scores`: (task, metric) ->
    the score of every run that has one. `problems`: a sentence for what could not be said.
    """

    against: tuple[Against, ...]
    ranking: Ranking | None
    differences: pd.DataFrame
    runs: pd.DataFrame
    scores: dict[tuple[str, str], pd.Series]
    problems: tuple[str, ...] = ()


def find(
    cases: Mapping[tuple[str, str], pd.DataFrame], smallest_effects: Mapping[str, float]
) -> Findings:
    """What the scores of every (task, metric) say; the first metric of a task is its main one.
    The smallest effects are per metric."""
    against: list[Against] = []
    problems: list[str] = []
    seen: set[str] = set()
    for (task, metric), table in cases.items():
        if task in seen:
            continue
        seen.add(task)
        try:
            against += against_controls(table, task, metric, smallest_effects[metric])
        except ValueError as error:
            problems.append(
                f"pretraining on {task} could not be compared with its controls: {error}"
            )
    ranking, differences = None, pd.DataFrame()
    runs = pd.concat(cases.values()).groupby("run")[["arm", "objective"]].first()
    scores = {
        key: run_scores(table, key[1]).set_index("run")["value"] for key, table in cases.items()
    }
    try:
        ranking = ranked(cases)
        pretrained = runs.loc[runs["arm"] == PRETRAINED, "objective"]
        differences = rank_differences(
            ranking, {str(run): str(objective) for run, objective in pretrained.items()}
        )
    except ValueError as error:
        problems.append(f"the runs could not be ranked: {error}")
    return Findings(tuple(against), ranking, differences, runs, scores, tuple(problems))


def against_controls(
    cases: pd.DataFrame, task: str, metric: str, smallest_effect: float
) -> list[Against]:
    """Finding (a): the pretrained runs, all and by objective, against every control."""
    pretrained = cases[cases["arm"] == PRETRAINED]
    if pretrained.empty:
        return []
    names = sorted(pretrained["objective"].unique())
    groups = {"all": pretrained} | (
        {name: pretrained[pretrained["objective"] == name] for name in names}
        if len(names) > 1
        else {}
    )
    found = []
    for control, controls in cases[cases["arm"] != PRETRAINED].groupby("arm", sort=False):
        for name, group in groups.items():
            both = pd.concat([group, controls])
            comparison = compare(
                both, PRETRAINED, str(control), metric=metric, smallest_effect=smallest_effect
            )
            found.append(Against(task, metric, name, comparison))
    return found


def ranked(cases: Mapping[tuple[str, str], pd.DataFrame]) -> Ranking:
    """All runs, those of controls too, as FOMO25 ranks models; draws are averaged over."""
    metrics = [
        RankedMetric(task, metric, METRICS[metric].lower_is_better) for task, metric in cases
    ]
    tables = [
        table.assign(model=table["run"], task=task, metric=metric)
        for (task, metric), table in cases.items()
    ]
    return rank_cases(pd.concat(tables, ignore_index=True), metrics, permutations=20_000)
