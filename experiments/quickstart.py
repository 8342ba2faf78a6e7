"""A whole scaling study on two CPU cores in about eight minutes, on a synthetic cohort of its own.

Shows:    the complete pipeline: NIfTI files in the FOMO layouts -> cache -> 3 sizes x 3 durations
          x 2 seeds of a 3D MAE, each with its cooldown -> few-shot transfer to infarct, meningioma
          and brain age, against controls -> curves, verdicts, page
Command:  scaling run experiments/quickstart.py
Ends in:  runs/quickstart/report.html
Not for:  conclusions. The cohort was built so that something is seen: meningiomas that longer
          training learns to outline; infarcts so large that the shortest runs see them all, so that
          more budget cannot help; ages of which models this small tell little.
"""

from dataclasses import replace

from scaling import (
    Cohort,
    Data,
    Estimand,
    Infarcts,
    Mae,
    Meningiomas,
    Phantom,
    Pretrain,
    Probe,
    Source,
    Study,
    Task,
    Transfer,
    Volumes,
)
from scaling.study.phantom import FINETUNING_SCANNER

SHAPE = (24, 32, 24)
PHANTOM = Phantom(
    spacing_mm=5.0,
    pretraining_subjects=60,
    # Sites that nobody trained on, with scanners of the labelled cases' make: at unlike scanners
    # the shift would decide, not the models.
    test_scanners=tuple(
        replace(FINETUNING_SCANNER, name=name) for name in ("river", "lake", "coast")
    ),
    infarct=Cohort(48, 20),
    meningioma=Cohort(32, 20),
    brain_age=Cohort(48, 16),
    infarcts=Infarcts(
        median_ml=200.0,
        smallest_ml=150.0,
        largest_ml=250.0,
        adc_ratio=(0.05, 0.1),
        contrast=2.0,
        mimics=0.0,
    ),
    meningiomas=Meningiomas(radius_mm=(18.0, 30.0), contrast=2.0),
)

study = Study(
    name="quickstart",
    data=Data(
        root="runs/quickstart-data",
        pretraining=(Source("fomo60k"),),
        volumes=Volumes(spacing_mm=6.0, shape=SHAPE),
        phantom=PHANTOM,
    ),
    # All voxels as they are: of hidden patches alone, so short a run learns little beyond their
    # mean by place.
    objectives=(Mae(mask_ratio=0.5, loss_on="all", normalise_targets=False),),
    sizes=("xxs", "xs", "s"),
    durations=(1280, 3840, 10240),
    seeds=(0, 1),
    pretrain=Pretrain(crop=SHAPE, batch=16, learning_rate=6e-3, warmup=160, augment="flips"),
    tasks=(
        Task(
            "infarct",
            "classification",
            ("flair", "adc", "dwi_b1000", "t2s|swi"),
            train=Source("fomo-task1"),
            test=(Source("fomo-task1-test"),),
            shots=(40,),
            draws=4,
        ),
        Task(
            "meningioma",
            "segmentation",
            ("flair", "dwi_b1000", "t2s|swi"),
            train=Source("fomo-task2"),
            test=(Source("fomo-task2-test"),),
            shots=(24,),
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
    # The verdict is on what can be read out of frozen features: so short a fine-tuning as there is
    # time for says little of an encoder.
    transfer=Transfer(probe=Probe(neighbours=0), finetune=None, nsd_tolerance_mm=6.0),
    estimand=Estimand(protocol="probe"),
)
