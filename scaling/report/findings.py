"""The findings of a challenge asked of a study, as rows of text.

They are: pretraining against controls, objectives by task, the ranking.
"""

import math
from collections.abc import Mapping

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


def published_rows(table: pd.DataFrame) -> tuple[list[str], Rows]:
    """A challenge's leaderboard: headings, and a row per team. Its columns are team, track, rank,
    and TASK_METRIC for every metric.
    """
    if table.empty:
        return [], []
    columns = [str(name) for name in table.columns if name not in ("team", "track", "rank")]
    pairs = [name.rsplit("_", 1) for name in columns]
    headings = ["Team", "Track", "Rank"]
    headings += [f"{task}: {label_of(metric)}" for task, metric in pairs]
    rows = []
    for row in table.to_dict("records"):
        rank = "–" if pd.isna(row["rank"]) else f"{row['rank']:.1f}"
        scores = [
            score(row[name], metric) for name, (_, metric) in zip(columns, pairs, strict=True)
        ]
        rows.append([row["team"], row["track"], rank, *scores])
    return headings, rows
