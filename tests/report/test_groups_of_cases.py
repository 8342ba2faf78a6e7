"""Confusion of classes and metrics by group, from made-up predictions to the page."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix, f1_score

from scaling.engines.by_group import by_group, confusions
from scaling.report.groups import confusion_tables, fairness_table, group_tables
from scaling.report.inputs import ReportInput
from scaling.report.page import write_report
from scaling.study.config import Data, Estimand, Pretrain, Source, Study, Task
from scaling.transfer.kinds.classification import SCORE

CLASSES = ("CN", "MCI", "AD")
TASK = Task(
    "diagnosis",
    "classification",
    ("t1",),
    Source("a"),
    (Source("b"),),
    (9,),
    label="diagnosis",
    classes=CLASSES,
    groups=("sex",),
)
STUDY = Study(
    "s",
    Data("data", (Source("a"),)),
    sizes=("xxs", "xs"),
    durations=(320, 640),
    tasks=(TASK,),
    pretrain=Pretrain(warmup=32),
    estimand=Estimand(protocol="probe"),
)


def test_bins_of_ages_stand_in_the_order_of_their_numbers() -> None:
    names = ["100-120", "25-100", "5-25", "<=5", ">120", "unknown"]
    rows = [
        {"variable": "age", "metric": "f1", "group": name, "value": 0.5, "cases": 2.0}
        for name in sorted(names)
    ]
    rows.append({"variable": "age", "metric": "f1", "group": "", "value": 0.0, "cases": 12.0})
    groups = pd.DataFrame(rows).assign(task="t", model="m", what="group")
    groups.loc[groups["group"] == "", "what"] = "disparity"
    (_, (headings, _)) = group_tables(groups, "t")[0]
    expected = ["<=5", "5-25", "25-100", "100-120", ">120", "unknown"]
    assert headings[2:-1] == [f"{name} (2)" for name in expected]


@pytest.fixture(scope="module")
def predictions() -> pd.DataFrame:
    """Two sizes by two durations, one control; two draws; 30 cases in two domains."""
    rng = np.random.default_rng(0)
    parts = []
    for arm, size, duration in (
        ("pretrained", "xxs", 320),
        ("pretrained", "xs", 320),
        ("pretrained", "xs", 640),
        ("random", "xxs", 0),
    ):
        for draw in (0, 1):
            scores = rng.dirichlet(np.ones(3), 30)
            cases = pd.DataFrame(scores, columns=[SCORE + name for name in CLASSES])
            cases = cases.assign(
                run=f"{arm}-{size}-{duration}",
                arm=arm,
                objective="mae" if arm == "pretrained" else "none",
                family="vit",
                fraction=1.0,
                size=size,
                duration=duration,
                flops=float(duration * (1 if size == "xxs" else 4)),
                task=TASK.name,
                protocol="probe",
                shots=9,
                draw=draw,
                site="x",
                domain=np.repeat(["out", "in"], 15),
                case=[f"c{number}" for number in range(30)],
                label=np.arange(30) % 3.0,
                prediction=scores.argmax(1).astype(float),
                group_sex=np.resize(["f", "f", "m", "m", ""], 30),
            )
            parts.append(cases)
    return pd.concat(parts, ignore_index=True)


def of_model(predictions: pd.DataFrame, run: str) -> pd.DataFrame:
    return predictions[(predictions["run"] == run) & (predictions["domain"] == "out")]


def test_confusion_of_the_smallest_and_largest_budget_is_scikit_learns(
    predictions: pd.DataFrame,
) -> None:
    table = confusions(predictions, STUDY)
    assert list(dict.fromkeys(table["model"])) == [
        "mae, xxs, 320 samples",
        "mae, xs, 640 samples",
        "random",
    ]
    largest = of_model(predictions, "pretrained-xs-640")
    expected = confusion_matrix(largest["label"], largest["prediction"]) / 2  # two draws
    ours = table[table["model"] == "mae, xs, 640 samples"].pivot_table(
        "cases", "true", "predicted", sort=False
    )
    np.testing.assert_allclose(ours.loc[list(CLASSES), list(CLASSES)], expected)
    ((_, (headings, rows)), *_) = confusion_tables(table, TASK.name)
    assert headings == ["", *CLASSES]
    assert [row[0] for row in rows] == ["true CN", "true MCI", "true AD"]


def test_groups_have_their_metric_the_disparity_and_fairness_beside_the_score(
    predictions: pd.DataFrame,
) -> None:
    table = by_group(predictions, STUDY)
    control = table[(table["model"] == "random") & (table["metric"] == "macro_f1")]
    values = control.set_index(["what", "group"])["value"]
    by_draw = {}
    for draw, cases in of_model(predictions, "random-xxs-0").groupby("draw"):
        of_group = {
            group: f1_score(rows["label"], rows["prediction"], average="macro", zero_division=0)
            for group, rows in cases.groupby("group_sex")
            if group
        }
        whole = f1_score(cases["label"], cases["prediction"], average="macro", zero_division=0)
        by_draw[draw] = of_group | {"all": whole, "apart": abs(of_group["f"] - of_group["m"])}
    mean = pd.DataFrame(by_draw).mean(axis=1)
    assert values["group", "f"] == pytest.approx(mean["f"])
    assert values["disparity", ""] == pytest.approx(mean["apart"])
    assert values["score", ""] == pytest.approx(mean["all"])
    assert values["fairness", ""] == pytest.approx(1 - mean["apart"])
    ((variable, (headings, _)),) = group_tables(table, TASK.name)
    assert (variable, headings) == (
        "sex",
        ["Metric", "Model", "f (6)", "m (6)", "Largest disparity"],
    )
    headings, rows = fairness_table(table, TASK.name)
    assert headings == ["Metric", "Model", "Score", "Fairness score"]
    assert ["Macro F1", "random encoder, probe"] in [row[:2] for row in rows]


def test_page_shows_both_and_nothing_where_there_is_none(
    predictions: pd.DataFrame, study: ReportInput, tmp_path: Path
) -> None:
    name = study.tasks[0]
    tables = {
        "confusions": confusions(predictions, STUDY).assign(task=name),
        "groups": by_group(predictions, STUDY).assign(task=name),
    }
    page = write_report(dataclasses.replace(study, **tables), tmp_path).read_text()
    assert page.count('<details class="classes">') == 1
    assert page.count("Fairness score</th>") == 1
    assert "mae, xs, 640 samples" in page
