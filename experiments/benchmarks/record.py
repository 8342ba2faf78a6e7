"""What the software computes, written down, so that two versions of it can be compared.

Shows:    losses and gradients of every objective on every backbone, on one device and on eight;
          every number of the plans of all experiments; tables, verdicts and findings of two small
          studies run from the command line; what the verbs on tables say; how wrong input is
          refused.
Costs:    about a quarter of an hour on two quiet cores.
Commands: python experiments/benchmarks/record.py OUT.json [--only PART] [--published FOLDER]
          python experiments/benchmarks/record.py --compare BEFORE.json AFTER.json [--renames FILE]

PART is training, plans, study, laws or exit_codes; the other parts of OUT.json are then kept.
FOLDER holds the published tables that the other benchmarks read, which are not ours to
redistribute; what is not there is left out. FILE is a JSON object of old names and new ones: the
old are replaced in BEFORE.json as whole words, in keys and in texts. Numbers may differ by a
millionth. The exit code is 1 if anything differs.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import html
import json
import math
import os
import re
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

# Read by jax when a part first imports it. Most of the time is compilation, most of that LLVM's
# optimisation: left out.
UNOPTIMISED = "--xla_backend_optimization_level=0"
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count=8 {UNOPTIMISED}"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["WANDB_MODE"] = "disabled"

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "scaling"
EXPERIMENTS = ROOT / "experiments"
MICRO = ROOT / "tests" / "micro_study.py"

# The code beside this file is recorded, whichever is installed.
sys.path.insert(0, str(ROOT))

RELATIVE, ABSOLUTE = 1e-6, 1e-12
DIGITS = 9  # of the numbers in tables


# ---- training: objectives x backbones ---------------------------------------------------------

CROP, BATCH, STEPS = (16, 16, 16), 16, 3
MESHES = {"1 device": (1, 1, 1), "8 devices": (2, 4, 1)}


def training(published: Path | None) -> dict[str, Any]:
    """Parameters, losses and gradient norms of a few steps of every program."""
    from scaling.study.config import Mae, ResEnc, UNet, ViT
    from scaling.study.objectives import Contrastive, CrossSequence, Hybrid, Momentum

    families = (ViT(), UNet(levels=3), ResEnc(levels=3))
    objectives = (Mae(), Contrastive(), Momentum(), Hybrid(), CrossSequence())
    found: dict[str, Any] = {}
    for family in families:
        for objective in objectives:
            name = f"{objective.label} {family.label}"
            found[name] = {
                mesh: trained(objective, family, shape) for mesh, shape in MESHES.items()
            }
    blocks = Mae(name="blocks", mask_ratio=0.5, block=2, loss_on="all", normalise_targets=False)
    bare = UNet(levels=3, skips=False)
    learned = Contrastive(learned_temperature=True, positives="sequences")
    found["variants"] = {
        "blocks of patches": trained(blocks, ViT(patch=4), (1, 1, 1)),
        "no skips": trained(Mae(), bare, (1, 1, 1)),
        "learned temperature": trained(learned, ViT(), (1, 1, 1)),
        "standard parametrisation": trained(
            Mae(), ViT(), (1, 1, 1), {"parametrisation": "standard"}
        ),
        "all augmentations": trained(Mae(), ViT(), (1, 1, 1), {"augment": "all"}),
        "half precision": trained(Mae(), ViT(), (1, 1, 1), {"dtype": "bfloat16"}),
        "blocks computed again": trained(Mae(), ViT(), (1, 1, 1), {"remat": "blocks"}),
        "dots computed again": trained(Mae(), UNet(levels=3), (1, 1, 1), {"remat": "dots"}),
        "accumulated": trained(Mae(), ViT(), (1, 1, 1), accumulate=4),
        "heads shared out": trained(Mae(), ViT(decoder_width=128), (2, 2, 2), size="s"),
    }
    return found


def trained(
    objective: Any,
    family: Any,
    shape: tuple[int, int, int],
    recipe: dict[str, Any] | None = None,
    accumulate: int = 1,
    size: str = "xxs",
) -> dict[str, Any]:
    """One program on one mesh: its initial parameters, the metrics of each step, where it ends."""
    import jax

    from scaling.study.config import Pretrain
    from scaling.study.ladder import resolve_decoder, resolve_encoder
    from scaling.training.mesh import global_batch, make_mesh
    from scaling.training.program import pretraining_program

    pretrain = Pretrain(**{"crop": CROP, "batch": BATCH, "warmup": 2 * BATCH, **(recipe or {})})
    encoder = resolve_encoder(family, size, pretrain.parametrisation)
    mesh = make_mesh(*shape)
    program = pretraining_program(
        objective, encoder, resolve_decoder(family), pretrain, mesh, accumulate
    )
    state = program.init(jax.random.key(0))
    found: dict[str, Any] = {"parameters": described(state.parameters), "steps": []}
    rng = np.random.default_rng(0)
    drawn = (BATCH // 2, 2, *CROP) if objective.pairs else (BATCH, *CROP)
    for _ in range(STEPS):
        batch = rng.normal(size=drawn).astype(np.float16)
        batch[..., 4:12] += 2  # something to see
        # The rate decays in the last step.
        state, metrics = program.step(
            state, global_batch(mesh, batch), jax.random.key(1), 1.5e-3, 2, 4
        )
        found["steps"].append({k: float(v) for k, v in metrics.items() if np.ndim(v) == 0})
    found["trained"] = described(state.parameters, exact=False)["sum of magnitudes"]
    return found


def described(parameters: Any, exact: bool = True) -> dict[str, Any]:
    """Number, sum of magnitudes and content of an encoder's, decoder's and head's parameters."""
    import jax

    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree.leaves_with_path(parameters)
    }
    sizes = {name: magnitude(leaf) for name, leaf in leaves.items()}
    found: dict[str, Any] = {"sum of magnitudes": math.fsum(sizes.values())}
    if exact:
        found["number"] = sum(leaf.size for leaf in leaves.values())
        found["leaves"] = {
            f"{name} {list(leaf.shape)}": sizes[name] for name, leaf in leaves.items()
        }
        # In no order of names, so that a new name changes nothing.
        contents = sorted(hashlib.sha256(leaf.tobytes()).hexdigest() for leaf in leaves.values())
        found["sha256"] = hashlib.sha256("".join(contents).encode()).hexdigest()
    return found


