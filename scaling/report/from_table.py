"""The same report from anybody's table of results as from a study of one's own."""

import pandas as pd

from scaling.laws import SelfTest, self_test
from scaling.laws.per_task import curves_of, judged, outlooks_of, results_table
from scaling.laws.tables import tasks_of
from scaling.report.inputs import ReportInput


def report_from_table(
    data: pd.DataFrame,
    name: str,
    y: str,
    metric: str | None = None,
    lower: bool | None = None,
    effect: float | None = None,
) -> ReportInput:
    """Curves, verdicts, what is said beyond the runs, and self-tests of anybody's table.

    The table was shaped by `scaling.laws.tables.shaped`; y is the name its value had. What cannot
    be judged is listed as a problem.
    """
    verdicts, problems = judged(data, y, metric, lower, effect, None)
    results = results_table(data, name, y, metric)
    tests: dict[str, SelfTest] = {}
    for task, named, part in tasks_of(data, y, metric):
        verdict = next((v for v in verdicts if (v.task, v.metric) == (task, named)), None)
        if verdict is not None and verdict.effects[0].low is not None:
            tests.setdefault(task, self_test(part.drop(columns="task", errors="ignore"), verdict))
    problems += [
        f"{task}: {test.warning}" for task, test in tests.items() if test.warning is not None
    ]
    return ReportInput(
        name=name,
        results=results,
        verdicts=verdicts,
        problems=problems,
        curves=curves_of(results, lower),
        outlooks=outlooks_of(results, lower),
        self_tests=tests,
    )
