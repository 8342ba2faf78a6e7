"""The tables of the page, as rows of text ready to print."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from scaling.report.inputs import COLUMNS
from scaling.report.style import hours, si

Rows = list[list[str]]


def cost_rows(steps: pd.DataFrame) -> Rows:
    """A row per kind of step, the totals last.

    Columns: kind, steps, finished, failed, time taken, FLOPs, estimated accelerator-hours.
    """
    rows = []
    groups = [*steps.groupby("kind", sort=False), *([("all steps", steps)] if len(steps) else [])]
    for kind, group in groups:
        status = group["status"].astype(str)
        rows.append(
            [
                str(kind),
                f"{len(group)}",
                f"{int(status.isin(['done', 'skipped', 'finished']).sum())}",
                f"{int((status == 'failed').sum())}",
                hours(_total(group["seconds"])),
                si(_total(group["flops"])),
                _hours_number(_total(group["estimated_hours"])),
            ]
        )
    return rows


def pretraining_table(pretraining: pd.DataFrame) -> tuple[list[str], Rows]:
    """Headings, and one row per run with what it cost and reached.

    Columns that are not the report's own come last, as they are.
    """
    ordered = pretraining.sort_values(["objective", "params", "duration", "seed"])
    further = [str(c) for c in pretraining if c not in COLUMNS["pretraining"]]
    headings = [
        "Run",
        "Parameters",
        "Samples",
        "Seed",
        "Held-out loss",
        "FLOPs",
        "Time",
        "Samples/s",
        "Waiting for input",
    ]
    rows = [
        [
            str(r["run"]),
            si(r["params"]),
            si(r["duration"]),
            str(r["seed"]),
            f"{r['loss']:.4g}" if math.isfinite(r["loss"]) else "–",
            si(r["flops"]),
            hours(r["seconds"]),
            si(r["samples_per_second"]),
            f"{100 * r['input_wait']:.1f} %" if math.isfinite(r["input_wait"]) else "–",
            *(f"{r[c]:.4g}" if isinstance(r[c], float) else str(r[c]) for c in further),
        ]
        for _, r in ordered.iterrows()
    ]
    return headings + [c.replace("_", " ").capitalize() for c in further], rows


def results_data(results: pd.DataFrame) -> dict[str, Any]:
    """The whole results table, column by column, for the page's own script.

    It is safe for JSON: what is not finite is null.
    """
    columns = {str(c): [_plain(v) for v in results[c].tolist()] for c in results.columns}
    return {"columns": list(columns), "data": list(columns.values())}


def fact_rows(facts: dict[str, Any]) -> Rows:
    """Names and values of provenance or of what was held fixed.

    Names within names are joined by a dot, other values are JSON.
    """
    rows: Rows = []
    for name, value in facts.items():
        if isinstance(value, dict):
            rows += [[f"{name}.{inner}", text] for inner, text in fact_rows(value)]
        else:
            rows.append(
                [str(name), value if isinstance(value, str) else json.dumps(value, default=str)]
            )
    return rows


def collection_rows(collections: Sequence[dict[str, Any]]) -> list[list[str]]:
    """A row per collection of scans; a licence that nobody states is said to be so."""
    rows = []
    for one in collections:
        counts = [f"{one['scans']:,}", f"{one['subjects']:,}"]
        rows.append([one["collection"], *counts, one["licence"] or "not stated"])
    return rows


def study_facts(results: pd.DataFrame) -> list[tuple[str, str]]:
    """The study's extent: counts of pretrained runs, sizes, durations, seeds; the range of each."""
    runs = results[results["arm"] == "pretrained"].drop_duplicates("run")
    if runs.empty:
        return []
    return [
        ("pretrained models", f"{len(runs)}"),
        ("sizes", _span(runs["params"], "parameters")),
        ("durations", _span(runs["duration"], "samples")),
        ("seeds", f"{runs['seed'].nunique()}"),
        ("objectives", ", ".join(sorted(map(str, runs["objective"].unique()))) or "not stated"),
    ]


def _span(values: pd.Series, unit: str) -> str:
    levels: Sequence[float] = sorted(values.unique())
    if len(levels) == 1:
        return f"1 ({si(levels[0])} {unit})"
    return f"{len(levels)} ({si(levels[0])} to {si(levels[-1])} {unit})"


def _total(values: pd.Series) -> float:
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(float)
    return float(np.nansum(numbers)) if np.isfinite(numbers).any() else math.nan


def _hours_number(value: float) -> str:
    if not math.isfinite(value):
        return "–"
    return f"{value:.3g}"


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return None if value is pd.NA or value is None else value