def magnitude(leaf: np.ndarray) -> float:
    """Sum of absolute values."""
    return float(np.abs(leaf.astype(np.float64)).sum())


# ---- plans: every experiment at every scale ---------------------------------------------------


def plans(published: Path | None) -> dict[str, Any]:
    """The ladders of sizes, and every step of every experiment with all its numbers."""
    with tempfile.TemporaryDirectory() as name:
        done = run_verb("models", "--json", folder=Path(name))
    found: dict[str, Any] = {"ladders": json.loads(done.stdout)}
    for file in sorted(EXPERIMENTS.glob("*.py")):
        made = runpy.run_path(str(file), run_name="experiment")
        scales = [None] * ("study" in made) + list(made.get("scales", {}))
        for scale in scales:
            name = f"{file.stem} {scale or ''}".rstrip()
            found[name] = resolved(file, scale)
            found[f"{name} on many devices"] = resolved(file, scale, ("execution.mesh=16",))
        if not scales:
            found[file.stem] = "no study"
    found["micro"] = resolved(MICRO, None)
    return found


def resolved(file: Path, scale: str | None, overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    """A plan: its config, a row per step, and what sharing trunks saves; or why there is none."""
    from scaling.runs.durations import plan_seconds
    from scaling.runs.experiment import load_study
    from scaling.runs.plan import make_plan

    try:
        plan = make_plan(load_study(file, overrides, scale))
    except ValueError as error:
        return {"refused": str(error)}
    seconds = plan_seconds(plan)
    rows = [
        (
            step.name,
            step.kind,
            " ".join(step.needs),
            step.parameters,
            step.samples,
            step.steps,
            float(step.flops),
            step.memory,
            "x".join(map(str, step.mesh)),
            seconds[step.name] / 3600,
        )
        for step in plan.steps
    ]
    columns = (
        "name",
        "kind",
        "needs",
        "parameters",
        "samples",
        "steps",
        "FLOPs",
        "memory",
        "mesh",
        "hours",
    )
    return {
        "study": None if overrides else plain(plan.study),
        "order": [step.name for step in plan.steps],
        "steps": as_rows(pd.DataFrame(rows, columns=columns)),
        "saved": plan.flops_saved,
    }


# ---- study: two small ones from beginning to end ----------------------------------------------

WINDOWED = {
    "steps": 2,
    "batch": 2,
    "learning_rates": [1e-3, 3e-3],
    "tuning": [0],
    "window": [16, 16, 16],
}
SUPERVISED = {"steps": 2, "batch": 2, "learning_rates": [1e-3]}
KINDS = ("mae", "contrastive", "momentum", "hybrid", "cross-sequence")
STUDIES: dict[str, dict[str, Any]] = {
    # All objectives on both kinds of backbone, once.
    "crossed": {
        "objectives": [{"kind": kind} for kind in KINDS],
        "families": [{"kind": "vit"}, {"kind": "unet", "levels": 3}],
        "durations": [40],
        "transfer.finetune": {"steps": 2, "batch": 2, "learning_rates": [1e-3]},
        "estimand.protocol": "probe",
    },
    # One objective in all that a verdict needs.
    "judged": {
        "fractions": [0.5, 1.0],
        "durations": [160, 320],
        "transfer.finetune": WINDOWED,
        "transfer.supervised": SUPERVISED,
        "tasks.0.test": [{"path": "fomo-task1-test", "part": "test"}],
        "tasks.0.inside": [{"path": "fomo-task1-test", "part": "train"}],
        "data.split.test_subjects": 9,
    },
}
TIMES = ("seconds", "samples_per_second", "input_wait")  # of no two runs the same


def study(published: Path | None) -> dict[str, Any]:
    """The tables, verdicts and findings of both studies, and features of a checkpoint of one."""
    with temporary_folder() as folder:
        found: dict[str, Any] = {name: ran(name, folder) for name in STUDIES}
        checkpoint = "runs/judged/pretrain/mae-xxs-seed0-320"
        scans = "cohort/fomo-task1-test"
        embedded = run_verb("embed", checkpoint, scans, "--out", "features.csv", folder=folder)
        found["features"] = said(embedded, folder)
        found["features"]["table"] = as_rows(pd.read_csv(folder / "features.csv"))
        checked = run_verb("data", "check", "cohort", "--json", folder=folder)
        found["check"] = said(checked, folder)
    return found


def ran(name: str, folder: Path) -> dict[str, Any]:
    """Run a study as a user would, and read what it left in its folder."""
    changes = [
        f"{field}={value if isinstance(value, str) else json.dumps(value)}"
        for field, value in STUDIES[name].items()
    ]
    options = [word for change in (f"name={name}", *changes) for word in ("--set", change)]
    done = run_verb("run", MICRO, *options, folder=folder)
    done_dir = folder / "runs" / name
    if not (done_dir / "summary.txt").exists():
        raise RuntimeError(f"the study {name} did not end:\n{done.stdout}\n{done.stderr}")
    tables = {
        "results": done_dir / "results.parquet",
        "predictions": done_dir / "predictions.parquet",
        "pretraining": done_dir / "pretraining.parquet",
        "scans": done_dir / "prepare" / "cache" / "index.parquet",
    }
    found: dict[str, Any] = {"code": done.returncode, "told": cleaned(done.stderr, folder)}
    for table, file in tables.items():
        found[table] = as_rows(pd.read_parquet(file).drop(columns=[*TIMES], errors="ignore"))
    found["losses"] = logged(done_dir)
    found["summary"] = cleaned((done_dir / "summary.txt").read_text(), folder)
    page = (done_dir / "report.html").read_text()
    found["headings"] = visible("\n".join(re.findall(r"<h[1-4].*?</h[1-4]>", page, re.DOTALL)))
    found["files"] = sorted(
        str(file.relative_to(done_dir))
        for file in done_dir.rglob("*")
        if file.is_file() and "checkpoints" not in file.parts
    )
    return found | evidence(done_dir)


def logged(done_dir: Path) -> dict[str, Any]:
    """Step, loss, rate and gradient norm of every logged step of every pretraining run."""
    fields = ("step", "samples", "loss", "learning_rate", "gradient_norm")
    found = {}
    for file in sorted(done_dir.rglob("metrics.jsonl")):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        name = str(file.parent.relative_to(done_dir))
        found[name] = [[row.get(field) for field in fields] for row in rows]
    return found


def evidence(done_dir: Path) -> dict[str, Any]:
    """Verdicts, how they do on simulated studies, and findings, every number of them."""
    from scaling.engines.evidence import findings, judge
    from scaling.runs.experiment import load_study

    predictions = pd.read_parquet(done_dir / "predictions.parquet")
    config = load_study(done_dir)
    verdicts, tests, unjudged = judge(predictions, config)
    return {
        "verdicts": plain(verdicts),
        "self tests": plain(tests),
        "unjudged": plain(unjudged),
        "findings": plain(findings(predictions, config)),
    }


# ---- laws: the verbs on tables ----------------------------------------------------------------

ON_TABLES: dict[str, tuple[str, ...]] = {
    "fit": ("fit", "own.csv", "--x", "size", "--y", "value", "--at", "6.4e7"),
    "fit, surface": ("fit", "losses.csv", "--x", "size,duration", "--y", "loss"),
    "fit, huber": (
        "fit",
        "curves.csv",
        "--x",
        "x",
        "--y",
        "loss",
        "--huber",
        "0.001",
        "--prior",
        "0",
        "--forms",
        "power,floor",
    ),
    "verdict": ("verdict", "own.csv", "--effect", "0.03"),
    "verdict, blocks": ("verdict", "blocks.csv", "--effect", "0.03"),
    "verdict, labels": ("verdict", "labels.csv", "--x", "size"),
    "rank": ("rank", "models.csv", "--control", "s"),
    "rank, cases": ("rank", "ranked.csv"),
    "design": (
        "design",
        "--budget",
        "300",
        "--sizes",
        "1e6,4e6,16e6",
        "--durations",
        "1e4,4e4",
        "--largest",
        "20",
    ),
    "design, pilot": (
        "design",
        "--budget",
        "300",
        "--sizes",
        "1e6,4e6,16e6",
        "--durations",
        "1e4,4e4",
        "--largest",
        "20",
        "--pilot",
        "pilot.csv",
        "--show",
        "1",
    ),
    "extrapolate": (
        "extrapolate",
        "curves.csv",
        "--x",
        "x",
        "--y",
        "loss",
        "--train",
        "train",
        "--by",
        "curve",
    ),
    "frontier": (
        "frontier",
        "losses.csv",
        "--y",
        "loss",
        "--compute",
        "1e16,1e17",
        "--flops-per",
        "6",
    ),
}


def laws(published: Path | None) -> dict[str, Any]:
    """What every verb on tables says of simulated tables, as JSON and in words."""
    found: dict[str, Any] = {}
    with temporary_folder() as folder:
        write_tables(folder)
        for name, arguments in ON_TABLES.items():
            found[name] = {
                "json": said(run_verb(*arguments, "--json", folder=folder), folder),
                "words": said(run_verb(*arguments, folder=folder), folder),
            }
        found["page"] = said(run_verb("page", "own.csv", "--out", "page", folder=folder), folder)
        found["page"]["text"] = visible((folder / "page" / "report.html").read_text())
        imported = run_verb(
            "import",
            "models.csv",
            "--size",
            "params",
            "--score",
            "infarct/auroc=t1_auroc",
            "--run",
            "team",
            "--objective",
            "objective",
            folder=folder,
        )
        found["import"] = said(imported, folder)
        found["import"]["table"] = as_rows(pd.read_csv(folder / "results.csv"))
        if published:
            found["published"] = of_published(published, folder)
    return found


def write_tables(folder: Path) -> None:
    """Simulated tables for every verb, the same in every run."""
    own = own_table(0.1)
    own.to_csv(folder / "own.csv", index=False)
    own[own["task"] == "infarct"].to_csv(folder / "pilot.csv", index=False)
    blocks = [own.assign(objective="mae"), own_table(0.0).assign(objective="hybrid")]
    pd.concat(blocks).to_csv(folder / "blocks.csv", index=False)
    losses_table().to_csv(folder / "losses.csv", index=False)
    curves_table().to_csv(folder / "curves.csv", index=False)
    labels_table().to_csv(folder / "labels.csv", index=False)
    ranked_table().to_csv(folder / "ranked.csv", index=False)
    models = {
        "team": list("abcs"),
        "params": [1e6, 2e6, 4e6, 8e6],
        "t1_auroc": [0.9, 0.8, 0.7, 0.75],
        "t3_mae": [9.0, 12, 11, 11.5],
        "objective": ["mae", "mae", "hybrid", "none"],
    }
    pd.DataFrame(models).to_csv(folder / "models.csv", index=False)


def own_table(gain: float) -> pd.DataFrame:
    """A study of two tasks, of which one answers to more budget."""
    rng = np.random.default_rng(0)
    level = 0.1 * rng.normal(size=20)
    rows = [
        (size, duration, seed, task, case, 0.5 + g * (i + j) / 4 + level[case] + run + noise)
        for task, g in (("infarct", gain), ("meningioma", 0.0))
        for i, size in enumerate((1e6, 4e6, 16e6))
        for j, duration in enumerate((1e4, 2e4, 4e4))
        for seed in range(2)
        for run in [0.003 * rng.normal()]
        for case, noise in enumerate(0.03 * rng.normal(size=20))
    ]
    return pd.DataFrame(rows, columns=["size", "duration", "seed", "task", "case", "value"])


def losses_table() -> pd.DataFrame:
    """Losses that follow a law in size and duration, with scatter."""
    rng = np.random.default_rng(1)
    axes = np.meshgrid(np.geomspace(1e6, 1e8, 6), np.geomspace(1e8, 1e10, 6), indexing="ij")
    size, duration = (axis.ravel() for axis in axes)
    loss = 1.5 + 400 * size**-0.35 + 500 * duration**-0.30
    scatter = np.exp(0.005 * rng.normal(size=len(size)))
    return pd.DataFrame({"size": size, "duration": duration, "loss": loss * scatter})


def curves_table() -> pd.DataFrame:
    """Three learning curves with floors, of which the first half is to be fitted."""
    rng = np.random.default_rng(2)
    x = np.geomspace(1e6, 1e8, 30)
    curves = [
        pd.DataFrame(
            {
                "curve": f"curve {exponent:g}",
                "x": x,
                "loss": (0.2 + (x / 1e6) ** -exponent) * np.exp(0.01 * rng.normal(size=len(x))),
                "train": (x < 2e7).astype(int),
            }
        )
        for exponent in (0.2, 0.4, 0.6)
    ]
    return pd.concat(curves, ignore_index=True)


def labels_table() -> pd.DataFrame:
    """Labels and predictions, better with size."""
    rng = np.random.default_rng(3)
    rows = [
        (size, seed, case, case % 2, (case % 2) * i + noise)
        for i, size in enumerate((1e6, 4e6, 16e6))
        for seed in range(3)
        for case, noise in enumerate(rng.normal(size=60))
    ]
    return pd.DataFrame(rows, columns=["size", "seed", "case", "label", "prediction"])


def ranked_table() -> pd.DataFrame:
    """Three models on two tasks, a score per case."""
    rng = np.random.default_rng(4)
    rows = [
        (model, task, metric, case, sign * i / 2 + noise)
        for task, metric, sign in (("meningioma", "dice", 1), ("brain-age", "mae", -1))
        for i, model in enumerate("abc")
        for case, noise in enumerate(rng.normal(size=30))
    ]
    return pd.DataFrame(rows, columns=["model", "task", "metric", "case", "value"])


def of_published(published: Path, folder: Path) -> dict[str, Any]:
    """What is said of published tables: by the verbs, and by the benchmarks that print no times."""
    found: dict[str, Any] = {}
    runs = published / "chinchilla_epoch" / "svg_extracted_data.csv"
    if runs.exists():
        write_chinchilla(runs, folder / "chinchilla.csv")
        words = "fit chinchilla.csv --x N,D --y loss --lower --huber 0.001 --prior 0 --forms"
        arguments = (*words.split(), "chinchilla", "--json")
        found["chinchilla"] = said(run_verb(*arguments, folder=folder), folder)
    constrained = published / "data_constrained.csv"
    if constrained.exists():
        arguments = ("--x", "params,tokens", "--y", "loss", "--lower", "--json")
        done = run_verb("fit", constrained, *arguments, folder=folder)
        found["data constrained"] = said(done, folder)
    curves = published / "learning_curves" / "curves.csv"
    if curves.exists():
        axes = ("--x", "Seen Examples", "--y", "Loss", "--train", "Training")
        by = ("--by", "Domain,Task,Model", "--json")
        done = run_verb("extrapolate", curves, *axes, *by, folder=folder)
        found["learning curves"] = said(done, folder)
    benchmarks = {
        "downstream": published / "downstream_tasks",
        "olmo_ladder": published / "olmo_ladder",
        "fomo25": leaderboards(published),
    }
    for name, given in benchmarks.items():
        if given.is_dir():
            script = EXPERIMENTS / "benchmarks" / f"{name}.py"
            found[name] = said(run_python(script, given, folder=folder), folder)
    return found


def write_chinchilla(runs: Path, out: Path) -> None:
    """Parameters, tokens and losses of the runs that the replication fits: five are left out."""
    table = pd.read_csv(runs)
    table = table[table["loss"] < table["loss"].nlargest(5).iloc[-1]]
    size, compute = table["Model Size"], table["Training FLOP"]
    pd.DataFrame({"N": size, "D": compute / (6 * size), "loss": table["loss"]}).to_csv(
        out, index=False
    )


def leaderboards(published: Path) -> Path:
    """The folder of FOMO25's leaderboards: the published tables' own, or the one around it."""
    held = [at for at in (published, published.parent) if (at / "leaderboard_method.csv").exists()]
    return held[0] if held else published / "none"


# ---- exit codes: wrong input ------------------------------------------------------------------

FOMO25 = EXPERIMENTS / "fomo25.py"
WRONG: dict[str, tuple[str | Path, ...]] = {
    "no verb": (),
    "unknown verb": ("nonsense",),
    "unknown option": ("plan", MICRO, "--nonsense"),
    "missing experiment": ("run", "nothing.py"),
    "file without a study": ("plan", "empty.py"),
    "no scale named": ("plan", FOMO25),
    "unknown scale": ("plan", FOMO25, "--scale", "huge"),
    "scale of a study without": ("plan", MICRO, "--scale", "huge"),
    "unknown field": ("plan", MICRO, "--set", "pretrain.bach=16"),
    "no value": ("plan", MICRO, "--set", "nonsense"),
    "wrong type": ("plan", MICRO, "--set", "pretrain.batch=many"),
    "impossible value": ("plan", MICRO, "--set", "pretrain.batch=10"),
    "unknown size": ("plan", MICRO, "--set", 'sizes=["huge"]'),
    "unknown objective": ("plan", MICRO, "--set", 'objectives=[{"kind":"simsiam"}]'),
    "mesh that does not divide": ("plan", MICRO, "--set", "execution.mesh=[3,1]"),
    "unknown step": ("step", MICRO, "nonsense"),
    "missing data": (
        "run",
        MICRO,
        "--set",
        "data.root=nowhere",
        "--set",
        "data.phantom=null",
    ),
    "nothing collected": ("collect", MICRO),
    "nothing to report": ("report", MICRO),
    "neither study nor table": ("report",),
    "cluster not named": ("run", MICRO, "--engine", "slurm"),
    "not prepared": ("data", "show", MICRO),
    "no folder to check": ("data", "check", "nowhere"),
    "no scans to prepare": ("data", "prepare", "scans", "cache"),
    "no checkpoint to embed": ("embed", "nowhere", "scans", "--out", "features.csv"),
    "no checkpoint to export": ("export", "nowhere", "--task", "infarct", "--out", "out"),
    "no predictions to score": ("score", "nowhere", "nowhere"),
    "crop of no ladder": ("models", "--family", "unet", "--crop", "40", "48", "40"),
    "missing table": ("verdict", "nothing.csv"),
    "not a table": ("verdict", "own.xlsx"),
    "table without the column": ("verdict", "own.csv", "--y", "nonsense"),
    "table that repeats itself": ("verdict", "copied.csv"),
    "unknown form": ("fit", "own.csv", "--x", "size", "--y", "value", "--forms", "cubic"),
    "budget too small": (
        "design",
        "--budget=1",
        "--sizes=1e6,4e6",
        "--durations=1e4",
        "--largest=20",
    ),
}


def exit_codes(published: Path | None) -> dict[str, Any]:
    """The exit code of every wrong use, and the last line of what it says on standard error."""
    found = {}
    with temporary_folder() as folder:
        own = own_table(0.1)
        own.to_csv(folder / "own.csv", index=False)
        pd.concat([own, own.iloc[:30]]).to_csv(folder / "copied.csv", index=False)
        (folder / "own.xlsx").write_text("")
        (folder / "empty.py").write_text("x = 1\n")
        (folder / "scans").mkdir()
        for name, arguments in WRONG.items():
            done = run_verb(*arguments, folder=folder)
            # Of a box around a message, the message.
            lines = [line for line in cleaned(done.stderr, folder) if re.search(r"\w", line)]
            found[name] = {"code": done.returncode, "last line": lines[-1] if lines else ""}
    return found


# ---- what the parts share ---------------------------------------------------------------------


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """An empty folder, by the name under which programs see it."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name).resolve()


def run_verb(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a verb as a user would, in `folder`."""
    return run_python("-m", PACKAGE, *arguments, folder=folder)


def run_python(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python in `folder`, on one device and a terminal of a known width."""
    environment = {
        **os.environ,
        "XLA_FLAGS": UNOPTIMISED,
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "140",
        "TERM": "dumb",
    }
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def said(done: subprocess.CompletedProcess[str], folder: Path) -> dict[str, Any]:
    """What a program said: its exit code, and its output as JSON or as lines."""
    try:
        output = json.loads(done.stdout)
    except json.JSONDecodeError:
        output = cleaned(done.stdout, folder)
    errors = [] if done.returncode == 0 else cleaned(done.stderr, folder)
    return {"code": done.returncode, "output": output, "errors": errors}


def cleaned(text: str, folder: Path) -> list[str]:
    """The lines of a text, without the names of this machine's folders."""
    text = text.replace(str(folder), "FOLDER").replace(str(ROOT), "ROOT")
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def visible(page: str) -> list[str]:
    """The text of a page, a line per element, without scripts and figures."""
    page = re.sub(r"<(script|style|svg)\b.*?</\1>", "", page, flags=re.DOTALL)
    text = html.unescape(re.sub(r"<[^>]+>", "\n", page))
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def as_rows(table: pd.DataFrame) -> dict[str, Any]:
    """A table as columns and rows sorted by all that is no measured number, and a digest."""
    rows = sorted_rows([[cell(value) for value in row] for row in table.itertuples(index=False)])
    digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    return {"columns": list(map(str, table.columns)), "rows": rows, "digest": digest}


def sorted_rows(rows: list[list[Any]]) -> list[list[Any]]:
    """Rows in the order of their names and counts, and only then of their other numbers."""

    def key(row: list[Any]) -> tuple[list[str], list[float]]:
        names = [str(value) for value in row if not isinstance(value, float)]
        return names, [value for value in row if isinstance(value, float)]

    return sorted(rows, key=key)


def cell(value: Any) -> Any:
    """A cell of a table: a float to nine digits, text, a whole number or None."""
    value = plain(value)
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def plain(value: Any) -> Any:
    """Results as dictionaries, lists, texts, finite numbers and None."""
    if dataclasses.is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, pd.DataFrame):
        return as_rows(value.reset_index())
    if isinstance(value, pd.Series):
        return plain({str(name): number for name, number in value.items()})
    if isinstance(value, dict):
        return {key_of(name): plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(entry) for entry in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return None if value is None or value is pd.NA else str(value)


def key_of(name: Any) -> str:
    """A key of a dictionary as text."""
    return "/".join(map(str, name)) if isinstance(name, tuple) else str(name)


# ---- comparison -------------------------------------------------------------------------------


def renamed(value: Any, names: dict[str, str]) -> Any:
    """A record with old names replaced by new ones, as whole words, in keys and in texts."""
    if not names:
        return value
    longest_first = sorted(map(re.escape, names), key=len, reverse=True)
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(longest_first)})(?!\w)")

    def text(old: str) -> str:
        return pattern.sub(lambda found: names[found.group()], old)

    def walk(node: Any) -> Any:
        if isinstance(node, dict):
            return {text(key): walk(entry) for key, entry in node.items()}
        if isinstance(node, list):
            return [walk(entry) for entry in node]
        return text(node) if isinstance(node, str) else node

    return walk(value)


