"""Is the verdict's error rate what it says? Type-I error, interval coverage and power on
simulated studies of known truth.

Shows: per setting (which noise dominates, seeds, test cases, cells) how often a study without any
effect is claimed to improve (nominal 5 %), how often the 90 % interval holds the truth, and the
power. Costs: about five minutes on one core with the defaults; a file given as second argument
keeps finished settings, so that the run can be interrupted and resumed. Command:

    python experiments/benchmarks/simulation.py [STUDIES=2000] [FILE]
"""

import json
import sys
from itertools import product
from pathlib import Path

import pandas as pd

from scaling.laws.verdicts.power import operating_characteristics
from scaling.laws.verdicts.simulate import Grid, Noise

NOISES = {
    "runs": Noise(run=0.03, case=0.2, case_effect=0.02, run_case=0.1),
    "cases": Noise(run=0.003, case=0.3, case_effect=0.15, run_case=0.1),
}
GRIDS = {
    "3x3": ((1e6, 4e6, 16e6), (1e4, 2e4, 4e4), False),
    "5x4": ((1e6, 4e6, 16e6, 64e6, 256e6), (1e4, 2e4, 4e4, 8e4), False),
    "4x3 trunks": ((1e6, 4e6, 16e6, 64e6), (1e4, 2e4, 4e4), True),
}
SMALLEST, EFFECT = 0.02, 0.06


def main(studies: int, file: Path | None) -> None:
    done = json.loads(file.read_text()) if file and file.exists() else {}
    for name, seeds, cases, shape in product(NOISES, (1, 3), (50, 200), GRIDS):
        key = f"{name}, {seeds} seeds, {cases} cases, {shape}"
        if key in done:
            continue
        sizes, durations, shared = GRIDS[shape]
        grid = Grid(sizes, durations, seeds, cases, shared_trunks=shared)
        noise = (
            NOISES[name]
            if not shared
            else Noise(**{**vars(NOISES[name]), "trunk": NOISES[name].run})
        )
        null = operating_characteristics(grid, noise, 0.0, SMALLEST, studies, seed=1)
        real = operating_characteristics(grid, noise, EFFECT, SMALLEST, studies, seed=2)
        done[key] = {
            "dominant": name,
            "seeds": seeds,
            "cases": cases,
            "cells": shape,
            "type I": null.claims,
            "coverage (null)": null.coverage,
            f"coverage ({EFFECT})": real.coverage,
            "power: any": real.claims,
            "power: worthwhile": real.decisions.get("improves", 0.0),
            "half width": real.half_width,
        }
        print(key, json.dumps(done[key]), flush=True)
        if file:
            file.write_text(json.dumps(done, indent=1))
    table = pd.DataFrame(done.values())
    print(table.round(3).to_string(index=False))
    print(table[["type I", "coverage (null)"]].agg(["min", "max", "mean"]).round(4).to_string())


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 2000,
        Path(sys.argv[2]) if len(sys.argv) > 2 else None,
    )
