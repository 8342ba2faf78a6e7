"""How long `plan`, `status`, `collect` and `report` take on a study of thousands of runs.

Shows: CPU seconds and peak memory of each verb on a finished study of 2,000 pretraining runs,
13,000 steps in all, whose folders hold made-up results, and of resuming a run with a million lines
of metrics. Costs: some minutes, 2 GB of disk. Ends in: a table on the terminal.

    python experiments/benchmarks/many_runs.py FOLDER
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from scaling.files import write_json
from scaling.runs.drift import resolved
from scaling.runs.experiment import load_study
from scaling.runs.plan import Plan, make_plan
from scaling.runs.rundir import finish, provenance
from scaling.runs.steps import PretrainStep, Step, TransferStep

EXPERIMENT = """
from dataclasses import replace
from pathlib import Path
import importlib.util
spec = importlib.util.spec_from_file_location("micro", {micro!r})
micro = importlib.util.module_from_spec(spec)
spec.loader.exec_module(micro)
first = micro.study.tasks[0]
study = replace(
    micro.study,
    name="many",
    sizes=("xxs", "xs", "s", "m"),
    durations=tuple(160 * (n + 1) for n in range(10)),
    seeds=tuple(range(50)),
    tasks=(*micro.study.tasks, replace(first, name="infarct-again")),
)
"""
CASES, SITES = 12, ("finetuning", "far-1t", "far-3t")
METRICS = {
    "classification": ("auroc",),
    "segmentation": ("dice", "nsd"),
    "regression": ("mae", "pearson"),
}


def main() -> None:
    """Make the folders, run each verb in a process of its own, print its seconds and memory."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    micro = Path(__file__).parents[2] / "tests/micro_study.py"
    experiment = folder / "many.py"
    experiment.write_text(EXPERIMENT.format(micro=str(micro)))
    study_dir = folder / "runs/many"
    plan = make_plan(load_study(experiment))
    print(f"{len(plan.steps)} steps", flush=True)
    if not (study_dir / "report/config.json").exists():
        make_folders(study_dir, plan)
    for verb in ("plan", "status", "collect", "report", "status"):
        measure(folder, verb, experiment)
    measure_resume(folder / "metrics.jsonl")


def make_folders(study_dir: Path, plan: Plan) -> None:
    """Folders as a finished study has them, but without checkpoints."""
    random = np.random.default_rng(0)
    facts = provenance("test")
    for step in plan.steps:
        if step.kind in ("collect", "report"):
            write_json(study_dir / step.name / "config.json", resolved(step))
            continue
        folder = study_dir / step.name
        folder.mkdir(parents=True, exist_ok=True)
        write_fast(folder / "config.json", resolved(step))
        write_fast(folder / "provenance.json", facts)
        if isinstance(step.config, PretrainStep):
            write_run(folder, step)
        if isinstance(step.config, TransferStep):
            write_results(folder, step.config, random)
        finish(folder, step, 1.0)


def write_fast(file: Path, value: object) -> None:
    """Write JSON without waiting for the disk."""
    file.write_text(json.dumps(value))


def write_run(folder: Path, step: Step) -> None:
    """What a pretraining run leaves beside its checkpoints."""
    rows = [{"step": n, "samples": 8 * n, "loss": 1.0 / (n + 1)} for n in range(20)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    numbers = ("heldout_loss", "embedding_rank", "embedding_std", "flops", "seconds")
    summary = dict.fromkeys((*numbers, "samples_per_second", "input_wait"), 1.0)
    write_fast(folder / "summary.json", {**summary, "warnings": []})


def write_results(folder: Path, config: TransferStep, random: np.random.Generator) -> None:
    """Tables as a transfer writes them, with values that mean nothing."""
    keys = [
        {"protocol": protocol, "shots": config.task.shots[0], "draw": draw, "rate": 1e-3}
        for protocol in ("probe", "finetune")
        for draw in range(config.task.draws)
    ]
    predictions, results = [], []
    for key in keys:
        for case in range(CASES):
            site = SITES[case % len(SITES)]
            label = float(case // len(SITES) % 2)
            row = {**key, "case": f"case{case}", "site": site, "domain": domain(site)}
            row |= {"label": label, "prediction": float(random.random())}
            if config.task.kind == "segmentation":
                row |= {"dice": float(random.random()), "nsd": float(random.random())}
            if config.task.kind == "regression":
                row |= {"mae": float(random.random())}
            predictions.append(row)
        for site in SITES:
            for metric in METRICS[config.task.kind]:
                value = float(random.random())
                row = {**key, "site": site, "domain": domain(site), "metric": metric}
                results.append({**row, "value": value, "cases": CASES // len(SITES)})
    pd.DataFrame(predictions).to_parquet(folder / "predictions.parquet", index=False)
    pd.DataFrame(results).to_parquet(folder / "results.parquet", index=False)
    write_fast(folder / "dropped.json", [])


def domain(site: str) -> str:
    """Whether a site is that of fine-tuning."""
    return "in" if site == "finetuning" else "out"


def measure(folder: Path, verb: str, experiment: Path) -> None:
    """Print CPU seconds (user and system) and peak memory of a verb."""
    command = [sys.executable, "-m", "scaling", verb, str(experiment.resolve())]
    log = folder / f"{verb}.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    last = log.read_text().strip().splitlines()[-1:] if code else ""
    print(
        f"{verb:8} {usage.ru_utime + usage.ru_stime:7.1f} CPU seconds, "
        f"{usage.ru_maxrss / 1e6:.2f} GB, code {code} {last}",
        flush=True,
    )


def measure_resume(file: Path) -> None:
    """Print seconds and memory of resuming a run of a million lines, and of one bad line in it."""
    with file.open("w") as lines:
        for step in range(1_000_000):
            row = {"step": step, "samples": 8 * step, "loss": 0.5, "learning_rate": 1e-3}
            lines.write(json.dumps(row) + "\n")
    code = (
        "import resource, sys, time; from pathlib import Path\n"
        "from scaling.tracking.tracker import keep_rows_before\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "began = time.perf_counter()\n"
        "keep_rows_before(Path(sys.argv[1]), 999_500)\n"
        "after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(f'resume   {time.perf_counter() - began:7.3f} s, {(after - before) / 1e3:.0f} MB')"
    )
    subprocess.run([sys.executable, "-c", code, str(file)], check=True)


if __name__ == "__main__":
    main()