def differences(before: Any, after: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Path, before and after of everything that differs."""
    if isinstance(before, dict) and isinstance(after, dict):
        if "rows" in before and "rows" in after:  # new names may sort otherwise
            before = before | {"rows": sorted_rows(before["rows"])}
            after = after | {"rows": sorted_rows(after["rows"])}
        for key in dict.fromkeys((*before, *after)):
            if key != "digest":  # of rows that are compared themselves, with a tolerance
                here = before.get(key, "(nothing)"), after.get(key, "(nothing)")
                yield from differences(*here, f"{path}/{key}")
    elif isinstance(before, list) and isinstance(after, list):
        if len(before) != len(after):
            yield f"{path} (entries)", len(before), len(after)
        for place, here in enumerate(zip(before, after, strict=False)):
            yield from differences(*here, f"{path}/{place}")
    elif not same(before, after):
        yield path, before, after


def same(before: Any, after: Any) -> bool:
    """Whether two entries are equal: measured numbers to a millionth, all else exactly."""
    numbers = [isinstance(value, int | float) for value in (before, after)]
    if all(numbers) and (isinstance(before, float) or isinstance(after, float)):
        return math.isclose(before, after, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    return type(before) is type(after) and before == after


def compare(before: Path, after: Path, renames: Path | None) -> int:
    """Print what differs between two records; 1 if anything does."""
    names = json.loads(renames.read_text()) if renames else {}
    old = renamed(json.loads(before.read_text()), names)
    found = list(differences(old, json.loads(after.read_text())))
    for path, was, now in found:
        print(f"{path}: {shortened(was)} -> {shortened(now)}")
    print(f"{len(found)} differences")
    return int(bool(found))


def shortened(value: Any) -> str:
    """An entry as JSON, cut where it is long."""
    text = json.dumps(value)
    return text if len(text) <= 300 else f"{text[:300]}..."


# ---- command line -----------------------------------------------------------------------------

PARTS: dict[str, Callable[[Path | None], dict[str, Any]]] = {
    "training": training,
    "plans": plans,
    "study": study,
    "laws": laws,
    "exit_codes": exit_codes,
}


def record(out: Path, chosen: str | None, published: Path | None) -> None:
    """Write the record, after every part, so that an interrupted one is not lost."""
    found = json.loads(out.read_text()) if chosen and out.exists() else {}
    for name in [chosen] if chosen else PARTS:
        began = time.perf_counter()
        found[name] = PARTS[name](published)
        out.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)


def main() -> int:
    """Record, or compare two records."""
    parser = argparse.ArgumentParser(description="Record what is computed, or compare two records.")
    parser.add_argument("out", type=Path, nargs="?", help="JSON file to write")
    parser.add_argument("--only", choices=list(PARTS), help="record one part alone")
    parser.add_argument("--published", type=Path, help="folder of published tables")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("BEFORE", "AFTER"))
    parser.add_argument("--renames", type=Path, help="JSON file of old names and new names")
    given = parser.parse_args()
    if (given.out is None) == (given.compare is None):
        parser.error("give either a file to write, or --compare with two files")
    if given.compare:
        return compare(*given.compare, given.renames)
    published = given.published.resolve() if given.published else None
    record(given.out, given.only, published)
    return 0


if __name__ == "__main__":
    sys.exit(main())
