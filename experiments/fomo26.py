"""The FOMO26 challenge as a designed experiment: its seven tasks, one factor at a time.

Shows:    sizes x durations of one recipe, tried on acute infarct, meningioma, brain age, nerve and
          vessel in trigeminal neuralgia, polymicrogyria, and a probe of cohorts whose fairness
          between sexes and ages stands beside its score; at sites that nobody trained on, against
          scratch, random features and classical features
Command:  scaling run experiments/fomo26.py --scale tiny     on two CPU cores, a synthetic cohort
          scaling run experiments/fomo26.py --scale small    on one H100, a synthetic cohort
          scaling run experiments/fomo26.py --scale full --set data.root=FOLDER --engine slurm \
              --cluster FACTS.toml
          on FOMO300K (FOLDER/fomo300k, unpacked by `scaling data unpack`), the fine-tuning sets
          (FOLDER/Task_1 ... Task_5) and test cases of one's own in the same layout
          (FOLDER/Task_1-test, ..., FOLDER/Task_6 with a column selected_cohort)
Ends in:  runs/fomo26-tiny/report.html; then `scaling export CHECKPOINT --challenge fomo26 --check`
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
    ViT,
    Volumes,
)
from scaling.study.objectives import Contrastive, Hybrid, Mae
from scaling.study.phantom import Cohort, Infarcts, Meningiomas, Nerves, Phantom

TINY, SMALL, FULL = (24, 24, 24), (48, 64, 48), (96, 96, 96)


def tasks(
    shots: dict[str, int], draws: int, nerves: Volumes, split: bool = False
) -> tuple[Task, ...]:
    """The challenge's tasks; 6 and 7 are one, whose groups are those of the fairness score.

    `nerves` is the grid of task 4, whose structures are 1 to 3 mm wide. With `split` a part of the
    test folders is what the supervised control in domain learns from.
    """

    def task(number: int, name: str, kind: str, sequences: tuple[str, ...], **more: object) -> Task:
        folder = f"Task_{number}"
        test = Source(f"{folder}-test", "test" if split else "all")
        inside = (Source(f"{folder}-test", "train"),) if split else ()
        return Task(
            name,
            kind,
            sequences,
            Source(folder),
            (test,),
            (shots[name],),
            draws,
            inside=inside,
            **more,
        )

    return (
        task(1, "infarct", "classification", ("flair", "adc", "dwi_b1000", "t2s|swi")),
        task(2, "meningioma", "segmentation", ("flair", "dwi_b1000", "t2s|swi")),
        task(3, "brain-age", "regression", ("t1",)),
        task(4, "neuralgia", "segmentation", ("t2",), classes=("nerve", "vessel"), volumes=nerves),
        task(5, "polymicrogyria", "classification", ("t1",)),
        task(
            6,
            "cohort",
            "classification",
            ("t1|t2",),
            label="selected_cohort",
            classes=("control", "atrophy", "tumour"),
            groups=("sex", "age:45,65"),
        ),
    )


# The challenge's numbers of labelled cases; of task 6 the probe's 80 training cases a class.
CASES = {
    "infarct": 21,
    "meningioma": 23,
    "brain-age": 494,
    "neuralgia": 40,
    "polymicrogyria": 48,
    "cohort": 240,
}

tiny = Study(
    name="fomo26-tiny",
    data=Data(
        root="runs/fomo26-tiny-data",
        pretraining=(Source("fomo300k"),),
        volumes=Volumes(spacing_mm=8.0, shape=TINY),
        # Findings larger and clearer than in life, as in the quickstart.
        phantom=Phantom(
            challenge="fomo26",
            pretraining_subjects=48,
            infarct=Cohort(24, 4),
            meningioma=Cohort(16, 3),
            brain_age=Cohort(32, 4),
            nerve=Cohort(10, 2),
            polymicrogyria=Cohort(24, 4),
            diagnosis=Cohort(12, 2),
            infarcts=Infarcts(median_ml=40.0, smallest_ml=10.0, mimics=0.2, contrast=1.5),
            meningiomas=Meningiomas(radius_mm=(14.0, 26.0), contrast=1.5),
            nerves=Nerves(nerve_mm=(3.0, 4.0), vessel_mm=(2.0, 3.0)),
        ),
    ),
    objectives=(Mae(mask_ratio=0.5, loss_on="all", normalise_targets=False),),
    families=(ViT(patch=4),),
    sizes=("xxs", "xs"),
    durations=(1600, 3200),
    pretrain=Pretrain(crop=TINY, batch=16, learning_rate=6e-3, warmup=640),
    tasks=tasks(
        {
            "infarct": 21,
            "meningioma": 12,
            "brain-age": 24,
            "neuralgia": 8,
            "polymicrogyria": 20,
            "cohort": 30,
        },
        draws=2,
        nerves=Volumes(spacing_mm=1.5, shape=(40, 28, 20)),
    ),
    transfer=Transfer(
        finetune=Finetune(steps=20, batch=4, learning_rates=(1e-2,), augment="flips"),
        nsd_tolerance_mm=8.0,
    ),
    # So short a finetune says little of an encoder: the verdict is on what can be read out of its
    # frozen features.
    estimand=Estimand(protocol="probe"),
)

small = Study(
    name="fomo26-small",
    data=Data(
        root="runs/fomo26-small-data",
        pretraining=(Source("fomo300k"),),
        volumes=Volumes(spacing_mm=3.0, shape=SMALL),
        phantom=Phantom(
            challenge="fomo26",
            spacing_mm=2.0,
            pretraining_subjects=1000,
            infarct=Cohort(60, 30),
            meningioma=Cohort(60, 30),
            brain_age=Cohort(200, 30),
            nerve=Cohort(40, 10),
            polymicrogyria=Cohort(60, 30),
            diagnosis=Cohort(80, 20),
        ),
    ),
    objectives=(Mae(), Contrastive(), Hybrid()),
    families=(ViT(sizes=("s", "l", "2xl")),),
    sizes=("s",),
    durations=(16_000, 32_000, 64_000),
    seeds=(0, 1),
    pretrain=Pretrain(crop=SMALL, batch=64, warmup=3200, augment="all", dtype="bfloat16"),
    tasks=tasks(
        CASES | {"brain-age": 200}, draws=5, nerves=Volumes(spacing_mm=0.6, shape=(96, 64, 48))
    ),
    transfer=Transfer(
        finetune=Finetune(steps=200, batch=4, learning_rates=(3e-4, 1e-3), tuning=(0,)),
        nsd_tolerance_mm=3.0,
    ),
    execution=Execution(workers=8, accelerator="h100"),
)

full = Study(
    name="fomo26-full",
    data=Data(
        root="data",
        pretraining=(Source("fomo300k"),),
        volumes=Volumes(spacing_mm=1.0, shape=(160, 192, 160)),
        split=Split(test_subjects=100),
        track="method",
        challenge="fomo26",
        manifest="fomo300k",
    ),
    objectives=(Mae(), Contrastive(), Hybrid()),
    families=(
        ViT(sizes=("l", "2xl", "3xl", "4xl")),
        ResEnc(levels=6, sizes=("s", "m", "b", "l"), patch=32),
    ),
    sizes=("l",),
    durations=(512_000, 1_024_000, 2_048_000, 4_096_000),
    seeds=(0, 1, 2),
    pretrain=Pretrain(
        crop=FULL, batch=128, warmup=25_600, augment="all", dtype="bfloat16", remat="blocks"
    ),
    tasks=tasks(
        CASES,
        draws=5,
        nerves=Volumes(spacing_mm=0.5, shape=(192, 160, 128)),
        split=True,
    ),
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
        nsd_tolerance_mm=1.0,
    ),
    execution=Execution(mesh=(1, 8), workers=16, accelerator="h100"),
)

scales = {"tiny": tiny, "small": small, "full": full}
"""The study at three costs."""
