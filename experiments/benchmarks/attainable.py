"""What the best of many language models reach on a task at a training compute, and whether that
holds for larger models than the frontier was fitted to.

Shows: per labelled task (26 accuracies of the 104 models of Gadre et al. 2024, three training
sets, categories of Lourie et al. 2025) the share of models of more compute at or below the frontier
of the smaller ones (.90 if it holds). Costs: a minute. Needs `downstream_tasks/`
(mlfoundations/scaling, MIT). Command:

    python experiments/benchmarks/attainable.py FOLDER/downstream_tasks
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from scaling.laws.curves.attainable import attainable

QUANTILE = 0.9


def frontiers(folder: Path) -> pd.DataFrame:
    """A row per task: the frontier at the least and the most compute, and its backtests."""
    models = pd.read_csv(folder / "gadre2024_models_losses_accuracies.csv")
    rows = []
    for task, category in pd.read_csv(folder / "labels.csv").itertuples(index=False):
        table = models[["flops_6ND", f"acc_{task}"]].dropna()
        frontier = attainable(
            table,
            "flops_6ND",
            f"acc_{task}",
            bounds=(0.0, 1.0),
            lower_is_better=False,
            quantile=QUANTILE,
            resamples=100,
        )
        value, low, high = frontier.predict([frontier.x_high])
        below = [row.below for row in frontier.backtest]
        rows.append((category, task, value[0], low[0], high[0], frontier.link.high, *below))
    names = ["half", "two thirds", "four fifths"]
    return pd.DataFrame(
        rows, columns=["category", "task", "frontier", "low", "high", "ceiling", *names]
    )


def main(folder: Path) -> None:
    table = frontiers(folder).sort_values(["category", "task"])
    print(table.round(3).to_string(index=False))
    shares = table[["half", "two thirds", "four fifths"]]
    print(table.groupby("category")[list(shares)].mean().round(3).to_string())
    error = np.abs(shares - QUANTILE).mean()
    print(f"mean share below {shares.mean().round(3).to_dict()} (aim {QUANTILE:g})")
    print(f"mean distance from it {error.round(3).to_dict()}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
