"""Are cooldowns off one trunk as good as runs of their own? Warm-up, stable, decay against cosine
schedules of the same lengths.

Shows:    the held-out loss of every duration of a study at several peak learning rates, once as a
          run whose rate is held and then decays, as the cooldowns that the study branches off its
          trunk, once as one whose rate falls to zero along a cosine (Loshchilov and Hutter 2017).
          Cosine runs are free to take another rate for each duration; the cooldowns share a trunk,
          so they share its rate
Command:  python experiments/wsd_cosine.py [EXPERIMENT=experiments/quickstart.py] [SIZE=xs]
          [RUNS=runs]
Costs:    the study's longest pretraining of that size about fourteen times over: ten minutes on two
          CPU cores for the quickstart, and the preparation of the data; run again, it goes on where
          it was
Ends in:  RUNS/STUDY/wsd_cosine.csv, a sentence, and a figure in the study's report
          (`scaling report EXPERIMENT`)
"""

import math
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console

from scaling.engines.local import run_plan
from scaling.engines.run_step import study_cache
from scaling.engines.sweep import SweptRun, run_sweep
from scaling.processes.malloc import keep_freed_memory
from scaling.report.tuning import compared
from scaling.runs.experiment import load_study
from scaling.runs.plan import make_plan
from scaling.runs.steps import PretrainStep

FACTORS = (0.5, 1, 2, 4)


def cosine(config: PretrainStep, step: int) -> float:
    """The learning rate after warm-up: half a cosine down to zero."""
    warmup, end = (
        samples // config.pretrain.batch for samples in (config.pretrain.warmup, config.end)
    )
    return (
        config.pretrain.learning_rate
        * (1 + math.cos(math.pi * max(0, step - warmup) / (end - warmup)))
        / 2
    )


def main(
    experiment: str = "experiments/quickstart.py", size: str = "xs", out: str = "runs"
) -> None:
    """Prepare the study's data, run what is missing of both schedules, and compare each at its
    best.
    """
    keep_freed_memory()
    study, console = load_study(Path(experiment)), Console()
    plan = make_plan(
        replace(study, sizes=(size,), families=study.families[:1], objectives=study.objectives[:1])
    )
    folder = Path(out) / study.name
    if failures := run_plan(
        folder,
        plan,
        console,
        [step.name for step in plan.steps if step.kind in ("phantom", "prepare")],
    ):
        raise SystemExit(failures[0])
    # What a cooldown takes beyond the trunk, and the first one the trunk as well.
    steps = {step.name: step for step in plan.steps}
    branched = [step for step in plan.steps if step.kind == "cooldown"]
    trunks = {step.needs[0]: step.name for step in reversed(branched)}
    spent = {
        step.name: step.samples
        + (steps[step.needs[0]].samples if trunks[step.needs[0]] == step.name else 0)
        for step in branched
    }
    runs: list[SweptRun] = []
    for step in branched:
        config = step.config
        assert isinstance(config, PretrainStep)
        for factor in FACTORS:
            rate = factor * config.pretrain.learning_rate
            held = replace(config, pretrain=replace(config.pretrain, learning_rate=rate))
            falling = replace(held, decay_from=None)
            run = {"size": config.size, "duration": config.end, "seed": config.seed}
            runs.append(
                (run | {"schedule": "wsd", "rate": rate, "samples": spent[step.name]}, held, None)
            )
            runs.append(
                (
                    run | {"schedule": "cosine", "rate": rate, "samples": config.end},
                    falling,
                    partial(cosine, falling),
                )
            )
    swept = run_sweep(
        folder / "wsd_cosine.csv", runs, study_cache(folder), "rate x schedule x duration", console
    )
    console.print(compared(swept))


if __name__ == "__main__":
    main(*sys.argv[1:])
