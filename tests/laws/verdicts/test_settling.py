"""What is said to settle a verdict would, with the degrees of freedom that there would be."""

import math

import pandas as pd
import pytest
from scipy import stats

from scaling.laws.verdicts.crossed import Components
from scaling.laws.verdicts.settling import cases_needed, seeds_needed

ESTIMATE, SMALLEST = 0.02, 0.01


def _parts(run: float, run_df: float, case: float, run_case: float = 0.0) -> Components:
    variance = run + case
    df = variance**2 / (run**2 / run_df)
    return Components(variance, df, run, run_df, case, 0.0, run_case)


def _half_width(run: float, run_df: float, case: float) -> float:
    variance = run + case
    return stats.t.ppf(0.95, variance**2 / (run**2 / run_df)) * math.sqrt(variance)


def test_no_number_of_cases_settles_what_few_runs_leave_open() -> None:
    # 1.645 x .01 is below the estimate, 2.92 x .01 (2 degrees of freedom) is not.
    parts = _parts(run=0.01**2, run_df=2, case=0.001**2)
    assert cases_needed(ESTIMATE, parts, 60, SMALLEST, 0.9) is None


@pytest.mark.parametrize("run_case", [0.0, 0.003**2])
def test_cases_needed_are_the_fewest_whose_interval_excludes_nought(run_case: float) -> None:
    run, df, case, cases = 0.004**2, 3.0, 0.03**2, 40
    needed = cases_needed(ESTIMATE, _parts(run, df, case, run_case), cases, SMALLEST, 0.9)
    fewest = next(
        n
        for n in range(cases + 1, 10_000)
        if _half_width(run - run_case * (1 - cases / n), df, case * cases / n) < ESTIMATE
    )
    assert needed is not None
    assert fewest <= needed <= 1.05 * fewest


def test_seeds_needed_count_the_trunks_that_each_adds() -> None:
    # One seed of 3 sizes x 2 durations on 3 trunks.
    runs = pd.DataFrame(
        {"size": [1, 1, 2, 2, 3, 3], "duration": [1, 2] * 3, "cluster": [1, 1, 2, 2, 3, 3]}
    )
    run, df = 0.02**2, 1.0
    fewest = next(
        seeds
        for seeds in range(2, 100)
        if _half_width(run / seeds, df + 3 * (seeds - 1), 1e-12) < ESTIMATE
    )
    assert seeds_needed(ESTIMATE, _parts(run, df, 1e-12), runs, 60, SMALLEST, 0.9) == fewest
    assert fewest == 4


def test_a_harm_that_few_cases_do_not_establish_needs_as_many_as_establish_it() -> None:
    # Excludes nought at 90 % already; with fewer than 50 cases a harm needs 98 %.
    parts = _parts(run=1e-12, run_df=30.0, case=0.01**2)
    assert 1.645 * 0.01 < ESTIMATE < stats.norm.ppf(0.99) * 0.01
    needed = cases_needed(-ESTIMATE, parts, 48, SMALLEST, 0.9)
    assert needed is not None
    assert 50 <= needed <= 51
