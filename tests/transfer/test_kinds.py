"""Kinds of task: several classes and labels, groups, and a kind that a user adds."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from scaling.data.tasks import Cases, TaskArrays
from scaling.engines.evidence import with_case_scores
from scaling.metrics import Metric, register_metric
from scaling.study.config import Classical, SgdProbe, Source, Task
from scaling.study.groups import parse_group
from scaling.study.task_kinds import TaskKind, read_number, register_kind
from scaling.transfer import metrics
from scaling.transfer.classical import classical
from scaling.transfer.groups import fairness, group_table, max_disparity
from scaling.transfer.kinds import Learner, learner_of, register_learner
from scaling.transfer.kinds.classification import confusion
from scaling.transfer.linear_probe import fit_probe
from scaling.transfer.losses import labels_loss, segmentation_loss
from scaling.transfer.predictions import Predicted, score, tabulate

NAMES = ("AD", "CN", "MCI")


def task(kind: str, **fields: object) -> Task:
    common = {
        "sequences": ("t1",),
        "train": Source("a"),
        "test": (Source("b"),),
        "shots": (6,),
        "draws": 1,
    }
    return Task("some task", kind, **(common | fields))  # type: ignore[arg-type]


def arrays(labels: np.ndarray, images: np.ndarray | None = None) -> TaskArrays:
    n = len(labels)
    images = np.zeros((n, 1, 4, 4, 4)) if images is None else images
    cases = Cases(
        [f"s/{i}/1" for i in range(n)],
        ["a"] * n,
        images.astype(np.float16),
        np.ones((n, 1), bool),
        labels,
    )
    return TaskArrays(cases, cases, np.zeros(n, bool), ())


def test_classes_are_scored_as_scikit_learn_does() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60).astype(np.float32)
    scores = rng.dirichlet(np.ones(3), 60) + 0.3 * np.eye(3)[labels.astype(int)]
    scores /= scores.sum(1, keepdims=True)
    diagnosis = task("classification", classes=NAMES)
    predicted = [Predicted("finetune", 6, 0, 0.0, scores)]
    table = tabulate(predicted, arrays(labels), diagnosis, 1.0, 1.0)
    values = score(table, diagnosis).set_index("metric")["value"]
    area = roc_auc_score(labels, scores, multi_class="ovr", average="macro")
    assert values["macro_auroc"] == pytest.approx(area)
    assert values["macro_f1"] == pytest.approx(f1_score(labels, scores.argmax(1), average="macro"))
    assert list(table.filter(like="score_")) == [f"score_{name}" for name in NAMES]
    # The verdict's value of a case: its mean is the metric.
    cases = with_case_scores(table.assign(run="r"), diagnosis)
    assert cases["value"].mean() == pytest.approx(area)
    counts = confusion(table, NAMES)
    assert counts.to_numpy().sum() == 60
    assert counts.loc["AD", "CN"] == ((labels == 0) & (scores.argmax(1) == 1)).sum()


def test_classical_control_reads_three_classes_out_of_voxels() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(18) % 3
    images = rng.normal(0, 0.1, (18, 1, 8, 8, 8))
    images[:, 0, :4] += np.array([-1.0, 0.0, 1.0])[labels][:, None, None, None]
    images[:, 0, 4:] += np.array([0.0, 1.0, 0.0])[labels][:, None, None, None]
    diagnosis = task("classification", classes=NAMES)
    data = arrays(labels.astype(np.float32), images)
    (predicted,) = classical(data, diagnosis, Classical(smoothing_mm=8.0), 4.0)
    assert predicted.outputs.shape == (18, 3)
    assert metrics.macro_auroc(labels, predicted.outputs) > 0.95


def test_labels_are_scored_each_and_their_mean_and_a_lost_one_is_zero() -> None:
    truth = np.zeros((2, 4, 4, 4), np.uint8)
    truth[0, 0], truth[0, 1, 0] = 1, 2
    truth[1, 0] = 1
    vessels = task("segmentation", classes=("nerve", "vessel"))
    data = arrays(truth)
    lost = np.array([[False, False], [False, True]])
    data = replace(data, test=replace(data.test, emptied=lost))
    table = tabulate([Predicted("probe", 6, 0, 0.0, truth)], data, vessels, 1.0, 1.0)
    assert table["dice_nerve"].tolist() == [1, 1]
    assert table["dice_vessel"].tolist() == [1, 0]
    assert table["dice"].tolist() == [1, 0.5]
    assert table["nsd_vessel"].tolist() == [1, 0]
    values = score(table, vessels).set_index("metric")["value"]
    assert values.index[0] == "dice"
    assert values["dice_vessel"] == 0.5


def test_loss_of_one_label_against_the_background_is_close_to_that_of_a_mask() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 4, 4, 4)).astype(np.float32)
    masks = (rng.random((2, 4, 4, 4)) > 0.5).astype(np.float32)
    # A softmax over (0, logit) is the sigmoid of the logit.
    both = jnp.stack([jnp.zeros_like(logits), jnp.asarray(logits)], axis=1)
    ours = labels_loss(both, jnp.asarray(masks)[:, None])
    np.testing.assert_allclose(
        ours, segmentation_loss(jnp.asarray(logits), jnp.asarray(masks)), rtol=1e-5
    )


def test_groups_have_metrics_disparities_and_a_fairness_score() -> None:
    sex = ["f", "f", "m", "m", ""]
    table = pd.DataFrame({"label": [0, 1, 0, 1, 1], "prediction": [0.1, 0.9, 0.6, 0.4, 0.5]})
    keys = {
        "run": "r",
        "arm": "scratch",
        "protocol": "probe",
        "shots": 6,
        "draw": 0,
        "domain": "out",
    }
    rows = group_table(table.assign(**keys, group_sex=sex), task("classification", groups=("sex",)))
    values = rows.set_index("group")
    assert (values.loc["f", "value"], values.loc["m", "value"]) == (1.0, 0.0)
    assert values.loc["", "disparity"] == 1.0
    assert fairness(rows)["fairness"].tolist() == [0.0]
    assert max_disparity([0.5]) == 0
    assert max_disparity([0.5, np.nan, 0.75]) == 0.25
    assert np.isnan(max_disparity([np.nan]))


@pytest.mark.parametrize(
    ("text", "group"),
    [("25", "<=25"), ("25.5", "25-50"), ("50", "25-50"), ("80", ">50"), ("0", ""), ("n/a", "")],
)
def test_bins_have_inclusive_upper_edges(text: str, group: str) -> None:
    assert parse_group("age:25,50").group(text) == group


@pytest.mark.parametrize("text", ["", "age:", "age:50,25", "age:x"])
def test_groups_that_are_not_understood_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not understood"):
        parse_group(text)


def test_probe_by_gradient_descent_takes_its_recipe() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    features = rng.normal(0, 0.3, (90, 5)) + np.eye(5)[labels]
    cut = (features[:40], labels[:40], features[40:60], labels[40:60], features[60:], 3)
    best = fit_probe(*cut)
    assert metrics.macro_auroc(labels[60:], best.scores) > 0.9
    only = fit_probe(*cut, SgdProbe(learning_rates=(1e-5,)))
    assert only.rate == 1e-5
    assert only.validation_auroc <= best.validation_auroc


def cox_loss(risk: jnp.ndarray, times: jnp.ndarray) -> jnp.ndarray:
    """Partial likelihood (Cox 1972) of each case's event, Breslow's ties: times [B, 2]."""
    time, event = times[:, 0], times[:, 1]
    at_risk = time[None, :] >= time[:, None]
    total = jnp.log(jnp.where(at_risk, jnp.exp(risk)[None, :], 0).sum(1))
    return event * (total - risk)


def concordance(cases: pd.DataFrame) -> dict[str, float]:
    """Share of comparable pairs that the risk orders rightly (Harrell et al. 1982)."""
    time, event, risk = (cases[name].to_numpy() for name in ("label", "event", "prediction"))
    pairs = (time[:, None] < time[None, :]) & (event[:, None] > 0)
    right = (risk[:, None] > risk[None, :]) + 0.5 * (risk[:, None] == risk[None, :])
    return {"concordance": float(right[pairs].mean())}


def test_a_kind_of_task_is_added_from_outside() -> None:
    register_metric("concordance", Metric("concordance", smallest_effect=0.02, pooled=True))
    register_kind(
        TaskKind(
            "survival",
            expected=lambda task: "months and 0 or 1",
            metrics=lambda task: ("concordance",),
            read=read_number,
            protocols=("finetune", "classical"),
        )
    )
    learner = Learner(
        outputs=1,
        loss=cox_loss,
        predict=lambda risk: risk,
        columns=lambda labels, risk, ruler: {
            "label": labels[:, 0].astype(float),
            "event": labels[:, 1].astype(float),
            "prediction": risk.astype(float),
        },
        score=concordance,
        readout_targets=lambda labels: -np.log(labels[:, 0]),
    )
    register_learner("survival", lambda classes: learner)
    survival = task("survival", label="months,event")
    rng = np.random.default_rng(0)
    months = rng.uniform(1, 60, 20)
    labels = np.stack([months, rng.random(20) > 0.3], axis=1).astype(np.float32)
    images = np.broadcast_to(-np.log(months)[:, None, None, None, None], (20, 1, 4, 4, 4))
    data = arrays(labels, images + rng.normal(0, 0.05, images.shape))
    table = tabulate(
        classical(data, survival, Classical(smoothing_mm=4.0), 4.0), data, survival, 4.0, 1.0
    )
    assert score(table, survival)["value"].item() > 0.8
    assert learner_of(survival).loss is cox_loss
    risk = jnp.zeros(3)
    times = jnp.asarray([[1.0, 1], [2.0, 1], [3.0, 0]])
    np.testing.assert_allclose(cox_loss(risk, times), [np.log(3), np.log(2), 0], rtol=1e-6)
    with pytest.raises(ValueError, match="expected one of classification"):
        task("ordinal")
