"""Extrapolation of the published learning curves of "Revisiting neural scaling laws"
(Alabdulmohsin et al. 2022, arXiv 2209.06640).

Shows: the root mean squared log error on the later part of each curve, fitted on its earlier
part, by domain, beside the authors' own estimators; coverage of the 90 % intervals; seconds a
curve. Costs: about a minute. Needs `learning_curves/` (google-research, Apache-2.0 / CC BY 4.0).
Command:

    python experiments/benchmarks/extrapolation.py FOLDER/learning_curves
"""

import sys
import time
from pathlib import Path

import pandas as pd

from scaling.laws.curves.extrapolation import extrapolate


def main(folder: Path) -> None:
    table = pd.read_csv(folder / "curves.csv")
    start = time.perf_counter()
    result = extrapolate(table, "Seen Examples", "Loss", "Training", ("Domain", "Task", "Model"))
    seconds = time.perf_counter() - start
    ours = result.curves.groupby("Domain")[["rmsle", "coverage"]].mean()
    ours["median"] = result.curves.groupby("Domain")["rmsle"].median()
    ours["curves"] = result.curves.groupby("Domain").size()
    official = pd.read_csv(folder / "official_rmsle.csv").pivot_table(
        index="domain", columns="mode", values="rmsle"
    )
    print(ours.join(official.add_prefix("authors' ")).round(5).to_string())
    print(
        f"{result.curves['converged'].mean():.0%} of the fits converged; "
        f"{seconds / len(result.curves):.2f} s a curve"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
