"""Does pretraining help on the synthetic cohort, at lesions as small as in life?

Shows:    held-out loss, and what can be read linearly out of frozen features, of 3 sizes x 3 durations of a ViT and of one U-Net, against
          random encoders and ridge regression on voxels: infarcts, meningiomas and brain age at two scanners that nobody trained on.
          `experiments/benchmarks/difficulty.py` says what the same networks learn from every labelled case
Command:  scaling run experiments/cohort.py
Ends in:  runs/cohort/report.html, after about half an hour on two CPU cores; with `--set name=cohort-finetune --set 'durations=[16000]'
          --set 'families=[{"kind":"unet","levels":3,"patch":4,"sizes":["xs"]}]'
          --set 'transfer.finetune={"learning_rates":[1e-3,1e-2],"augment":"flips"}' finetuning from pretraining and from scratch as well
"""

from scaling.study.config import Data, Estimand, Pretrain, Source, Study, Task, Transfer, Volumes
from scaling.study.families import UNet, ViT
from scaling.study.objectives import Mae
from scaling.study.phantom import Cohort, Phantom

SHAPE = (24, 32, 24)
SLOTS = ("flair", "dwi_b1000", "t2s|swi")
TASKS = (
    Task("infarct", "classification", (*SLOTS, "adc"), Source("fomo-task1"), (Source("fomo-task1-test"),), shots=(32,), draws=5),
    Task("meningioma", "segmentation", SLOTS, Source("fomo-task2"), (Source("fomo-task2-test"),), shots=(16,), draws=5),
    Task("brain-age", "regression", ("t1", "t2"), Source("fomo-task3"), (Source("fomo-task3-test"),), shots=(40,), draws=5),
)

study = Study(
    name="cohort",
    data=Data(
        root="runs/cohort-data",
        pretraining=(Source("fomo60k"),),
        volumes=Volumes(spacing_mm=6.0, shape=SHAPE),
        phantom=Phantom(pretraining_subjects=150, infarct=Cohort(64, 48), meningioma=Cohort(48, 24), brain_age=Cohort(96, 48)),
    ),
    objectives=(Mae(mask_ratio=0.5, loss_on="all", normalise_targets=False),),
    families=(ViT(patch=4), UNet(levels=3, patch=4, sizes=("xs",))),
    sizes=("xxs", "xs", "s"),
    durations=(4_000, 8_000, 16_000),
    pretrain=Pretrain(crop=SHAPE, batch=16, warmup=1600, augment="flips"),
    tasks=TASKS,
    transfer=Transfer(finetune=None, nsd_tolerance_mm=6.0),
    estimand=Estimand(protocol="probe"),
)
