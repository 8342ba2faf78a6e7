"""The FOMO25 challenge as a designed experiment: one factor at a time.

Shows:    objectives x backbones x sizes x durations x seeds of one recipe, tried on infarct,
          meningioma and brain age at sites that nobody trained on, against scratch, random
          features, both supervised controls and classical features. The report answers
          (a) does pretraining help out of domain, (b) does an objective win some tasks, (c) do size
          and duration help, with the challenge's ranking and its published leaderboards beside it
Command:  scaling run experiments/fomo25.py --scale tiny     within an hour on two CPU cores
          scaling run experiments/fomo25.py --scale small    about an hour of one H100 (by plan)
          (both on a synthetic cohort)
          scaling run experiments/fomo25.py --scale full --set data.root=FOLDER --engine slurm \
              --cluster FACTS.toml
          on FOMO60K (FOLDER/fomo60k), the finetuning sets (FOLDER/fomo-task1, 2, 3) and test cases
          of one's own in the same layout (FOLDER/fomo-task1-test, ...)
Ends in:  runs/fomo25-tiny/report.html
Not for:  "tiny": conclusions about real brains. It shows that all questions are asked, at a size
          where little can be learnt.
"""

from scaling.study.config import (
    Data,
    Estimand,
    Execution,
    Finetune,
    Pretrain,
    ResEnc,
    Source,
    Split,
    Study,
    Task,
    Transfer,
    UNet,
    ViT,
    Volumes,
)
from scaling.study.objectives import Contrastive, Hybrid, Mae
from scaling.study.phantom import Cohort, Infarcts, Meningiomas, Phantom


def tasks(shots: tuple[int, int, int], draws: int) -> tuple[Task, ...]:
    """The challenge's three tasks.

    A part of the test folders is tested; the control in domain learns from the rest.
    """

    def task(number: int, name: str, kind: str, sequences: tuple[str, ...]) -> Task:
        train, test = f"fomo-task{number}", f"fomo-task{number}-test"
        shot, inside = (shots[number - 1],), (Source(test, "train"),)
        return Task(
            name,
            kind,
            sequences,
            Source(train),
            (Source(test, "test"),),
            shot,
            draws,
            inside=inside,
        )  # type: ignore[arg-type]

    return (
        task(1, "infarct", "classification", ("flair", "adc", "dwi_b1000", "t2s|swi")),
        task(2, "meningioma", "segmentation", ("flair", "dwi_b1000", "t2s|swi")),
        task(3, "brain-age", "regression", ("t1", "t2")),
    )


OBJECTIVES = (Mae(), Contrastive(), Hybrid())
TINY, SMALL, FULL = (24, 24, 24), (48, 64, 48), (96, 96, 96)

tiny = Study(
    name="fomo25-tiny",
    data=Data(
        root="runs/fomo25-tiny-data",
        pretraining=(Source("fomo60k"),),
        volumes=Volumes(spacing_mm=8.0, shape=TINY),
        split=Split(test_subjects=72),
        # Lesions larger and clearer than in life, as in the quickstart.
        phantom=Phantom(
            pretraining_subjects=80,
            infarct=Cohort(32, 20),
            meningioma=Cohort(32, 18),
            brain_age=Cohort(60, 20),
            infarcts=Infarcts(median_ml=40.0, smallest_ml=10.0, mimics=0.2, contrast=1.5),
            meningiomas=Meningiomas(radius_mm=(14.0, 26.0), contrast=1.5),
        ),
    ),
    objectives=OBJECTIVES,
    families=(ViT(patch=4), UNet(levels=3, patch=4, sizes=("xxs",))),
    sizes=("xxs", "xs"),
    durations=(1600, 3200),
    pretrain=Pretrain(crop=TINY, batch=16, warmup=640, augment="all"),
    tasks=tasks((21, 23, 40), draws=2),
    transfer=Transfer(
        finetune=Finetune(steps=20, batch=4, learning_rates=(1e-3,)),
        supervised=Finetune(steps=60, batch=4, learning_rates=(1e-3,)),
        nsd_tolerance_mm=8.0,
    ),
    # So short a finetune says little of an encoder: the verdict is on what can be read out of its
    # frozen features.
    estimand=Estimand(protocol="probe"),
)

small = Study(
    name="fomo25-small",
    data=Data(
        root="runs/fomo25-small-data",
        pretraining=(Source("fomo60k"),),
        volumes=Volumes(spacing_mm=3.0, shape=SMALL),
        split=Split(test_subjects=240),
        phantom=Phantom(
            spacing_mm=2.0,
            pretraining_subjects=1000,
            infarct=Cohort(60, 60),
            meningioma=Cohort(60, 60),
            brain_age=Cohort(200, 60),
        ),
    ),
    objectives=OBJECTIVES,
    families=(ViT(sizes=("s", "l", "2xl")), UNet(levels=5, sizes=("xs", "m", "b"))),
    sizes=("s",),
    durations=(16_000, 32_000, 64_000),
    seeds=(0, 1),
    pretrain=Pretrain(crop=SMALL, batch=64, warmup=3200, augment="all", dtype="bfloat16"),
    tasks=tasks((21, 23, 200), draws=5),
    transfer=Transfer(
        finetune=Finetune(steps=200, batch=4, learning_rates=(3e-4, 1e-3), tuning=(0,)),
        supervised=Finetune(steps=800, batch=4, learning_rates=(3e-4, 1e-3)),
        nsd_tolerance_mm=3.0,
    ),
    execution=Execution(workers=8, accelerator="h100"),
)

full = Study(
    name="fomo25-full",
    data=Data(
        root="data",
        pretraining=(Source("fomo60k"),),
        volumes=Volumes(spacing_mm=1.0, shape=(160, 192, 160)),
        split=Split(test_subjects=200),
        track="method",
        manifest="fomo60k/mapping.tsv",
    ),
    objectives=OBJECTIVES,
    families=(
        ViT(sizes=("l", "2xl", "3xl", "4xl")),
        ResEnc(levels=6, sizes=("s", "m", "b", "l"), patch=32),
    ),
    sizes=("l",),
    durations=(256_000, 512_000, 1_024_000, 2_048_000),
    seeds=(0, 1, 2),
    pretrain=Pretrain(
        crop=FULL, batch=128, warmup=25_600, augment="all", dtype="bfloat16", remat="blocks"
    ),
    tasks=tasks((21, 23, 200), draws=5),
    transfer=Transfer(
        finetune=Finetune(
            steps=400,
            batch=4,
            learning_rates=(3e-4, 1e-4),
            tuning=(0,),
            window=FULL,
            dtype="bfloat16",
        ),
        supervised=Finetune(
            steps=4000, batch=4, learning_rates=(3e-4, 1e-4), window=FULL, dtype="bfloat16"
        ),
        nsd_tolerance_mm=2.0,
    ),
    execution=Execution(mesh=(1, 8), workers=16, accelerator="h100"),
)

scales = {"tiny": tiny, "small": small, "full": full}
