"""The findings of FOMO25 asked of a study, as rows of text.

They are: pretraining against controls, objectives by task, the ranking.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from scaling.laws import Findings
from scaling.laws.known_metrics import label_of
from scaling.laws.verdicts.findings import PRETRAINED
from scaling.report.style import DECISIONS, change, control_of, score

Rows = list[list[str]]
CHOICES = {
    "out": "out of domain",
    "in": "in domain",
    "finetune": "full finetuning",
    "probe": "probe on frozen encoder",
    "neighbours": "nearest neighbours, frozen encoder",
}
# The challenge's leaderboards: fomo25.github.io, and "Findings from the FOMO25 Challenge"
# (arXiv 2604.11679).
PUBLISHED = Path(__file__).parent / "published_fomo25.csv"
PUBLISHED_COLUMNS = {
    "infarct": ("auroc",),
    "meningioma": ("dice", "nsd"),
    "brain-age": ("mae", "pearson"),
}
WIDEST = 1000.0  # beyond it an interval says no more than that there is none


def against_rows(findings: Mapping[str, Findings], by_objective: bool) -> Rows:
    """Finding (a), of all pretrained models or by objective.

    Columns: protocol, task, objective, control, scores, difference (positive: pretraining is
    better), its interval, decision, models that are better than the mean of the control.
    """
    rows = []
    for protocol, answers in findings.items():
        for one in answers.against:
            if (one.objective != "all") != by_objective:
                continue
            comparison = one.comparison
            effect, relative = comparison.effect, comparison.relative
            known = (
                effect.low is not None
                and effect.high is not None
                and effect.high - effect.low < WIDEST
            )
            interval = (
                f"{change(effect.low, relative)} to {change(effect.high, relative)}"
                if known
                else "too few runs for one"
            )
            rows.append(
                [
                    CHOICES.get(protocol, protocol),
                    one.task,
                    one.objective,
                    control_of(comparison.arm_b)[0],
                    f"{label_of(one.metric)} {score(comparison.mean_a, one.metric)} "
                    f"against {score(comparison.mean_b, one.metric)}",
                    change(effect.estimate, relative),
                    interval,
                    f"{DECISIONS[effect.decision][0]} {effect.decision}",
                    f"{one.better} of {one.runs}",
                ]
            )
    return rows


def difference_rows(found: Findings) -> Rows:
    """Finding (b): objective, task, other task, models, mean difference of ranks, its interval."""
    return [
        [
            str(row["objective"]),
            str(row["task"]),
            str(row["other_task"]),
            str(row["models"]),
            f"{row['difference']:+.1f}",
            "none" if pd.isna(row["low"]) else f"{row['low']:+.1f} to {row['high']:+.1f}",
        ]
        for row in found.differences.to_dict("records")
    ]


def ranking_rows(found: Findings) -> tuple[list[str], Rows]:
    """Headings, and a row per model, best first: rank, interval, tier, score of every metric."""
    if found.ranking is None:
        return [], []
    headings = [
        "Model",
        "What",
        "Rank",
        "95 % interval",
        "Tier",
        *(f"{task}: {label_of(metric)}" for task, metric in found.scores),
    ]
    rows = []
    for row in found.ranking.table.to_dict("records"):
        of = found.runs.loc[row["model"]]
        arm = str(of["arm"])
        rows.append(
            [
                str(row["model"]).removeprefix(f"{arm}: "),
                str(of["objective"]) if arm == PRETRAINED else control_of(arm)[0],
                f"{row['overall']:.1f}",
                f"{row['low']:.1f} to {row['high']:.1f}",
                str(row["tier"]),
                *(
                    score(scores.get(row["model"], math.nan), metric)
                    for (_, metric), scores in found.scores.items()
                ),
            ]
        )
    return headings, rows


def published_rows(tasks: list[str]) -> tuple[list[str], Rows]:
    """The challenge's own leaderboards: headings, and a row per team.

    Nothing where the study lacks one of the three tasks.
    """
    if not set(PUBLISHED_COLUMNS) <= set(tasks):
        return [], []
    table = pd.read_csv(PUBLISHED, comment="#")
    columns = [(task, metric) for task, metrics in PUBLISHED_COLUMNS.items() for metric in metrics]
    headings = [
        "Team",
        "Track",
        "Rank",
        *(f"{task}: {label_of(metric)}" for task, metric in columns),
    ]
    rows = [
        [
            row["team"],
            row["track"],
            "–" if pd.isna(row["rank"]) else f"{row['rank']:.1f}",
            *(score(row[f"{t}_{m}"], m) for t, m in columns),
        ]
        for row in table.to_dict("records")
    ]
    return headings, rows
