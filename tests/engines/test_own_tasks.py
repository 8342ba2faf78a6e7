"""From an empty folder to a page: sex, a diagnosis of three classes and white-matter
hyperintensities of a BIDS folder, by an experiment file of fewer than 30 lines.
"""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from tests.conftest import scaling

EXPERIMENT = """
from scaling import Data, Estimand, Finetune, Pretrain, Probe, Source, Study
from scaling import Task, Transfer, Volumes

shape = (16, 16, 16)
mine, others = Source("bids"), (Source("bids-others"),)
groups = ("sex", "age:50,70")
study = Study(
    name="mine",
    data=Data("data", (mine,), Volumes(8.0, shape)),
    sizes=("xxs",),
    durations=(80,),
    tasks=(
        Task("sex", "classification", ("t1",), mine, others, (6,), 2, "sex", classes=("F", "M")),
        Task("diagnosis", "classification", ("t1",), mine, others, (9,), 2, "diagnosis",
             classes=("CN", "MCI", "AD"), groups=groups),
        Task("wmh", "segmentation", ("flair",), mine, others, (4,), 2,
             volumes=Volumes(4.0, (32, 32, 32))),
    ),
    pretrain=Pretrain(crop=shape, batch=8, warmup=8),
    transfer=Transfer(finetune=Finetune(steps=4, batch=2, learning_rates=(1e-3,))),
    estimand=Estimand(protocol="probe"),
)
"""


def write_bids(folder: Path, people: int, seed: int) -> None:
    """A BIDS folder of heads of 96 mm whose left half is brighter in men, whose top is darker the
    worse the diagnosis, and whose FLAIR has bright spots of 8 mm.
    """
    rng = np.random.default_rng(seed)
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    rows = []
    for number in range(people):
        subject = f"sub-{seed}{number:02d}"
        sex, diagnosis = "FM"[number % 2], number % 3
        t1 = np.zeros((30, 30, 30), np.float32)
        t1[3:27, 3:27, 3:27] = rng.normal(100, 5, (24, 24, 24))
        t1[3:15, 3:27, 3:27] += 20 * (sex == "M")
        t1[3:27, 3:27, 18:27] -= 20 * diagnosis
        flair, mask = t1.copy(), np.zeros(t1.shape, np.uint8)
        for corner in rng.integers(6, 22, (3, 3)):
            spot = tuple(slice(start, start + 2) for start in corner)
            flair[spot], mask[spot] = 200, 1
        for suffix, voxels in (("T1w", t1), ("FLAIR", flair)):
            file = folder / subject / "anat" / f"{subject}_{suffix}.nii.gz"
            file.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(voxels, affine), file)
        label = folder / "labels" / subject / "seg.nii.gz"
        label.parent.mkdir(parents=True)
        nib.save(nib.Nifti1Image(mask, affine), label)
        rows.append((subject, f"site-{seed}", sex, 40 + number, ("CN", "MCI", "AD")[diagnosis]))
    columns = ["participant_id", "site", "sex", "age", "diagnosis"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "participants.tsv", sep="\t", index=False)


@pytest.mark.slow
def test_three_tasks_of_a_bids_folder_go_from_files_to_a_page(tmp_path: Path) -> None:
    assert len(EXPERIMENT.strip().splitlines()) < 30
    write_bids(tmp_path / "data" / "bids", 18, 1)
    write_bids(tmp_path / "data" / "bids-others", 12, 2)
    (tmp_path / "mine.py").write_text(EXPERIMENT)
    done = scaling("run", "mine.py", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    study = tmp_path / "runs" / "mine"
    results = pd.read_parquet(study / "results.parquet")
    metrics = results.groupby("task")["metric"].unique().map(set).to_dict()
    assert metrics["sex"] == {"auroc"}
    assert metrics["diagnosis"] == {"macro_auroc", "macro_f1"}
    assert metrics["wmh"] == {"dice", "nsd"}
    classical = results[(results["arm"] == "classical")].groupby(["task", "metric"])["value"].min()
    assert classical["sex", "auroc"] > 0.9
    # MCI lies between the others, so that no line tells it from the rest: 0.83 at best.
    assert classical["diagnosis", "macro_auroc"] > 0.6
    predictions = pd.read_parquet(study / "predictions.parquet")
    diagnosis = predictions[predictions["task"] == "diagnosis"]
    assert set(diagnosis["group_sex"]) == {"f", "m"}
    assert set(diagnosis["group_age"]) == {"<=50", "50-70"}
    assert (study / "groups.parquet").exists()
    fairness = pd.read_parquet(study / "fairness.parquet")
    assert fairness["fairness"].between(0, 1).all()
    page = (study / "report.html").read_text()
    assert page.count('<details class="classes">') == 2
    assert page.count('<details class="groups">') == 1
    # Masks are read on the grid of their task alone, not on the coarser one of pretraining.
    assert "8 x 8 x 8 mm" not in (study / "prepare" / "skipped.json").read_text()
