"""The OLMo ladder (Bhagia et al. 2024, arXiv 2412.04403): task losses of a 13B model foretold
from sixteen runs of at most 1.3B.

Shows: the published step-1 predictions (bits per byte on the right answers), the same procedure
again with SciPy, the optimum of the same objective by our engine, and the prediction of our
averaged surfaces with its 90 % interval, beside what the 13B model reached. Costs: about a
minute. Needs `olmo_ladder/` (allenai/OLMo-ladder, Apache-2.0). Command:

    python experiments/benchmarks/olmo_ladder.py FOLDER/olmo_ladder
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import minimize

from scaling.laws import fit
from scaling.laws.arrays import FloatArray
from scaling.laws.curves.forms import CHINCHILLA
from scaling.laws.curves.losses import huber
from scaling.laws.curves.newton import fit_batch

TARGET = "13B-5T"


def ladder(folder: Path, task: str) -> pd.DataFrame:
    """One row per run: N, D (tokens), loss (mean of the last five evaluations), mode (train or
    eval), label."""
    column = f"eval/downstream_bpb/{task.removesuffix('_5shot')}_rc_5shot_bpb"
    rows = []
    for label, size in json.loads((folder / "published" / "final.json").read_text()).items():
        if size["mode"] == "eval" and label != TARGET:
            continue
        for path in size["paths"]:
            log = pd.read_csv(folder / "ladder-runs" / Path(path).name)
            tokens = log["_step"].iloc[-1] * log["batch_size_in_tokens"].iloc[-1]
            rows.append(
                (size["n"], tokens, log[column].dropna().tail(5).mean(), size["mode"], label)
            )
    return pd.DataFrame(rows, columns=["N", "D", "loss", "mode", "label"])


def published_procedure(runs: pd.DataFrame, target: pd.DataFrame) -> float:
    """L = e^a / N^alpha + e^b / D^beta + E by L-BFGS-B from the published start; sum of Huber
    losses (delta 0.001) of log ratios."""
    N, D, loss = (runs[c].to_numpy(float) for c in ("N", "D", "loss"))

    def value(p: FloatArray, n: FloatArray, d: FloatArray) -> FloatArray:
        return np.asarray(np.exp(p[0]) / n ** p[2] + np.exp(p[1]) / d ** p[3] + p[4])

    def objective(p: FloatArray) -> tuple[float, FloatArray]:
        first, second = np.exp(p[0]) / N ** p[2], np.exp(p[1]) / D ** p[3]
        model = first + second + p[4]
        r = np.log(model) - np.log(loss)
        psi = np.clip(r, -1e-3, 1e-3)
        slopes = (
            np.stack([first, second, -first * np.log(N), -second * np.log(D), np.ones_like(N)])
            / model
        )
        return float((psi * (r - psi / 2)).sum()), slopes @ psi

    options = {"ftol": 0, "gtol": 1e-10, "maxiter": 10_000, "maxfun": 10_000}
    found = minimize(
        objective,
        [3, 6, 0.1, 0.2, 1],
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None)] * 5,
        options=options,
    )
    return float(value(found.x, target["N"].to_numpy(float), target["D"].to_numpy(float))[0])


def global_optimum(runs: pd.DataFrame, target: pd.DataFrame) -> float:
    """The same objective by our engine from 50 global starts."""
    log_x = np.log(runs[["N", "D"]].to_numpy(float).T)
    centre = log_x.mean(1, keepdims=True)
    y = np.log(runs["loss"].to_numpy(float))
    best = fit_batch(CHINCHILLA, log_x - centre, y, np.ones((1, len(y))), huber(1e-3), starts=50)
    at = np.log(target[["N", "D"]].to_numpy(float).T) - centre
    return float(np.exp(CHINCHILLA.jet(best.theta.T, at).value[0, 0]))


def predictions(folder: Path) -> pd.DataFrame:
    published = pd.read_csv(folder / "published" / "step1_main.csv").set_index("Task")
    rows = []
    for task in published.index[~published.index.str.startswith("mmlu")]:  # that one averages many
        table = ladder(folder, task)
        runs, target = table[table["mode"] == "train"], table[table["label"] == TARGET]
        curve = fit(runs, ("N", "D"), "loss", bounds=None, lower_is_better=True)
        mean, low, high = curve.predict(target[["N", "D"]].to_numpy(float), new_run=True)
        p = published.loc[task]
        again, best = published_procedure(runs, target), global_optimum(runs, target)
        rows.append(
            (
                task,
                p["Actual"],
                target["loss"].iloc[0],
                p["Pred"],
                again,
                best,
                mean[0],
                low[0],
                high[0],
            )
        )
    names = [
        "task",
        "actual",
        "actual here",
        "published",
        "again",
        "optimum",
        "ours",
        "low",
        "high",
    ]
    return pd.DataFrame(rows, columns=names)


def main(folder: Path) -> None:
    table = predictions(folder)
    print(table.round(5).to_string(index=False))
    for name in ("published", "optimum", "ours"):
        print(f"{name}: mean relative error {(table[name] / table['actual'] - 1).abs().mean():.2%}")
    covered = ((table["low"] <= table["actual"]) & (table["actual"] <= table["high"])).sum()
    print(f"the actual loss lies in our 90 % interval for {covered} of {len(table)} tasks")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
