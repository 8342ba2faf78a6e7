"""`scaling fit` with three columns: size, unique data and data seen."""

from typing import Any

import numpy as np
import pandas as pd

from scaling.laws.curves.repeated import Repeated, fit_repeated
from scaling.laws.tables import direction, shaped, tasks_of
from scaling.laws.verdicts.scores import run_scores


def repeated_curves(
    scores: pd.DataFrame,
    columns: list[str],
    y: str,
    names: dict[str, str | None],
    metric: str | None,
    lower: bool | None,
    points: list[list[float]],
) -> tuple[list[dict[str, Any]], list[str]]:
    """A law of repeated data per task of a table: documents and sentences.

    `points`: size, unique data and data seen to predict at."""
    size, unique, seen = columns
    data = shaped(scores, [size, seen], y, {**names, "block": unique})
    documents, sentences = [], []
    for task, name, part in tasks_of(data, y, metric):
        rows = run_scores(part, name)
        if "block" not in rows:
            rows["block"] = scores[unique].iloc[0]
        is_lower, bounds, assumed = direction(name, rows["value"], lower)
        law = fit_repeated(
            rows.rename(columns={"block": "unique"}),
            "value",
            bounds=bounds,
            lower_is_better=is_lower,
        )
        document = {"task": task, "metric": name, "assumed": assumed, **law.to_dict()}
        sentences += [f"{task} ({name}): {law.rows} runs, {assumed}"]
        sentences += [f"  {sentence}" for sentence in [*_constants(law), *law.sentences]]
        if points:
            document["predictions"] = _predictions(law, points)
            sentences += [_prediction_sentence(at) for at in document["predictions"]]
        documents.append(document)
    return documents, sentences


def _constants(law: Repeated) -> list[str]:
    """A line per law: its formula, and its constants with 90 % intervals."""
    lines = []
    for fit in law.fits:
        values = ", ".join(
            f"{name} {value:.4g} ({fit.low[name]:.4g} to {fit.high[name]:.4g})"
            for name, value in fit.parameters.items()
        )
        lines.append(f"{fit.name}: {fit.formula}: {values}")
    return lines


def _predictions(law: Repeated, points: list[list[float]]) -> list[dict[str, Any]]:
    if any(len(point) != 3 for point in points):
        raise ValueError(
            "--at: each point needs three numbers, SIZE/UNIQUE/SEEN; points are separated by "
            "commas."
        )
    mean, low, high = law.predict(*np.asarray(points, float).T)
    ends = zip(points, mean.tolist(), low.tolist(), high.tolist(), strict=True)
    return [{"x": x, "mean": m, "low": a, "high": b} for x, m, a, b in ends]


def _prediction_sentence(at: dict[str, Any]) -> str:
    where = " / ".join(f"{value:g}" for value in at["x"])
    return (
        f"  at {where}: {at['mean']:.4g} (mean of runs {at['low']:.4g} to {at['high']:.4g}; "
        "90 % interval)"
    )
