"""Others' numbers, our engine: what would the verdict have said from the smaller sizes, and was it
right at the next one?

Shows: per public grid (language models of Gadre et al. 2024 and of the OLMo ladder, LAION's CLIP
models, brain-MRI encoders of smri-fm, the models of FOMO25) the verdict on size from the sizes up
to one of them, against what the next size then did, as a table of hits and misses; and for losses
the forecast of the next size. A hit: "improves" and the next size is better by more than the
smallest effect, "no worthwhile improvement" and it is not, "improves, slightly" and it is better by
anything, "harms" and it is worse. An undetermined verdict claims nothing. Costs: three minutes on
one core. Needs `laws/` (downstream_tasks,
olmo_ladder), a table of CLIP models (C, acc1), `smri_fm.csv` and FOMO25's leaderboards. Command:

    python experiments/benchmarks/next_size.py LAWS CLIP.csv SMRI_FM.csv FOMO25
"""

import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parent))
from olmo_ladder import ladder

from scaling.laws import fit, verdict
from scaling.laws.verdicts.published import published_verdict

SMALLEST = 0.02
"""Of an accuracy, absolute; of a loss, a share of its value."""
OUTCOMES = ("better", "no worthwhile change", "worse")


def steps(
    runs: pd.DataFrame, metric: str, lower: bool, relative: bool
) -> Iterator[tuple[float, float, str, float]]:
    """Largest size kept, next size, verdict on size from those kept, gain of the next size.

    `runs` with size, duration, value, run and perhaps block; the gain (positive is better) is that
    over the durations and blocks that both sizes have, a share of the value if `relative`."""
    sizes = sorted(runs["size"].unique())
    cell = [column for column in ("duration", "block") if column in runs]
    for last, following in pairwise(sizes[1:]):
        before = runs[runs["size"] <= last]
        try:
            judged = verdict(
                before,
                task="",
                metric=metric,
                smallest_effect=SMALLEST,
                relative=relative,
                lower_is_better=lower,
            )
            decision = judged.effect("size").decision
        except (ValueError, StopIteration):
            decision = "undetermined"
        here, there = (
            runs[runs["size"] == size].groupby(cell)["value"].mean() for size in (last, following)
        )
        shared = here.index.intersection(there.index)
        if len(shared) == 0:
            continue
        gain = float((there[shared] - here[shared]).mean()) * (-1 if lower else 1)
        if relative:
            gain /= float(here[shared].mean())
        yield last, following, decision, gain


def outcome(gain: float) -> str:
    """What the next size did, against the smallest effect."""
    if abs(gain) <= SMALLEST:
        return OUTCOMES[1]
    return OUTCOMES[0] if gain > 0 else OUTCOMES[2]


def language_tasks(folder: Path) -> pd.DataFrame:
    """Accuracies of 104 language models; a training set is a block."""
    models = pd.read_csv(folder / "downstream_tasks" / "gadre2024_models_losses_accuracies.csv")
    labels = pd.read_csv(folder / "downstream_tasks" / "labels.csv")
    rows = []
    for task, category in labels.itertuples(index=False):
        runs = pd.DataFrame(
            {
                "size": models["N"],
                "duration": models["chinchilla_multiplier"],
                "block": models["train_dataset"],
                "run": models["name"],
                "value": models[f"acc_{task}"],
            }
        ).dropna()
        for last, following, decision, gain in steps(runs, "accuracy", False, False):
            rows.append((f"language, {category}", task, last, following, decision, gain))
    return _table(rows)


def ladder_tasks(folder: Path) -> pd.DataFrame:
    """Bits per byte of the OLMo ladder."""
    rows = []
    for task in _ladder_tasks(folder):
        runs = _ladder_runs(folder, task)
        for last, following, decision, gain in steps(runs, "loss", True, True):
            rows.append(("OLMo ladder, loss", task, last, following, decision, gain))
    return _table(rows)


def clip_models(file: Path) -> pd.DataFrame:
    """CLIP models on the Pareto front of compute, a run a budget, judged up to three budgets."""
    models = pd.read_csv(file).rename(columns={"C": "size", "acc1": "value"})
    rows = []
    for last in (1e9, 1e10, 1e11):
        before, after = models[models["size"] <= last], models[models["size"] > last]
        judged = verdict(before, task="", metric="acc1", smallest_effect=SMALLEST)
        following = after[after["size"] <= 10 * last].iloc[-1]
        gain = float(following["value"] - before["value"].max())
        rows.append(("CLIP, tenfold compute", "", last, following["size"], judged.decision, gain))
    return _table(rows)


def _table(rows: list[tuple[str, str, float, float, str, float]]) -> pd.DataFrame:
    names = ["grid", "task", "up to", "next", "verdict", "gain"]
    table = pd.DataFrame(rows, columns=names)
    return table.assign(outcome=[outcome(gain) for gain in table["gain"]])


