"""`scaling design --given RESULTS`: what to run next, in words."""

from collections import Counter
from typing import Any

import pandas as pd

from scaling.laws.tables import shaped, tasks_of
from scaling.laws.verdicts.design import half_width_over_sites, proportional_hours
from scaling.laws.verdicts.next_runs import NextRuns, next_runs
from scaling.laws.verdicts.scores import scores_on_axes


def added_to(
    scores: pd.DataFrame,
    largest: float,
    budget: float,
    target: list[float] | None,
    sites: list[int],
    site_sd: float,
) -> tuple[dict[str, Any], list[str]]:
    """The document and the sentences, a task each.

    `largest`: hours of a run of the largest size and longest duration in the table."""
    if target is not None and len(target) != 2:
        raise ValueError("--target needs two numbers, SIZE/DURATION.")
    if target is not None and sites:
        raise ValueError(
            "--sites widens the interval of the verdict, --target asks for that of a forecast: "
            "give one of them."
        )
    axes = [name for name in ("size", "duration") if name in scores]
    documents, sentences = [], []
    for task, metric, part in tasks_of(shaped(scores, axes, "value", {}), "value", None):
        data = scores_on_axes(part, metric)
        hours = proportional_hours(
            data.runs["size"].tolist(), data.runs["duration"].tolist(), largest
        )
        cell = None if target is None else (target[0], target[1])
        result, runs = next_runs(data, hours, budget, cell)
        document = {"task": task, "metric": metric, **result.to_dict()}
        sentences += [f"{task} ({metric}):", *_in_words(result, budget)]
        over_sites = {}
        for number in sites:
            half = half_width_over_sites(runs, result.noise, data.values.shape[2], number, site_sd)
            over_sites[number] = half
            if half is not None:
                sentences.append(f"  with {number} test sites, over sites like them: +-{half:.3g}")
        document["half_width_over_sites"] = {str(k): v for k, v in over_sites.items()}
        documents.append(document)
    return {"next": documents}, sentences


def _in_words(result: NextRuns, budget: float) -> list[str]:
    """What to add, in the order of its worth, and what it narrows."""
    if not result.choices:
        return [
            f"  No further run that {budget:g} hours pay for narrows the interval: score more test "
            "cases."
        ]
    times = Counter(choice.words for choice in result.choices)
    hours = {choice.words: choice.hours for choice in result.choices}
    lines = [f"  {times[words]} x {words}: {hours[words]:.3g} hours each" for words in times]
    now, then = _width(result.half_width_now), _width(result.half_width_then)
    lines.append(
        f"  {result.hours:.3g} of {budget:g} hours: the interval narrows from {now} to {then}; "
        f"with twice the test cases, to {_width(result.with_twice_the_cases)}"
    )
    return lines


def _width(half: float | None) -> str:
    return "none" if half is None else f"+-{half:.3g}"
