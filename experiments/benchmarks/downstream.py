"""Does scaling show on a downstream task? Verdicts on 26 language-model tasks against the
categories of Lourie et al. (2025).

Shows: the decision per task (104 models of Gadre et al. 2024, smallest effect .02 of accuracy) by
category: predictable tasks should improve, trendless and inverse ones should not be called
improved. Three readings of the budget: parameters and tokens per parameter, training FLOPs alone,
parameters and tokens. Costs: seconds. Needs `downstream_tasks/` (mlfoundations/scaling, MIT).
Command:

    python experiments/benchmarks/downstream.py FOLDER/downstream_tasks
"""

import sys
from pathlib import Path

import pandas as pd

from scaling.laws import verdict

BUDGETS = {
    "parameters x tokens per parameter": {"size": "N", "duration": "chinchilla_multiplier"},
    "FLOPs": {"size": "flops_6ND"},
    "parameters x tokens": {"size": "N", "duration": "D"},
}


def decisions(folder: Path, budget: dict[str, str]) -> pd.DataFrame:
    """One row per labelled task: category, task, decision, estimate, low, high."""
    models = pd.read_csv(folder / "gadre2024_models_losses_accuracies.csv")
    labels = pd.read_csv(folder / "labels.csv")
    rows = []
    for task, category in labels.itertuples(index=False):
        table = pd.DataFrame(
            {
                "run": models["name"],
                "value": models[f"acc_{task}"],
                **{k: models[v] for k, v in budget.items()},
            }
        )
        found = verdict(
            table, task=task, metric="accuracy", smallest_effect=0.02, lower_is_better=False
        )
        rows.append(
            (
                category,
                task,
                found.decision,
                found.effects[0].estimate,
                found.effects[0].low,
                found.effects[0].high,
            )
        )
    return pd.DataFrame(rows, columns=["category", "task", "decision", "estimate", "low", "high"])


def main(folder: Path) -> None:
    for name, budget in BUDGETS.items():
        table = decisions(folder, budget)
        print(
            f"\n{name}\n{table.sort_values(['category', 'task']).round(3).to_string(index=False)}"
        )
        improves = table["decision"].isin(["improves", "improves, slightly"])
        predictable, flat = (
            table["category"] == "predictable",
            table["category"].isin(["trendless", "inverse"]),
        )
        print(
            f"predictable: {improves[predictable].sum()} of {predictable.sum()} improve; "
            "trendless or inverse called improved (slightly counted too): "
            f"{improves[flat].sum()} of {flat.sum()}"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
