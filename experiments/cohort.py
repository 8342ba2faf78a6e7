"""Does pretraining help on the synthetic cohort, and do size and duration, at lesions as small as in life?

Shows:    "sizes": held-out loss, and what can be read linearly out of frozen features, of 3 sizes x 3 durations of a ViT, against random
          encoders and ridge regression on voxels: infarcts, meningiomas and brain age at two scanners that nobody trained on.
          "finetune": one of them finetuned, against the same from scratch, each at its best of two learning rates.
          `experiments/benchmarks/difficulty.py` says what a network learns from every labelled case
Command:  scaling run experiments/cohort.py --scale sizes|finetune
Ends in:  runs/cohort-SCALE/report.html, each after about half an hour on two CPU cores
"""

from dataclasses import replace

from scaling.study.config import Data, Estimand, Finetune, Pretrain, Source, Study, Task, Transfer, Volumes
from scaling.study.families import ViT
from scaling.study.objectives import Mae
from scaling.study.phantom import Cohort, Phantom

SHAPE = (24, 32, 24)
SLOTS = ("flair", "dwi_b1000", "t2s|swi")
TASKS = (
    Task("infarct", "classification", (*SLOTS, "adc"), Source("fomo-task1"), (Source("fomo-task1-test"),), shots=(32,), draws=5),
    Task("meningioma", "segmentation", SLOTS, Source("fomo-task2"), (Source("fomo-task2-test"),), shots=(16,), draws=5),
    Task("brain-age", "regression", ("t1", "t2"), Source("fomo-task3"), (Source("fomo-task3-test"),), shots=(40,), draws=5),
)

sizes = Study(
    name="cohort-sizes",
    data=Data(
        root="runs/cohort-data",
        pretraining=(Source("fomo60k"),),
        volumes=Volumes(spacing_mm=6.0, shape=SHAPE),
        phantom=Phantom(pretraining_subjects=150, infarct=Cohort(64, 96), meningioma=Cohort(48, 32), brain_age=Cohort(96, 64)),
    ),
    # Half hidden, and all voxels as they are: targets without their mean and contrast leave out what ageing changes.
    objectives=(Mae(mask_ratio=0.5, loss_on="all", normalise_targets=False),),
    families=(ViT(patch=4),),
    sizes=("xxs", "xs", "s"),
    durations=(4_000, 8_000, 16_000),
    pretrain=Pretrain(crop=SHAPE, batch=16, warmup=1600, augment="flips"),
    tasks=TASKS,
    transfer=Transfer(finetune=None, nsd_tolerance_mm=6.0),
    estimand=Estimand(protocol="probe"),
)

finetune = replace(
    sizes,
    name="cohort-finetune",
    sizes=("xs",),
    durations=(16_000,),
    tasks=tuple(replace(task, draws=3) for task in TASKS),
    transfer=replace(sizes.transfer, finetune=Finetune(learning_rates=(3e-3, 1e-2))),
    estimand=Estimand(protocol="finetune"),
)

scales = {"sizes": sizes, "finetune": finetune}
