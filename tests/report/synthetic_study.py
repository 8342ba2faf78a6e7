"""A synthetic study whose every number is known, and a browser to open its page in."""

import numpy as np
import pandas as pd

from scaling.laws import holm, self_test, verdict
from scaling.report import ReportInput, fit_curves, look_beyond
from scaling.report.inputs import COLUMNS

SIZES = {"xs": 120_000, "s": 900_000, "m": 6_800_000}
DURATIONS = (5_000, 20_000, 80_000)
SITES = {"hospital-a": "in", "hospital-b": "out", "hospital-c": "out"}
GAIN = {
    "auroc": 0.14,
    "dice": 0.03,
    "nsd": 0.02,
    "mae": -0.5,
    "pearson": 0.02,
}  # from the smallest to the largest budget
START = {"auroc": 0.66, "dice": 0.41, "nsd": 0.5, "mae": 9.5, "pearson": 0.55}
SPREAD = {"auroc": 0.02, "dice": 0.01, "nsd": 0.012, "mae": 0.15, "pearson": 0.02}
TASKS = {"infarct": ("auroc",), "meningioma": ("dice", "nsd"), "brain-age": ("mae", "pearson")}
CASES, DRAWS, SHOTS = 24, 3, 16


def synthetic_results(seeds: int = 1) -> pd.DataFrame:
    """3 sizes x 3 durations of MAE, by finetuning and by probe, with controls from scratch, random
    and classical.
    """
    rng = np.random.default_rng(3)
    rows = []
    progress = {
        (size, duration): (i + j) / (len(SIZES) + len(DURATIONS) - 2)
        for i, size in enumerate(SIZES)
        for j, duration in enumerate(DURATIONS)
    }
    arms = [
        ("pretrained", "mae", s, d, seed, p, 0.0)
        for s, d in progress
        for seed in range(seeds)
        for p in ("finetune", "probe")
    ]
    arms += [("scratch", "", s, 0, 0, "finetune", -0.8) for s in SIZES] + [
        ("random", "", s, 0, 0, "probe", -1.2) for s in SIZES
    ]
    arms += [("classical", "", "", 0, 0, "ridge", 0.3)]
    for arm, objective, size, duration, seed, protocol, level in arms:
        run = (
            f"mae-{size}-seed{seed}-{duration}"
            if arm == "pretrained"
            else f"{arm}-{size}-seed{seed}".replace("--", "-")
        )
        facts = {
            "study": "synthetic",
            "run": run,
            "arm": arm,
            "objective": objective,
            "size": size,
            "params": SIZES.get(size, 0),
            "duration": duration,
            "flops": 6.0 * SIZES.get(size, 0) * duration,
            "seed": seed,
            "trunk": f"{run.rsplit('-', 1)[0]}",
        }
        for task, metrics in TASKS.items():
            for metric in metrics:
                mean = (
                    START[metric]
                    + GAIN[metric] * (progress.get((size, duration), 0) + level)
                    - SPREAD[metric] * (protocol == "probe")
                )
                mean += SPREAD[metric] / 3 * rng.normal()
                for draw in range(DRAWS):
                    of_draw = mean + SPREAD[metric] / 2 * rng.normal()
                    for i, (site, domain) in enumerate(SITES.items()):
                        value = (
                            of_draw
                            - SPREAD[metric] * i * np.sign(GAIN[metric])
                            + SPREAD[metric] / 4 * rng.normal()
                        )
                        rows.append(
                            facts
                            | {
                                "task": task,
                                "protocol": protocol,
                                "shots": SHOTS,
                                "draw": draw,
                                "site": site,
                                "domain": domain,
                            }
                            | {"metric": metric, "value": value, "cases": CASES}
                        )
    return pd.DataFrame(rows)


def synthetic_cases(task: str, metric: str) -> pd.DataFrame:
    """Per-case scores of the pretrained runs of a task, as `verdict` wants them."""
    rng = np.random.default_rng(4)
    levels = [
        (p, d, seed, i + j)
        for i, p in enumerate(SIZES.values())
        for j, d in enumerate(DURATIONS)
        for seed in range(2)
    ]
    difficulty = rng.normal(size=60)
    rows = []
    for params, duration, seed, step in levels:
        level = START[metric] + GAIN[metric] * step / 4 + SPREAD[metric] / 3 * rng.normal()
        for draw in range(DRAWS):
            for case in range(60):
                common = {
                    "run": f"{params}-{duration}-{seed}",
                    "size": params,
                    "duration": duration,
                    "draw": draw,
                    "case": case,
                }
                common["cluster"] = f"{params}-{seed}"
                if metric == "auroc":
                    label = case % 2
                    score = label * 2.5 * (level - 0.45) + difficulty[case] / 2 + 0.5 * rng.normal()
                    rows.append(common | {"label": label, "prediction": score})
                else:
                    rows.append(
                        common
                        | {"value": level + SPREAD[metric] * (3 * difficulty[case] + rng.normal())}
                    )
    return pd.DataFrame(rows)


def synthetic_arms() -> pd.DataFrame:
    """Per-case Dice of three pretrained runs and one control, which is 0.05 worse."""
    rng = np.random.default_rng(5)
    difficulty = 0.1 * rng.normal(size=30)
    rows = []
    for arm, run, level in (
        ("pretrained", "one", 0.55),
        ("pretrained", "two", 0.56),
        ("pretrained", "three", 0.54),
        ("scratch", "scratch", 0.50),
    ):
        for case in range(30):
            value = level + difficulty[case] + 0.01 * rng.normal()
            facts = {"arm": arm, "run": run, "objective": "mae", "protocol": "finetune"}
            rows.append({**facts, "draw": 0, "case": case, "value": value, "size": 1.0})
    return pd.DataFrame(rows)


