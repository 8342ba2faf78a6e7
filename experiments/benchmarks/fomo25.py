"""The published leaderboards of the FOMO25 challenge ranked again, and two of its findings counted.

Shows: the overall ranks of both tracks against those published; finding (a), how many of the
       paper's 19 models beat the supervised
baselines, per metric; finding (b), how a model's ranks on two tasks differ by its pretraining
objective, where that is known.
Costs: a second. Needs the leaderboards and the table of models, which are not ours to
       redistribute. Command:

    python experiments/benchmarks/fomo25.py FOLDER
"""

import sys
from pathlib import Path

import pandas as pd

from scaling.laws.verdicts.rankings import RankedMetric, better_than, rank, rank_differences

METRICS = (
    RankedMetric("infarct", "t1_auroc", False),
    RankedMetric("meningioma", "t2_dice", False),
    RankedMetric("meningioma", "t2_nsd", False),
    RankedMetric("brain age", "t3_corr", False),
    RankedMetric("brain age", "t3_mae", True),
)
ONE_PER_TASK = (METRICS[0], METRICS[1], METRICS[4])
SUPERVISED = ["Supervised-OOD", "Supervised-ID"]
WITHDRAWN = "FARM"  # ranked on the challenge's site, left out of the paper


def main(folder: Path) -> None:
    tracks = {name: pd.read_csv(folder / f"leaderboard_{name}.csv") for name in ("method", "open")}
    entries = pd.concat(
        [table[table["track"] == name] for name, table in tracks.items()], ignore_index=True
    )
    for name, of_track in entries.groupby("track"):
        ours = rank(of_track, "team", METRICS).table.set_index("model")["overall"]
        published = of_track.set_index("team")["overall_rank_website"]
        off = (ours - published).abs()
        print(
            f"{name} track: {len(ours)} models, {int((off < 0.06).sum())} as published, "
            f"largest difference {off.max():.2f}"
        )

    models = entries[entries["team"] != WITHDRAWN].assign(
        team=lambda t: t["track"] + ": " + t["team"]
    )
    controls = tracks["method"][tracks["method"]["team"].isin(SUPERVISED)]
    print("\nFinding (a): models better than the supervised baselines, out of and in domain")
    print(
        better_than(pd.concat([models, controls]), "team", ONE_PER_TASK, SUPERVISED)
        .round(3)
        .to_string(index=False)
    )

    known = pd.read_csv(folder / "models.csv").assign(team=lambda t: t["track"] + ": " + t["team"])
    known = known[known["objective_category"].isin(["local", "global", "hybrid"])]
    objective = dict(zip(known["team"], known["objective_category"], strict=True))
    together = rank(models, "team", METRICS)
    print(
        "\nFinding (b): rank on a task less rank on another (negative: better on the first), "
        "by objective, 90 % interval over models"
    )
    print(rank_differences(together, objective).round(2).to_string(index=False))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
