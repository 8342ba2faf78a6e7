"""Does one learning rate serve every width? A sweep of rate x width, with and without the
width-transferable parametrisation.

Shows:    held-out loss of short runs of a study's first objective, with encoders of one depth and a
          sixteenfold range of width, over doubling learning rates: with muP the best rate stays
          where it is, in the standard parametrisation it falls as encoders get wider
Command:  python experiments/lr_transfer.py [EXPERIMENT=experiments/quickstart.py]
          [FAMILY=vit|unet] [RUNS=runs]
Costs:    an hour of a CPU core, half of it the widest encoder's, and the preparation of the data;
          run again, it goes on where it was
Ends in:  RUNS/STUDY/lr_transfer.csv, the best rates in words, and a figure in the study's report
          (`scaling report EXPERIMENT`)
"""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from scaling.engines.local import run_plan
from scaling.engines.run_step import study_cache
from scaling.engines.sweep import SweptRun, run_sweep
from scaling.processes.malloc import keep_freed_memory
from scaling.report.tuning import best_rates
from scaling.runs.experiment import load_study
from scaling.runs.plan import make_plan
from scaling.runs.steps import PretrainStep
from scaling.study.config import Study
from scaling.study.families import UNet, ViT
from scaling.study.ladder import CnnShape, Encoder, VitShape, resolve_decoder

SAMPLES, WARMUP = 4800, 640
RATES = tuple(1e-3 * 2**i for i in range(6))


def vit(width: int, base: int) -> Encoder:
    """Three blocks, heads of 32."""
    return VitShape("vit", 8, width, 3, width // 32, 4 * width, base, 3)


def unet(width: int, base: int) -> Encoder:
    """Three levels, the first `width` channels wide."""
    return CnnShape("unet", 8, (width, 2 * width, 4 * width), (1, 1, 1), base)


FAMILIES = {
    "vit": (ViT(), vit, (32, 64, 128, 256, 512)),
    "unet": (UNet(levels=3), unet, (4, 8, 16)),
}


def runs(study: Study, name: str) -> Iterator[SweptRun]:
    """Every run of the sweep, the narrow ones first; the narrowest is the base, where both
    parametrisations are one.
    """
    family, encoder_of, widths = FAMILIES[name]
    crop = study.pretrain.crop if name == "vit" else (16, 16, 16)
    for width in widths:
        for parametrisation in ("mup", "standard") if width > widths[0] else ("mup",):
            encoder = encoder_of(width, widths[0] if parametrisation == "mup" else width)
            for rate in RATES:
                recipe = replace(
                    study.pretrain,
                    crop=crop,
                    warmup=WARMUP,
                    learning_rate=rate,
                    parametrisation=parametrisation,
                )
                config = PretrainStep(
                    objective=study.objectives[0],
                    backbone=name,
                    size=str(width),
                    encoder=encoder,
                    decoder=resolve_decoder(family),
                    pretrain=recipe,
                    data=study.data,
                    seed=study.seeds[0],
                    fraction=1.0,
                    end=SAMPLES,
                    decay_from=round(SAMPLES * (1 - recipe.decay_share)),
                )
                columns = {
                    "family": name,
                    "parametrisation": parametrisation,
                    "width": width,
                    "rate": rate,
                    "samples": SAMPLES,
                }
                yield columns, config, None


def main(
    experiment: str = "experiments/quickstart.py", family: str = "vit", out: str = "runs"
) -> None:
    """Prepare the study's data, run what is missing of the sweep, and say which rate is best
    where.
    """
    keep_freed_memory()
    study, console = load_study(Path(experiment)), Console()
    folder = Path(out) / study.name
    plan = make_plan(study)
    if failures := run_plan(
        folder,
        plan,
        console,
        [step.name for step in plan.steps if step.kind in ("phantom", "prepare")],
    ):
        raise SystemExit(failures[0])
    swept = run_sweep(
        folder / "lr_transfer.csv",
        list(runs(study, family)),
        study_cache(folder),
        f"{family}: rate x width",
        console,
    )
    console.print(best_rates(swept).to_string(), markup=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
