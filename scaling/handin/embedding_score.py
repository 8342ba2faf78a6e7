"""Score embeddings: the probe of the challenge, and how equal it is between groups of people."""

from pathlib import Path

import numpy as np
import pandas as pd

from scaling.data.delimited import read_table
from scaling.handin import challenge_metrics
from scaling.handin.case_files import find_predictions
from scaling.handin.linear_probe import (
    TEST,
    TRAIN,
    VALIDATION,
    fit_probe,
    group_of,
    parse_group,
    split_cases,
)
from scaling.handin.scores import Scores
from scaling.study.challenge import Challenge, ChallengeTask

CASE, CLASS = "ptid", "selected_cohort"


def score_embeddings(
    predictions: Path, labels: Path, challenge: Challenge, task: ChallengeTask
) -> Scores:
    """Probe the vectors `predictions`/PTID.npy by the classes of a table.

    The table has the columns ptid and selected_cohort, and one for every group. All metrics of
    the embedding tasks are given: fairness means nothing beside a probe that knows nothing.
    Raises ValueError when the table or the vectors cannot be used.
    """
    table = read_cohort(labels)
    vectors, problems = read_vectors(predictions, table[CASE].tolist())
    names = sorted(set(table[CLASS]))
    if len(names) < 2:
        raise ValueError(f"{labels} has the classes {names}; expected at least two")
    truth = table[CLASS].map(names.index).to_numpy(int)
    groups = [
        parse_group(text)
        for other in challenge.tasks
        if other.kind == task.kind
        for text in other.groups
    ]
    parts = split_cases(table[CLASS].to_numpy(), decades(table, groups))
    learning = np.isin(parts, (TRAIN, VALIDATION))
    absent = table[CASE][learning & ~np.isfinite(vectors).all(1)]
    if len(absent):
        raise ValueError(
            f"{absent.iloc[0]} is a training or validation case of the probe without a valid "
            f"vector in {predictions}; the challenge stops there"
        )
    train, validation, test = (parts == part for part in (TRAIN, VALIDATION, TEST))
    result = fit_probe(
        vectors[train],
        truth[train],
        vectors[validation],
        truth[validation],
        vectors[test],
        len(names),
    )
    scores = {
        "auroc": challenge_metrics.auroc_one_vs_rest(truth[test], result.scores),
        "f1": challenge_metrics.macro_f1(truth[test], result.scores),
    }
    cases = table[test].reset_index(drop=True)
    for index, name in enumerate(names):
        cases[f"score {name}"] = result.scores[:, index]
    scores |= fairness(cases, truth[test], result.scores, groups)
    return Scores(task.kind, scores, cases, int(test.sum()), problems)


def fairness(
    cases: pd.DataFrame,
    truth: np.ndarray,
    scores: np.ndarray,
    groups: list[tuple[str, tuple[float, ...]]],
) -> dict[str, float]:
    """Largest disparity of AUROC and F1 per variable, and the fairness score of either."""
    values: dict[str, float] = {}
    metrics = {
        "auroc": challenge_metrics.auroc_one_vs_rest,
        "f1": challenge_metrics.macro_f1,
    }
    for name, metric in metrics.items():
        disparities = []
        for column, bounds in groups:
            if column not in cases:
                continue
            members = group_of(cases[column], bounds)
            disparity, _ = challenge_metrics.max_disparity(metric, truth, scores, members)
            disparities.append(disparity)
            values[f"disparity-{name} {column}"] = disparity
        values[f"fairness-{name}"] = challenge_metrics.fairness_score(disparities)
    return values


def decades(table: pd.DataFrame, groups: list[tuple[str, tuple[float, ...]]]) -> np.ndarray:
    """Decade of the first binned variable of every case [n]; 0 where there is none."""
    for column, bounds in groups:
        if bounds and column in table:
            numbers = pd.to_numeric(table[column], errors="coerce").fillna(0)
            return (numbers // 10).to_numpy(int)
    return np.zeros(len(table), int)


def read_cohort(labels: Path) -> pd.DataFrame:
    """The table of classes and groups. Raises ValueError naming the file."""
    file = labels
    if labels.is_dir():
        tables = sorted(labels.glob("*.csv"))
        if len(tables) != 1:
            raise ValueError(
                f"{labels} holds {len(tables)} csv tables; expected one with {CASE} and {CLASS}"
            )
        file = tables[0]
    table = read_table(file)
    if not {CASE, CLASS} <= set(table.columns):
        raise ValueError(f"{file} has the columns {list(table.columns)}; expected {CASE}, {CLASS}")
    if table[CASE].duplicated().any():
        again = table.loc[table[CASE].duplicated(), CASE].iloc[0]
        raise ValueError(f"{file} lists {again!r} more than once; expected one row a case")
    return table.sort_values(CASE, ignore_index=True)


def read_vectors(folder: Path, cases: list[str]) -> tuple[np.ndarray, list[str]]:
    """Vectors [n, d], NaN where there is no valid one, and a sentence for each of these.

    Raises ValueError when no case has a vector.
    """
    files = find_predictions(folder, (".npy",))
    problems = []
    vectors: dict[str, np.ndarray] = {}
    for case in cases:
        if case not in files:
            problems.append(f"{case} has no prediction; expected {folder / case}.npy")
            continue
        try:
            vectors[case] = read_vector(files[case])
        except ValueError as error:
            problems.append(str(error))
    if not vectors:
        raise ValueError(f"{folder} holds a vector of no case; expected {folder / cases[0]}.npy")
    lengths = [len(vector) for vector in vectors.values()]
    length = max(set(lengths), key=lengths.count)
    out = np.full((len(cases), length), np.nan)
    for row, case in enumerate(cases):
        if case in vectors and len(vectors[case]) == length:
            out[row] = vectors[case]
        elif case in vectors:
            problems.append(
                f"{files[case]} has {len(vectors[case])} values; expected {length}, as others have"
            )
    return out, problems


def read_vector(file: Path) -> np.ndarray:
    """A finite floating-point vector [d] from a .npy file. Raises ValueError naming the file."""
    try:
        vector = np.squeeze(np.load(file, allow_pickle=False))
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{file} is no readable .npy file ({error})") from error
    if vector.ndim != 1 or not np.issubdtype(vector.dtype, np.floating):
        raise ValueError(
            f"{file} has the shape {vector.shape} and type {vector.dtype}; expected one axis of "
            "floating-point numbers"
        )
    if not np.isfinite(vector).all():
        raise ValueError(f"{file} holds values that are not finite; it counts as missing")
    return vector
