"""Does pretraining help on the synthetic cohort, and which objective, size and duration?

Shows:    "objectives": 3 objectives x 2 backbones at one size and duration, and what can be read
          linearly out of their frozen features, against random encoders and ridge regression on
          voxels: infarcts (as small as in life), meningiomas and brain age at five scanners that
          nobody trained on.
          "sizes": held-out loss and frozen features of 3 sizes x 3 durations of cross-sequence
          reconstruction on the ViT.
          "finetune": it finetuned, against the same encoder from scratch, each at its best of two
          learning rates.
          "decoders": loss and features of a masked autoencoder under a thinner and a thicker
          decoder than the usual one.
          `experiments/benchmarks/difficulty.py` says what a network learns from every labelled case
Command:  scaling run experiments/cohort.py --scale objectives|sizes|finetune|decoders
Ends in:  runs/cohort-SCALE/report.html, after an hour on a CPU core; sizes take one and a half,
          finetune two and a half
"""

from dataclasses import replace

from scaling.study.config import (
    Data,
    Estimand,
    Finetune,
    Pretrain,
    Source,
    Study,
    Task,
    Transfer,
    Volumes,
)
from scaling.study.families import UNet, ViT
from scaling.study.objectives import Contrastive, CrossSequence, Hybrid, Mae
from scaling.study.phantom import Cohort, Phantom

SHAPE = (24, 32, 24)
SLOTS = ("flair", "dwi_b1000", "t2s|swi")

# Mask half of the patches; reconstruct all voxels, unnormalised: targets without their mean and
# contrast leave out what ageing changes.
MASKED = Mae(mask_ratio=0.5, loss_on="all", normalise_targets=False)
HYBRID = Hybrid(reconstruction=MASKED, contrast=Contrastive(positives="sequences"))
CROSS = CrossSequence(reconstruction=MASKED)
VIT = ViT(patch=4)

objectives = Study(
    name="cohort-objectives",
    data=Data(
        root="runs/cohort-data",
        pretraining=(Source("fomo60k"),),
        volumes=Volumes(spacing_mm=6.0, shape=SHAPE),
        phantom=Phantom(
            pretraining_subjects=300,
            infarct=Cohort(256, 64),
            meningioma=Cohort(64, 32),
            brain_age=Cohort(128, 48),
        ),
    ),
    objectives=(MASKED, HYBRID, CROSS),
    families=(VIT, UNet(levels=3, patch=4, skips=False)),
    sizes=("xs",),
    durations=(16_000,),
    pretrain=Pretrain(crop=SHAPE, batch=16, learning_rate=6e-3, warmup=1600, augment="flips"),
    tasks=(
        Task(
            "infarct",
            "classification",
            (*SLOTS, "adc"),
            Source("fomo-task1"),
            (Source("fomo-task1-test"),),
            shots=(128,),
            draws=5,
        ),
        Task(
            "meningioma",
            "segmentation",
            SLOTS,
            Source("fomo-task2"),
            (Source("fomo-task2-test"),),
            shots=(16,),
            draws=5,
        ),
        Task(
            "brain-age",
            "regression",
            ("t1", "t2"),
            Source("fomo-task3"),
            (Source("fomo-task3-test"),),
            shots=(40,),
            draws=5,
        ),
    ),
    transfer=Transfer(finetune=None, nsd_tolerance_mm=6.0),
    estimand=Estimand(protocol="probe"),
)

sizes = replace(
    objectives,
    name="cohort-sizes",
    objectives=(CROSS,),
    families=(VIT,),
    sizes=("xxs", "xs", "s"),
    durations=(16_000, 32_000, 64_000),
)

finetune = replace(
    sizes,
    name="cohort-finetune",
    sizes=("xs",),
    durations=(32_000,),
    transfer=replace(
        objectives.transfer, finetune=Finetune(steps=150, learning_rates=(3e-3, 1e-2))
    ),
    estimand=Estimand(protocol="finetune"),
)

decoders = replace(
    objectives,
    name="cohort-decoders",
    objectives=(MASKED,),
    families=(
        replace(VIT, name="decoder-32x1", decoder_width=32, decoder_depth=1),
        replace(VIT, name="decoder-64x2"),
        replace(VIT, name="decoder-128x4", decoder_width=128, decoder_depth=4),
    ),
)

scales = {"objectives": objectives, "sizes": sizes, "finetune": finetune, "decoders": decoders}
