"""The smallest study that goes through everything: what the end-to-end tests run."""

from scaling.study.config import (
    Data,
    Execution,
    Finetune,
    Pretrain,
    Source,
    Study,
    Task,
    Transfer,
    Volumes,
)
from scaling.study.phantom import TEST_SCANNERS, Cohort, Phantom

SHAPE = (24, 24, 24)


def task(number: int, name: str, kind: str, sequences: tuple[str, ...], shots: int) -> Task:
    return Task(
        name,
        kind,
        sequences,
        Source(f"fomo-task{number}"),
        (Source(f"fomo-task{number}-test"),),
        shots=(shots,),
        draws=2,
    )  # type: ignore[arg-type]


study = Study(
    name="micro",
    data=Data(
        root="cohort",
        pretraining=(Source("fomo60k"),),
        volumes=Volumes(spacing_mm=8.0, shape=SHAPE),
        phantom=Phantom(
            spacing_mm=6.0,
            pretraining_subjects=8,
            test_scanners=TEST_SCANNERS[:2],
            infarct=Cohort(6, 4),
            meningioma=Cohort(4, 2),
            brain_age=Cohort(6, 4),
        ),
    ),
    sizes=("xxs",),
    durations=(160, 320),
    tasks=(
        task(1, "infarct", "classification", ("flair", "dwi_b1000"), 4),
        task(2, "meningioma", "segmentation", ("flair",), 3),
        task(3, "brain-age", "regression", ("t1", "t2"), 4),
    ),
    pretrain=Pretrain(crop=SHAPE, batch=8, warmup=32),
    transfer=Transfer(
        finetune=Finetune(steps=4, batch=2, learning_rates=(1e-3,), augment="flips"),
        nsd_tolerance_mm=8.0,
    ),
    execution=Execution(checkpoint_every=4, log_every=1, workers=1),
)