def counted(table: pd.DataFrame) -> pd.DataFrame:
    """Verdicts against outcomes, per grid."""
    return pd.crosstab([table["grid"], table["verdict"]], table["outcome"]).reindex(
        columns=list(OUTCOMES), fill_value=0
    )


def is_hit(decision: str, gain: float) -> bool:
    """Whether what was claimed is what the next size did."""
    right = {
        "improves": gain > SMALLEST,
        "improves, slightly": gain > 0,
        "no worthwhile improvement": gain <= SMALLEST,
        "harms": gain < 0,
    }
    return right[decision]


def hits(table: pd.DataFrame) -> str:
    """How many verdicts were hits, misses, and without a claim."""
    claims = table[table["verdict"] != "undetermined"]
    right = sum(
        is_hit(decision, gain)
        for decision, gain in claims[["verdict", "gain"]].itertuples(index=False)
    )
    silent = len(table) - len(claims)
    return f"{right} hits, {len(claims) - right} misses, {silent} without a claim"


def forecasts(folder: Path) -> pd.DataFrame:
    """The loss of the largest size of the ladder, foretold by the surface of the smaller ones."""
    rows = []
    for task in _ladder_tasks(folder):
        runs = _ladder_runs(folder, task)
        largest = runs["size"].max()
        before, after = runs[runs["size"] < largest], runs[runs["size"] == largest]
        axes = ("size", "duration")
        curve = fit(before, axes, "value", bounds=None, lower_is_better=True, resamples=100)
        mean, low, high = curve.predict(after[list(axes)].to_numpy(float), new_run=True)
        value = after["value"].to_numpy(float)
        last = before[before["size"] == before["size"].max()].groupby("duration")["value"].mean()
        no_change = last.reindex(after["duration"]).to_numpy(float)
        rows.append(
            (
                task,
                float(np.abs(mean / value - 1).mean()),
                float(np.nanmean(np.abs(no_change / value - 1))),
                float(((low <= value) & (value <= high)).mean()),
            )
        )
    return pd.DataFrame(rows, columns=["task", "error", "error of no change", "covered"])


def _ladder_tasks(folder: Path) -> list[str]:
    published = pd.read_csv(folder / "olmo_ladder" / "published" / "step1_main.csv")["Task"]
    return [task for task in published if not task.startswith("mmlu")]


def _ladder_runs(folder: Path, task: str) -> pd.DataFrame:
    """Runs of the ladder with their duration in multiples of 20 tokens a parameter."""
    table = ladder(folder / "olmo_ladder", task)
    table = table[table["mode"] == "train"]
    multiple = (table["D"] / (20 * table["N"])).map(lambda m: float(f"{m:.1g}"))
    return pd.DataFrame(
        {
            "size": table["N"].to_numpy(float),
            "duration": multiple.to_numpy(float),
            "run": np.arange(len(table)),
            "value": table["loss"].to_numpy(float),
        }
    )


def brain_encoders(file: Path) -> list[str]:
    """What the verdict says of smri-fm's grid from either of its smaller levels alone."""
    table = pd.read_csv(file)
    grid = table[table["backbone"].notna() & table["subjects"].notna()]
    lines = []
    for axis, other in (("backbone", "subjects"), ("subjects", "backbone")):
        for level, part in grid.groupby(other, sort=False):
            for step in published_verdict(part, (axis,)).steps:
                lines.append(f"{other} {level}: {step.sentence}")
    return lines


def challenge_models(folder: Path) -> list[str]:
    """FOMO25: the verdict on size over the models of stated size below 80 M parameters, and by how
    much the larger ones differ from the largest of these."""
    models = pd.read_csv(folder / "models.csv")
    models = models[models["encoder_params_M"].notna()]
    lines = []
    for column, metric in (("t1_auroc", "auroc"), ("t2_dice", "dice"), ("t3_mae", "mae")):
        runs = pd.DataFrame(
            {"size": models["encoder_params_M"], "value": models[column], "run": models["team"]}
        )
        before, after = runs[runs["size"] < 80], runs[runs["size"] >= 80]
        judged = verdict(before, task=column, metric=metric)
        largest = before.loc[before["size"].idxmax(), "value"]
        change = float(after["value"].mean() - largest)
        lines.append(
            f"FOMO25 {column}, {len(before)} models below 80 M: {judged.decision} "
            f"({judged.effects[0].estimate:+.3f}); {len(after)} larger ones differ by {change:+.3f}"
        )
    return lines


def main(laws: Path, clip: Path, smri: Path, fomo25: Path) -> None:
    tables = [language_tasks(laws), ladder_tasks(laws), clip_models(clip)]
    for table in tables:
        print(table.round(3).to_string(index=False))
    together = pd.concat(tables)
    print(counted(together).to_string())
    for name, table in together.groupby(together["grid"].str.split(",").str[0], sort=False):
        print(f"{name}: {hits(table)}")
    print(f"all: {hits(together)}")
    print(forecasts(laws).round(4).to_string(index=False))
    print("\n".join(brain_encoders(smri)))
    print("\n".join(challenge_models(fomo25)))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:5]))
