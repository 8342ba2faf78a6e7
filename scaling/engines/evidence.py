"""What a study's predictions say: per task the cases a verdict rests on, the verdict with its self-test, and the findings of FOMO25."""

import pandas as pd

from scaling.laws import Findings, SelfTest, Verdict, find, holm, self_test, verdict
from scaling.laws.arms import SUPERVISED, baseline_arm
from scaling.laws.series import column_as_text, series_of
from scaling.laws.verdicts.findings import PRETRAINED
from scaling.study.config import Study, Task

METRICS_OF = {
    "classification": ("auroc",),
    "segmentation": ("dice", "nsd"),
    "regression": ("mae", "pearson"),
}  # the main one first
PROTOCOLS = (
    "finetune",
    "probe",
)  # those that the findings are asked under, where pretrained runs were tried by them


def judge(
    predictions: pd.DataFrame, study: Study
) -> tuple[list[Verdict], dict[str, SelfTest], list[str]]:
    """A verdict per task on the study's estimand, its self-test, and a sentence for every task that cannot have one. A study of one size
    and one duration does not ask for any.
    """
    if (
        max(len(family.sizes or study.sizes) for family in study.families)
        == len(study.durations)
        == 1
    ):
        return [], {}, []
    verdicts, tests, unjudged = [], {}, []
    for task in study.tasks:
        metric = METRICS_OF[task.kind][0]
        table = scored(predictions, study, task, metric, study.estimand.protocol)
        cases = table[table["arm"] == PRETRAINED]
        try:
            found = verdict(
                cases,
                task=task.name,
                metric=metric,
                smallest_effect=getattr(study.smallest_effects, metric),
            )
            verdicts.append(found)
            if found.effects[0].low is not None:
                tests[task.name] = self_test(cases, found)
        except ValueError as error:
            unjudged.append(f"no verdict on {task.name}: {error}")
    return holm(verdicts), tests, unjudged


def findings(predictions: pd.DataFrame, study: Study) -> dict[str, Findings]:
    """The findings under every protocol that pretrained runs were tried by, the estimand's first."""
    tried = set(predictions.loc[predictions["arm"] == PRETRAINED, "protocol"])
    smallest = {
        metric: getattr(study.smallest_effects, metric)
        for metrics in METRICS_OF.values()
        for metric in metrics
    }
    protocols = sorted(
        (protocol for protocol in PROTOCOLS if protocol in tried),
        key=lambda name: name != study.estimand.protocol,
    )
    found = {}
    for protocol in protocols:
        tables = {
            (task.name, metric): scored(predictions, study, task, metric, protocol)
            for task in study.tasks
            for metric in METRICS_OF[task.kind]
        }
        found[protocol] = find(
            {key: table for key, table in tables.items() if len(table)}, smallest
        )
    return found


def scored(
    predictions: pd.DataFrame, study: Study, task: Task, metric: str, protocol: str
) -> pd.DataFrame:
    """The test cases of a task as `scaling.laws` reads them, in the study's domain: of pretrained runs under `protocol` at the most shots,
    and of the controls that they are compared with.
    """
    here = predictions[
        (predictions["task"] == task.name) & (predictions["domain"] == study.estimand.domain)
    ]
    own = here["arm"].isin(SUPERVISED)
    same = (
        here["arm"].isin([PRETRAINED, baseline_arm(protocol)])
        & (here["protocol"] == protocol)
        & (here["shots"] == max(task.shots))
    )
    classical = (here["arm"] == "classical") & (here["shots"] == max(task.shots))
    # A rung of a family is a network, and its size is its parameters; durations branched off one trunk are one cluster; a case is named
    # by its site as well.
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
    return cases
