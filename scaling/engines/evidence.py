"""What a study's predictions say: per task the cases a verdict rests on, the verdict with its
self-test, and the findings of FOMO25.
"""

import numpy as np
import pandas as pd

from scaling.laws import Findings, SelfTest, Verdict, find, holm, self_test, verdict
from scaling.laws.arms import CLASSICAL, HISTOGRAM, SUPERVISED, baseline_arm
from scaling.laws.series import column_as_text, series_of
from scaling.laws.verdicts.findings import PRETRAINED
from scaling.study.config import Study, Task
from scaling.study.task_kinds import kind_of
from scaling.transfer.kinds import learner_of

# Those that the findings are asked under, where pretrained runs were tried by them.
PROTOCOLS = ("finetune", "probe", "sgd_probe")
# Metrics that `scaling.laws` computes from labels and predictions.
FROM_LABELS = ("auroc", "pearson")


def judge(
    predictions: pd.DataFrame, study: Study
) -> tuple[list[Verdict], dict[str, SelfTest], list[str]]:
    """A verdict per task on the study's estimand, its self-test, and a sentence for every task that
    cannot have one. A study of one size and one duration does not ask for any.
    """
    sizes = max(len(family.sizes or study.sizes) for family in study.families)
    if sizes == len(study.durations) == 1:
        return [], {}, []
    verdicts, tests, unjudged = [], {}, []
    for task in study.tasks:
        metric = kind_of(task).metrics(task)[0]
        table = scored(predictions, study, task, metric, protocol_of(study, task))
        cases = table[table["arm"] == PRETRAINED]
        try:
            on_task = verdict(
                cases,
                task=task.name,
                metric=metric,
                smallest_effect=study.smallest_effects.of(metric),
            )
            verdicts.append(on_task)
            if on_task.effects[0].low is not None:
                tests[task.name] = self_test(cases, on_task)
                if warning := tests[task.name].warning:
                    unjudged.append(f"{task.name}: {warning}")
        except ValueError as error:
            unjudged.append(f"no verdict on {task.name}: {error}")
    return holm(verdicts), tests, unjudged


def protocol_of(study: Study, task: Task) -> str:
    """The protocol that the verdict on a task is about: the study's, or, where the task leaves that
    out, the first that it has.
    """
    recipes = task.transfer or study.transfer
    protocols = [study.estimand.protocol, *(name for name in PROTOCOLS)]
    return next(name for name in protocols if getattr(recipes, name) is not None)


def domain_of(study: Study, task: Task) -> str:
    """The test sites that the verdict on a task is about; folds and held-out cases
    are of training sites.
    """
    return "in" if task.folds or task.held_out else study.estimand.domain


def shots_of(study: Study, task: Task) -> int:
    """The number of shots that the verdict on a task is about."""
    return study.estimand.shots or max(task.shots)


def findings(predictions: pd.DataFrame, study: Study) -> dict[str, Findings]:
    """The findings under every protocol that pretrained runs were tried by, the estimand's
    first.
    """
    tried = set(predictions.loc[predictions["arm"] == PRETRAINED, "protocol"])
    smallest = {
        metric: study.smallest_effects.of(metric)
        for task in study.tasks
        for metric in kind_of(task).metrics(task)
    }
    protocols = sorted(
        (protocol for protocol in PROTOCOLS if protocol in tried),
        key=lambda name: name != study.estimand.protocol,
    )
    by_protocol = {}
    for protocol in protocols:
        tables = {}
        for task in study.tasks:
            for metric in kind_of(task).metrics(task):
                table = scored(predictions, study, task, metric, protocol)
                if len(table) and (metric in FROM_LABELS or "value" in table):
                    tables[task.name, metric] = table
        by_protocol[protocol] = find(tables, smallest)
    return by_protocol


def scored(
    predictions: pd.DataFrame, study: Study, task: Task, metric: str, protocol: str
) -> pd.DataFrame:
    """The test cases of a task as `scaling.laws` reads them, in the study's domain: of pretrained
    runs under `protocol` at the estimand's shots, and of the controls that they are compared with.
    """
    here = predictions[
        (predictions["task"] == task.name) & (predictions["domain"] == domain_of(study, task))
    ]
    own = here["arm"].isin(SUPERVISED)
    same = (
        here["arm"].isin([PRETRAINED, baseline_arm(protocol)])
        & (here["protocol"] == protocol)
        & (here["shots"] == shots_of(study, task))
    )
    classical = here["arm"].isin([CLASSICAL, HISTOGRAM]) & (here["shots"] == shots_of(study, task))
    classical |= competitors(here, study, task, protocol)
    # A rung of a family is a network, and its size is its parameters; durations branched off one
    # trunk are one cluster; a case is named by its site as well.
    cases = here[own | same | classical].rename(
        columns={"size": "network", "params": "size", "trunk": "cluster"}
    )
    # Rungs of two families may share a name: a network is both.
    cases["network"] = column_as_text(cases, "family") + "-" + column_as_text(cases, "network")
    cases["case"] = cases["site"] + "/" + cases["case"]
    runs = predictions.drop_duplicates("run").set_index("run")
    cases["objective"] = cases["run"].map(series_of(runs))
    control = cases["arm"] != PRETRAINED
    for column in ("run", "cluster"):  # an untrained encoder serves several controls
        cases.loc[control, column] = cases.loc[control, "arm"] + ": " + cases.loc[control, column]
    if len(study.objectives) * len(study.families) * len(study.fractions) > 1:
        cases["block"] = cases["objective"]
    if metric in cases:
        cases["value"] = cases[metric]
    elif metric == kind_of(task).metrics(task)[0]:
        cases = with_case_scores(cases, task)
    return cases


def competitors(cases: pd.DataFrame, study: Study, task: Task, protocol: str) -> "pd.Series[bool]":
    """Rows of the study's references at the estimand's shots: those under `protocol` of one that
    was tried by it, all rows of one that has a readout of its own.
    """
    chosen = pd.Series(False, cases.index)
    for reference in study.references:
        rows = (cases["arm"] == reference.name) & (cases["shots"] == shots_of(study, task))
        same = rows & (cases["protocol"] == protocol)
        chosen |= same if same.any() else rows
    return chosen


def with_case_scores(cases: pd.DataFrame, task: Task) -> pd.DataFrame:
    """A column `value` of one score a case whose mean over a run and draw is the main metric, where
    the task's kind gives such scores.
    """
    case_scores = learner_of(task).case_scores
    if case_scores is None or cases.empty:
        return cases
    values = pd.Series(np.nan, cases.index)
    for _, rows in cases.groupby(["run", "protocol", "draw"]):
        values[rows.index] = case_scores(rows)
    return cases.assign(value=values)
