"""A whole scaling study on two CPU cores in about ten minutes, on a synthetic cohort of its own.

Shows:    the complete pipeline: NIfTI files in the FOMO layouts -> cache -> 3 sizes x 3 durations
          of a 3D MAE, each with its cooldown -> few-shot transfer to infarct, meningioma and brain
          age, against controls -> curves, verdicts, page
Command:  scaling run experiments/quickstart.py
Ends in:  runs/quickstart/report.html
Not for:  conclusions. Models and durations are tiny; most verdicts are rightly "undetermined".
"""

from scaling import (
    Cohort,
    Data,
    Estimand,
    Finetune,
    Infarcts,
    Mae,
    Meningiomas,
    Phantom,
    Pretrain,
    Source,
    Study,
    Task,
    Transfer,
    Volumes,
)

SHAPE = (32, 40, 32)
# Lesions larger and clearer than in life, so that models this small can see them.
PHANTOM = Phantom(
    pretraining_subjects=60,
    infarct=Cohort(32, 12),
    meningioma=Cohort(24, 8),
    brain_age=Cohort(60, 12),
    infarcts=Infarcts(median_ml=40.0, smallest_ml=10.0, mimics=0.2, contrast=1.5),
    meningiomas=Meningiomas(radius_mm=(14.0, 26.0), contrast=1.5),
)

study = Study(
    name="quickstart",
    data=Data(
        root="runs/quickstart-data",
        pretraining=(Source("fomo60k"),),
        volumes=Volumes(spacing_mm=5.0, shape=SHAPE),
        phantom=PHANTOM,
    ),
    # All voxels as they are: of hidden patches alone, so short a run learns little beyond their
    # mean by place.
    objectives=(Mae(mask_ratio=0.5, loss_on="all", normalise_targets=False),),
    sizes=("xxs", "xs", "s"),
    durations=(2400, 4800, 9600),
    pretrain=Pretrain(crop=SHAPE, batch=16, learning_rate=6e-3, warmup=640, augment="flips"),
    tasks=(
        Task(
            "infarct",
            "classification",
            ("flair", "adc", "dwi_b1000", "t2s|swi"),
            train=Source("fomo-task1"),
            test=(Source("fomo-task1-test"),),
            shots=(16,),
        ),
        Task(
            "meningioma",
            "segmentation",
            ("flair", "dwi_b1000", "t2s|swi"),
            train=Source("fomo-task2"),
            test=(Source("fomo-task2-test"),),
            shots=(16,),
        ),
        Task(
            "brain-age",
            "regression",
            ("t1", "t2"),
            train=Source("fomo-task3"),
            test=(Source("fomo-task3-test"),),
            shots=(40,),
        ),
    ),
    transfer=Transfer(
        finetune=Finetune(steps=30, batch=4, learning_rates=(1e-2,), augment="flips"),
        nsd_tolerance_mm=5.0,
    ),
    # So short a finetune says little of an encoder: the verdict is on what can be read out of its
    # frozen features.
    estimand=Estimand(protocol="probe"),
)
