"""What the page shows of single models: how classes are confused, and metrics by group of cases.

Both are of the protocol, shots and test sites that the verdict on a task is about, and of few
models: the smallest and the largest budget of every series, and the controls. Values are means over
seeds and draws.
"""

from collections.abc import Iterator

import pandas as pd

from scaling.engines.evidence import domain_of, protocol_of, shots_of
from scaling.laws.arms import CLASSICAL, baseline_arm
from scaling.laws.series import series_of
from scaling.laws.verdicts.findings import PRETRAINED
from scaling.study.classes import class_names
from scaling.study.config import Study, Task
from scaling.study.groups import parse_group
from scaling.transfer.groups import PREFIX, fairness, group_table
from scaling.transfer.kinds import learner_of
from scaling.transfer.kinds.classification import confusion

RUN = ["run", "draw"]  # one model, fitted once


def shown_models(
    predictions: pd.DataFrame, study: Study, task: Task
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Name and test cases of the models that are shown one by one."""
    protocol = protocol_of(study, task)
    here = predictions[
        (predictions["task"] == task.name)
        & (predictions["domain"] == domain_of(study, task))
        & (predictions["shots"] == shots_of(study, task))
    ]
    pretrained = here[(here["arm"] == PRETRAINED) & (here["protocol"] == protocol)]
    for series, cases in pretrained.groupby(series_of(pretrained), sort=False):
        budgets = cases.sort_values("flops", kind="stable")[["size", "duration"]].to_numpy()
        for size, duration in dict.fromkeys([tuple(budgets[0]), tuple(budgets[-1])]):
            chosen = (cases["size"] == size) & (cases["duration"] == duration)
            yield f"{series}, {size}, {duration:,} samples", cases[chosen]
    baseline = here[(here["arm"] == baseline_arm(protocol)) & (here["protocol"] == protocol)]
    if len(baseline):
        yield baseline_arm(protocol), baseline
    for arm in (CLASSICAL, *(reference.name for reference in study.references)):
        if (here["arm"] == arm).any():
            yield arm, here[here["arm"] == arm]


def confusions(predictions: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Test cases of every classification by model, true and predicted class: task, model, true,
    predicted, cases.
    """
    tables = []
    for task in study.tasks:
        if task.kind != "classification":
            continue
        names = class_names(task.classes) or ("0", "1")
        for model, cases in shown_models(predictions, study, task):
            counts = confusion(cases, names) / cases.groupby(RUN).ngroups
            rows = counts.reset_index().melt("true", var_name="predicted", value_name="cases")
            tables.append(rows.assign(task=task.name, model=model))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def by_group(predictions: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Metrics of every task that has groups: task, model, metric, variable, what, group, value,
    cases. `what` is "group", "disparity" (of a variable), "score" or "fairness" (of a metric).
    """
    tables = []
    for task in study.tasks:
        columns = [PREFIX + parse_group(text).column for text in task.groups]
        if not columns or not set(columns) <= set(predictions.columns):
            continue
        for model, cases in shown_models(predictions, study, task):
            rows = [*group_values(cases, task), *overall_values(cases, task)]
            tables.append(pd.DataFrame(rows).assign(task=task.name, model=model))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def group_values(cases: pd.DataFrame, task: Task) -> Iterator[dict[str, object]]:
    """Every group's metrics, the largest disparity, and the fairness score of one model."""
    groups = group_table(cases, task)
    if groups.empty:
        return
    for (variable, metric, group), rows in groups.groupby(["variable", "metric", "group"]):
        named = {"variable": variable, "metric": metric, "group": group}
        what, column = ("group", "value") if group else ("disparity", "disparity")
        yield named | {"what": what, "value": rows[column].mean(), "cases": rows["cases"].mean()}
    for metric, rows in fairness(groups).groupby("metric"):
        named = {"variable": "", "metric": metric, "group": ""}
        yield named | {"what": "fairness", "value": rows["fairness"].mean(), "cases": 0}


def overall_values(cases: pd.DataFrame, task: Task) -> Iterator[dict[str, object]]:
    """The metrics of one model over all its test cases, those without a group as well."""
    scores = [learner_of(task).score(rows) for _, rows in cases.groupby(RUN)]
    for metric, value in pd.DataFrame(scores).mean().items():
        named = {"variable": "", "metric": metric, "group": ""}
        yield named | {"what": "score", "value": value, "cases": len(cases) / len(scores)}
