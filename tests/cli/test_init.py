"""From a folder of scans to an experiment file that can be planned."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scaling.cli.draft import durations_for, sizes_for
from scaling.runs.experiment import load_study
from tests.conftest import scaling


def write_bids(root: Path, people: int) -> None:
    """Heads of 12 mm voxels in T1 and FLAIR, with age, sex and site."""
    rng = np.random.default_rng(0)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in (14, 16, 14)), indexing="ij")
    head = np.sqrt(sum(axis**2 for axis in axes)) < 0.8
    rows = ["participant_id\tage\tsex\tsite"]
    for person in range(1, people + 1):
        folder = root / f"sub-{person:02}" / "anat"
        folder.mkdir(parents=True)
        for suffix in ("T1w", "FLAIR"):
            volume = head * (100 + 10 * rng.normal(size=head.shape))
            image = nib.Nifti1Image(volume.astype(np.float32), np.diag([12.0, 12.0, 12.0, 1.0]))
            nib.save(image, folder / f"sub-{person:02}_{suffix}.nii.gz")
        rows.append(f"sub-{person:02}\t{20 + 5 * person}\t{'MF'[person % 2]}\tclinic")
    (root / "participants.tsv").write_text("\n".join(rows) + "\n")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("init")
    write_bids(folder / "bids", 12)
    done = scaling("init", "bids", folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Wrote bids.py" in done.stdout
    return folder


def test_init_fills_in_what_the_check_found(written: Path) -> None:
    study = load_study(written / "bids.py")
    assert study.name == "bids"
    assert Path(study.data.root) == (written / "bids").resolve()
    assert study.data.split.test_subjects == 4
    (task,) = study.tasks
    assert (task.name, task.kind, task.label) == ("brain-age", "regression", "age")
    assert set(task.sequences) == {"t1", "flair"}
    assert task.shots == (7,)  # of the 8 people who are not held out
    assert study.estimand.domain == "in"
    text = (written / "bids.py").read_text()
    assert '#   label="sex", classes=("F", "M"): F 6, M 6 people' in text
    assert max(map(len, text.splitlines())) <= 110


def test_init_writes_a_study_that_can_be_planned(written: Path) -> None:
    done = scaling("plan", "bids.py", folder=written)
    assert done.returncode == 0, done.stderr
    assert "brain-age" in done.stdout


def test_init_does_not_overwrite(written: Path) -> None:
    before = (written / "bids.py").read_text()
    done = scaling("init", "bids", folder=written)
    assert done.returncode == 2
    assert "bids.py exists already" in done.stderr
    assert (written / "bids.py").read_text() == before


def test_init_of_an_empty_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = scaling("init", "empty", folder=tmp_path)
    assert done.returncode == 2
    assert "holds no scans" in done.stderr
    assert not (tmp_path / "empty.py").exists()


@pytest.mark.parametrize("scans", [1, 12, 199, 3_000, 60_000])
def test_durations_double_and_fit_the_batch_and_its_decay(scans: int) -> None:
    first, second, third = durations_for(scans)
    assert (second, third) == (2 * first, 4 * first)
    assert first >= max(1600, 20 * scans)
    assert first % 80 == 0


def test_sizes_grow_with_the_number_of_scans() -> None:
    assert sizes_for(24)[-1] == "s"
    assert sizes_for(60_000)[-1] == "xl"
