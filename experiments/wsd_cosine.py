"""Are cooldowns off one trunk as good as runs of their own? Warm-up, stable, decay against cosine schedules of the same lengths.

Shows:    the held-out loss of every duration of a study, once as the cooldown that the study branches off its trunk, once as a run from
          scratch whose rate falls to zero along a cosine (Loshchilov and Hutter 2017), of the same rate; and what either way takes
Command:  python experiments/wsd_cosine.py [EXPERIMENT=experiments/quickstart.py] [SIZE=xs] [RUNS=runs]
Costs:    the study's pretraining of that size, as far as it is not done, and half as much again for the cosine runs: six minutes on two
          CPU cores, and the preparation of the data; run again, it goes on where it was
Ends in:  RUNS/STUDY/wsd_cosine.csv, a sentence, and a figure in the study's report (`scaling report EXPERIMENT`)
"""

import math
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.progress import Progress, TaskID

from scaling.data.files import write_table
from scaling.engines.local import run_plan
from scaling.engines.memory import keep_freed_memory
from scaling.engines.step import study_cache
from scaling.report.tuning import compared
from scaling.study.experiment import load_study
from scaling.study.plan import PretrainStep, Step, make_plan
from scaling.study.rundir import read_json
from scaling.training.sweep import loss_after


def cosine(config: PretrainStep, step: int) -> float:
    """The learning rate after warm-up: half a cosine down to zero."""
    warmup, end = (samples // config.pretrain.batch for samples in (config.pretrain.warmup, config.end))
    return config.pretrain.learning_rate * (1 + math.cos(math.pi * max(0, step - warmup) / (end - warmup))) / 2


def row(step: Step, schedule: str, samples: int, loss: float) -> dict[str, object]:
    """One row of the table: a run of one duration, the samples it was trained on beyond those it shares, and its held-out loss."""
    config = step.config
    assert isinstance(config, PretrainStep)
    run = {"size": config.size, "duration": config.end, "seed": config.seed}
    return run | {"schedule": schedule, "samples": samples, "loss": loss}


def show(progress: Progress, bar: TaskID, done: float, total: float) -> None:
    """Move a bar."""
    progress.update(bar, completed=done, total=total)


def main(experiment: str = "experiments/quickstart.py", size: str = "xs", out: str = "runs") -> None:
    """Run the study's pretraining of one size and what is missing of the cosine runs; compare."""
    keep_freed_memory()
    study, console = load_study(Path(experiment)), Console()
    plan = make_plan(replace(study, sizes=(size,), families=study.families[:1], objectives=study.objectives[:1]))
    folder = Path(out) / study.name
    needed = [step for step in plan.steps if step.kind in ("phantom", "prepare", "trunk", "cooldown")]
    if failures := run_plan(folder, plan, console, [step.name for step in needed]):
        raise SystemExit(failures[0])
    cooldowns = [step for step in needed if step.kind == "cooldown"]
    spent = {step.name: step.samples for step in needed}
    table = folder / "wsd_cosine.csv"
    before = pd.read_csv(table) if table.exists() else pd.DataFrame(columns=["size", "duration", "seed", "schedule"])
    rows = before[(before["size"] != size) | (before["schedule"] == "cosine")].to_dict("records")
    for step in cooldowns:
        samples = spent[step.name] + spent[step.needs[0]]
        rows.append(row(step, "wsd", samples, read_json(folder / step.name / "summary.json")["heldout_loss"]))
    done = {(r["size"], r["duration"], r["seed"]) for r in rows if r["schedule"] == "cosine"}
    cache = study_cache(folder)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        for step in cooldowns:
            config = step.config
            assert isinstance(config, PretrainStep)
            if (config.size, config.end, config.seed) in done:
                continue
            bar = progress.add_task(f"cosine, {config.end} samples")
            advance, peak = partial(show, progress, bar), partial(cosine, config)
            loss = loss_after(replace(config, decay_from=None), cache, advance, peak)
            rows.append(row(step, "cosine", config.end, loss))
            write_table(pd.DataFrame(rows), table)
    write_table(pd.DataFrame(rows), table)
    console.print(compared(pd.DataFrame(rows)))


if __name__ == "__main__":
    main(*sys.argv[1:])
