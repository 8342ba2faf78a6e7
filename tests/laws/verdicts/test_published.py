"""Published values of several cohorts: cohorts, not tasks, are the unit."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scaling.laws.verdicts.published import axes_of_published, is_published, published_verdict


def _published() -> pd.DataFrame:
    gains = {("A", "t1"): 0.05, ("A", "t2"): 0.05, ("A", "t3"): 0.05, ("B", "t4"): 0.0}
    gains |= {("C", "t5"): 0.01, ("D", "t6"): -0.02}
    rows = []
    for (cohort, task), gain in gains.items():
        for backbone, extra in (("small", 0.0), ("large", gain)):
            rows.append((backbone, cohort, task, "auc", 0.7 + extra, 0.68 + extra, 0.72 + extra))
    for backbone in ("small", "large"):
        rows.append((backbone, "E", "chance", "auc", 0.5, 0.45, 0.56))
    names = ["backbone", "cohort", "task", "metric", "value", "low95", "high95"]
    return pd.DataFrame(rows, columns=names)


def test_published_values_are_summarised_over_cohorts() -> None:
    table = _published()
    assert is_published(table)
    assert not is_published(table.assign(seed=0))
    result = published_verdict(table, axes_of_published(table, ("size", "duration")))
    step = result.steps[0]
    assert (step.tasks, step.cohorts) == (6, 4)
    of_cohort = np.array([0.05, 0.0, 0.01, -0.02])
    expected = stats.t.interval(0.95, 3, of_cohort.mean(), stats.sem(of_cohort))
    assert step.by_cohort == pytest.approx((of_cohort.mean(), *expected))
    assert step.by_task[0] == pytest.approx(0.14 / 6)
    assert "undetermined" in step.sentence


def test_published_tasks_at_chance_are_named_and_left_out() -> None:
    result = published_verdict(_published(), ("backbone",))
    assert result.at_chance == ("E chance",)
    assert any("At chance for every model" in sentence for sentence in result.sentences)


def test_published_axes_that_are_absent_are_named() -> None:
    table = _published().drop(columns="backbone")
    with pytest.raises(ValueError, match="no column size or duration"):
        axes_of_published(table, ("size", "duration"))