def synthetic_pretraining() -> pd.DataFrame:
    rows = [
        (
            f"mae-{s}-seed0-{d}",
            "mae",
            s,
            p,
            d,
            0,
            0.9 - 0.03 * np.log10(p * d),
            6.0 * p * d,
            d / 400 + p / 1e4,
            400.0,
            0.02,
        )
        for s, p in SIZES.items()
        for d in DURATIONS
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS["pretraining"]))


def synthetic_steps() -> pd.DataFrame:
    rows = [("prepare", "prepare", "done", 61.0, 0.0, 0.0, "H100")]
    rows += [
        (f"pretrain/{r.run}", "cooldown", "done", r.seconds, r.flops, r.seconds / 9e4, "H100")
        for r in synthetic_pretraining().itertuples()
    ]
    rows += [
        (
            f"transfer/{t}",
            "transfer",
            "failed" if t == "infarct" else "done",
            30.0,
            1e12,
            0.01,
            "H100",
        )
        for t in TASKS
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS["steps"]))


def synthetic_training() -> pd.DataFrame:
    """A trunk and a cooldown for each duration of every size, losses falling as a power law."""
    rows = []
    for place, (size, params) in enumerate(SIZES.items()):
        for end in DURATIONS:
            for part, first, last in (("trunk", 0.02, 0.8), ("cooldown", 0.8, 1.0)):
                for share in np.linspace(first, last, 20):
                    samples = share * end
                    loss = 0.9 - 0.02 * np.log(samples + 1) - 0.02 * place
                    step = f"mae-{size}-seed0-{part}-{end}"
                    facts = (f"mae-{size}-seed0", step, "mae", size, params, 0, part)
                    rows.append((*facts, samples, 6.0 * params * samples, loss))
    return pd.DataFrame(rows, columns=list(COLUMNS["training"]))


def synthetic_rates() -> pd.DataFrame:
    """Losses parabolic in log2 of the rate: lowest at 4e-3 under muP, at half of that with each
    doubling of the width without.
    """
    rows = []
    for width in (32, 64, 128):
        for parametrisation in ("mup", "standard") if width > 32 else ("mup",):
            best = 4e-3 if parametrisation == "mup" else 4e-3 * 32 / width
            for rate in (1e-3, 2e-3, 4e-3, 8e-3):
                rows.append(
                    (
                        "vit",
                        parametrisation,
                        width,
                        rate,
                        3200,
                        0.5 - width / 1e3 + 0.01 * np.log2(rate / best) ** 2,
                    )
                )
    return pd.DataFrame(rows, columns=list(COLUMNS["rates"]))


def synthetic_schedules() -> pd.DataFrame:
    """Cooldowns of one trunk 0.5 % above cosine runs that each have their own best rate, for 60 %
    of their samples.
    """
    rows = []
    for place, d in enumerate(DURATIONS):
        loss = 1 - d / 1e6
        for power, rate in enumerate((1e-3, 2e-3, 4e-3)):
            rows.append(("xs", d, 0, "wsd", rate, 0.6 * d, loss * (1.005 + 0.1 * abs(power - 1))))
            rows.append(("xs", d, 0, "cosine", rate, d, loss * (1 + 0.1 * abs(power - place % 3))))
    return pd.DataFrame(rows, columns=list(COLUMNS["schedules"]))


def brain(blur: float) -> np.ndarray:
    """A ball with a smaller one inside [40, 48, 40]."""
    grid = np.meshgrid(*(np.linspace(-1, 1, n) for n in (40, 48, 40)), indexing="ij")
    radius = np.sqrt(sum(g**2 for g in grid))
    return (
        1 / (1 + np.exp((radius - 0.8) / blur)) - 0.5 / (1 + np.exp((radius - 0.3) / blur))
    ).astype(np.float32)


def synthetic_study() -> ReportInput:
    results = synthetic_results()
    masked = brain(0.02)
    masked[::2, ::2] = np.nan
    cases = {task: synthetic_cases(task, metrics[0]) for task, metrics in TASKS.items()}
    verdicts = holm(
        [verdict(cases[task], task=task, metric=metrics[0]) for task, metrics in TASKS.items()]
    )
    return ReportInput(
        name="synthetic <b>study</b>",
        results=results,
        config={
            "name": "synthetic",
            "tasks": [{"name": t} for t in TASKS],
            "sizes": list(SIZES),
            "durations": list(DURATIONS),
        },
        provenance={"python": "3.11.7", "jax": "0.10.2", "commit": "abc1234", "devices": "1 x cpu"},
        pretraining=synthetic_pretraining(),
        training=synthetic_training(),
        steps=synthetic_steps(),
        verdicts=verdicts,
        curves=fit_curves(results),
        outlooks=look_beyond(results),
        self_tests={v.task: self_test(cases[v.task], v, studies=20) for v in verdicts},
        reconstructions=[
            (f"{s} ({n} M)", brain(0.02), masked, brain(b))
            for s, n, b in (("xs", 0.1, 0.2), ("m", 6.8, 0.05))
        ],
        problems=["prepare skipped sub_7: its header says 0 mm voxels <script>alert(1)</script>."],
        held_fixed={
            "batch": "16",
            "learning rate": "1.5e-3 at every width",
            "crop": "32 x 40 x 32 voxels of 5 mm",
        },
        rates=synthetic_rates(),
        schedules=synthetic_schedules(),
        saving="Sharing trunks saved 38 % of the pretraining FLOPs.",
    )
