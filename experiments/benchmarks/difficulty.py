"""How hard is the synthetic cohort? Supervised networks from scratch with all labelled cases and
with few, in and out of domain.

Asks:     does a small network with all labelled cases reach AUROC .90, Dice .70 and a mean absolute
          error of 5 years at the finetuning site, is it clearly worse with few, and worse again at
          scanners that nobody trained on? Beside it ridge regression on voxels
Command:  python experiments/benchmarks/difficulty.py [FOLDER [TASK]]
Ends in:  a table on the terminal; three quarters of an hour on a core, and 400 MB. A FOLDER is
          kept, and goes on where it was
"""

import dataclasses
import sys
import tempfile
from itertools import chain
from pathlib import Path

from scaling.data.cache import open_cache
from scaling.data.layout import scan_sources
from scaling.data.prepare import prepare
from scaling.data.tasks import load_task
from scaling.phantom.write import write_phantom
from scaling.study.config import Classical, Data, Finetune, Source, Split, Task, Volumes
from scaling.study.families import UNet
from scaling.study.ladder import resolve_encoder
from scaling.study.phantom import Cohort, Phantom
from scaling.transfer.classical import classical
from scaling.transfer.finetune import finetune
from scaling.transfer.predictions import score, tabulate
from scaling.transfer.run import load_encoder

PHANTOM = Phantom(
    pretraining_subjects=1,
    infarct=Cohort(256, 128),
    meningioma=Cohort(96, 32),
    brain_age=Cohort(256, 64),
)
VOLUMES = Volumes(spacing_mm=6.0, shape=(24, 32, 24))
FEW, DRAWS, BATCH = 16, 3, 8
NETWORK = resolve_encoder(UNet(levels=3), "xs", "mup")
SLOTS = ("flair", "dwi_b1000", "t2s|swi")


def challenge_task(number: int, name: str, kind: str, sequences: tuple[str, ...]) -> Task:
    """One of the challenge's three tasks, as the cohort's folders have them."""
    return Task(
        name,
        kind,
        sequences,
        Source(f"fomo-task{number}"),
        (Source(f"fomo-task{number}-test"),),
        shots=(FEW,),
    )


TASKS = (  # with the number of training cases, steps, learning rate and augmentation
    (challenge_task(1, "infarct", "classification", (*SLOTS, "adc")), 256, 800, 1e-2, "spatial"),
    (challenge_task(2, "meningioma", "segmentation", SLOTS), 96, 320, 1e-2, "flips"),
    (challenge_task(3, "brain-age", "regression", ("t1", "t2")), 256, 320, 5e-3, "flips"),
)


def main(folder: Path, only: str = "") -> None:
    """Print each task's main metric, the mean over draws and sites."""
    write_phantom(folder / "cohort", PHANTOM)
    data = Data(str(folder / "cohort"), (Source("fomo60k"),), VOLUMES)
    sources = [source for task, *_ in TASKS for source in (task.train, *task.test)]
    prepare(
        folder / "cohort",
        scan_sources(folder / "cohort", sources, Split()),
        VOLUMES,
        folder / "cache",
    )
    cache = open_cache(folder / "cache")
    for task, every, steps, rate, augment in TASKS:
        if only not in task.name:
            continue
        for shots, draws in ((every, 1), (FEW, DRAWS)):
            tried = dataclasses.replace(task, shots=(shots,), draws=draws)
            arrays = load_task(cache, tried, data)
            recipe = Finetune(
                steps=steps if shots == every else steps // 2,
                batch=BATCH,
                learning_rates=(rate,),
                augment=augment,
            )
            scratch = finetune(NETWORK, load_encoder(NETWORK, 0, None), arrays, tried, recipe)
            predicted = chain(scratch, classical(arrays, tried, Classical(), VOLUMES.spacing_mm))
            found = score(
                tabulate(predicted, arrays, task, VOLUMES.spacing_mm, VOLUMES.spacing_mm),
                task,
            )
            found = found[found["metric"].isin(("auroc", "dice", "mae"))]
            print(
                found.groupby(["metric", "protocol", "shots", "domain"], sort=False)["value"]
                .mean()
                .round(3)
                .to_string(),
                flush=True,
            )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else name), *sys.argv[2:])
