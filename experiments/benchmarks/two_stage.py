"""From loss to task: accuracies of larger language models predicted over their held-out loss, and
directly from their training FLOPs.

Shows: per labelled task (26 accuracies of the models of Gadre et al. 2024, categories of Lourie et
al. 2025) how far either way misses the models of more compute. Costs: a minute. Needs
`downstream_tasks/` (mlfoundations/scaling, MIT). Command:

    python experiments/benchmarks/two_stage.py FOLDER/downstream_tasks
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from scaling.laws.curves.two_stage import backtest

WAYS = ["two-stage", "direct"]
DATASET = "rpj"  # one training set: losses after different ones are not on one curve


def backtests(folder: Path) -> pd.DataFrame:
    """Per task: category, both errors (geometric mean over origins, and at the last)."""
    models = pd.read_csv(folder / "gadre2024_models_losses_accuracies.csv")
    models = models[models["train_dataset"].str.contains(DATASET)]
    rows = []
    for task, category in pd.read_csv(folder / "labels.csv").itertuples(index=False):
        runs = models[["flops_6ND", "loss_openlm", f"acc_{task}"]].dropna()
        over_loss, directly, _ = backtest(
            runs, ("flops_6ND",), "loss_openlm", f"acc_{task}", (0.0, 1.0), False
        )
        errors = [float(np.exp(np.log(misses).mean())) for misses in (over_loss, directly)]
        last = [over_loss[-1], directly[-1]]
        rows.append((category, task, *errors, *last))
    return pd.DataFrame(
        rows, columns=["category", "task", *WAYS, "two-stage, last", "direct, last"]
    )


def main(folder: Path) -> None:
    table = backtests(folder).sort_values(["category", "task"])
    print(table.round(4).to_string(index=False))
    print(table.groupby("category")[WAYS].mean().round(4).to_string())
    better = (table["two-stage"] < table["direct"]).sum()
    print(f"over the loss is better on {better} of {len(table)} tasks")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
