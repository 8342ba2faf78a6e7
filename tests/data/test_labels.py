"""Classes, masks of several labels, groups, folds and grids of a task."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from scaling.data.dealing import fold_numbers
from scaling.data.folds import folds
from scaling.data.grids import open_grid
from scaling.data.reading import UnreadableVolume, read_mask
from scaling.data.tasks import Cases, TaskArrays, class_shares, load_task, task_volumes
from scaling.data.volume import mask_to_grid
from scaling.engines.preparing import prepare_study, without_unread_masks
from scaling.runs.steps import PrepareStep
from scaling.study.config import Data, Source, Task, Volumes

AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
GRID = Volumes(8.0, (16, 16, 16))
FINE = Volumes(4.0, (24, 24, 24))


def save(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return path


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0, 1), (0, 1)),
        ((0.0, 0.9999999998), (0, 1)),
        ((0, 255), (0, 1)),
        ((0, 1, 2), (0, 1, 2)),
        ((0, 2.0004), (0, 2)),
        ((0, 17, 255), (0, 17, 255)),
        ((0, np.nan, 1), (0, 1)),
    ],
)
def test_mask_is_read_as_whole_labels(tmp_path: Path, values: tuple, expected: tuple) -> None:
    voxels = np.resize(np.array(values, np.float64), (8, 8, 8))
    read = read_mask(save(tmp_path / "seg.nii.gz", voxels)).voxels
    np.testing.assert_array_equal(np.unique(read), expected)
    labels = np.nan_to_num(voxels) > 0.5
    np.testing.assert_array_equal(read > 0, labels)


@pytest.mark.parametrize(
    ("values", "named"), [((0, 0.5, 1), "0.5"), ((0, -1), "-1"), ((0, 1035), "1035")]
)
def test_mask_of_anything_else_is_refused_with_its_values(
    tmp_path: Path, values: tuple, named: str
) -> None:
    path = save(tmp_path / "seg.nii.gz", np.resize(np.array(values, np.float32), (8, 8, 8)))
    with pytest.raises(UnreadableVolume, match=rf"seg.nii.gz is no mask: .* hold {named}"):
        read_mask(path)


def test_labels_on_a_coarse_grid_are_those_with_the_largest_share(tmp_path: Path) -> None:
    voxels = np.zeros((16, 16, 16), np.uint8)
    voxels[4:8, 4:12, 4:12], voxels[8:12, 4:12, 4:12] = 1, 2
    mask = read_mask(save(tmp_path / "seg.nii.gz", voxels))
    # An axis-aligned grid of twice the voxel size, of which two small voxels fill one.
    grid = np.diag([8.0, 8.0, 8.0, 1.0])
    grid[:3, 3] = 2.0
    coarse = mask_to_grid(mask, Volumes(8.0, (8, 8, 8)), grid)
    expected = np.zeros((8, 8, 8), np.uint8)
    expected[2:4, 2:6, 2:6], expected[4:6, 2:6, 2:6] = 1, 2
    inner = (slice(2, 6), slice(3, 5), slice(3, 5))
    np.testing.assert_array_equal(coarse[inner], expected[inner])
    assert set(np.unique(coarse)) == {0, 1, 2}


def test_shots_are_shared_between_classes() -> None:
    assert class_shares(np.array([10, 10, 10]), 6) == [2, 2, 2]
    assert class_shares(np.array([90, 9, 1]), 10) == [8, 1, 1]
    assert class_shares(np.array([3, 2, 1]), 6) == [3, 2, 1]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sites of six people with a T2 scan, sex and age, and a mask: a large label 1, and a label
    2 of two voxels of 4 mm.
    """
    folder, rng = tmp_path_factory.mktemp("labelled"), np.random.default_rng(0)
    for site in ("a", "b"):
        people = []
        for number in range(6):
            subject = f"sub-{site}{number}"
            scan = np.zeros((24, 24, 24), np.float32)
            scan[4:20, 4:20, 4:20] = rng.normal(100, 10, (16, 16, 16))
            mask = np.zeros((24, 24, 24), np.uint8)
            mask[6:10, 6:10, 6:10], mask[12:14, 12, 12] = 1, 2
            save(folder / site / "preprocessed" / subject / "ses_1" / "t2.nii.gz", scan)
            save(folder / site / "labels" / subject / "ses_1" / "seg.nii.gz", mask)
            people.append((subject, "MF"[number % 2], 30 + 10 * number))
        table = pd.DataFrame(people, columns=["participant_id", "sex", "age"])
        table.to_csv(folder / site / "participants.tsv", sep="\t", index=False)
    return folder


def task(name: str, kind: str, **fields: object) -> Task:
    common = {
        "sequences": ("t2",),
        "train": Source("a"),
        "test": (Source("b"),),
        "shots": (4,),
        "draws": 1,
    }
    return Task(name, kind, **(common | fields))  # type: ignore[arg-type]


def prepared(root: Path, folder: Path, *tasks: Task, domain: str = "out") -> Data:
    data = Data(str(root), (Source("a"),), volumes=GRID)
    folder.mkdir(exist_ok=True)
    prepare_study(folder, PrepareStep(data, tasks), domain, 1, lambda done, total: None)
    return data


def test_every_mistake_of_every_task_is_told_at_once(root: Path, tmp_path: Path) -> None:
    wrong = {
        "undeclared": (task("undeclared", "segmentation"), "seg.nii.gz holds the value 2"),
        "absent": (
            task("absent", "classification", label="sex", classes=("F", "M", "X")),
            "no training case of class X",
        ),
        "word": (
            task("word", "classification", label="sex", classes=("F", "W")),
            "'M'; expected F or W",
        ),
        "column": (task("column", "regression", label="weight"), "label='weight'"),
        "sequence": (
            task("sequence", "regression", label="age", sequences=("pet",)),
            "sequence 'pet'",
        ),
        "shots": (task("shots", "regression", label="age", shots=(9,)), "wants shots=9"),
        "group": (task("group", "regression", label="age", groups=("tribe",)), "'tribe'"),
        "inside": (
            task("inside", "regression", label="age", train=Source("b"), test=(Source("a"),)),
            "",
        ),
    }
    with pytest.raises(ValueError) as told:
        prepared(root, tmp_path / "prepare", *(one for one, _ in wrong.values()))
    sentences = str(told.value).split("\n")
    assert len(sentences) == len(wrong) - 1
    for sentence, (name, (_, words)) in zip(sentences, wrong.items(), strict=False):
        assert f"task {name!r}" in sentence
        assert words in sentence


def test_a_domain_without_test_cases_is_told(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no test case of its training sites"):
        prepared(root, tmp_path / "in", task("age", "regression", label="age"), domain="in")


def test_tasks_have_grids_of_their_own_and_can_be_added(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "prepare"
    coarse = task("coarse", "segmentation", classes=("nerve", "vessel"))
    data = prepared(root, folder, coarse)
    before = (folder / "cache" / "index.parquet").read_bytes()
    fine = task("fine", "segmentation", classes=("vessel=2", "nerve=1"), volumes=FINE)
    prepared(root, folder, coarse, fine)
    assert (folder / "cache" / "index.parquet").read_bytes() == before
    arrays = {}
    for one in (coarse, fine):
        arrays[one.name] = load_task(open_grid(folder, task_volumes(one, data)), one, data).train
    # Two voxels of 4 mm are a fifth of a voxel of 8 mm: the coarse grid loses the vessel.
    np.testing.assert_array_equal(arrays["coarse"].emptied, [[False, True]] * 6)
    assert set(np.unique(arrays["coarse"].labels)) == {0, 1}
    assert not arrays["fine"].emptied.any()
    assert (arrays["fine"].labels == 1).sum((1, 2, 3)).tolist() == [2] * 6
    assert "vanish" in (folder / "grids.json").read_text()


def test_folds_predict_every_subject_once_and_keep_classes() -> None:
    n = 12
    labels = np.array([0, 0, 0, 1, 1, 1] * 2, np.float32)
    ids = [f"s/sub-{i // 2}/ses-{i % 2}" for i in range(n)]
    labels = np.repeat(labels[::2][:6], 2)
    images = np.zeros((n, 1, 2, 2, 2), np.float16)
    cases = Cases(ids, ["x"] * n, images, np.ones((n, 1), bool), labels)
    one = task("folded", "classification", label="sex", test=(), folds=3, shots=(2,))
    people = [case.rsplit("/", 1)[0] for case in ids]
    numbers = fold_numbers(people, cases.labels, one.name, 3)
    assert all(len(set(numbers[2 * i : 2 * i + 2])) == 1 for i in range(n // 2))
    tested = [
        case
        for fold in folds(TaskArrays(cases, cases, np.ones(n, bool), ()), one)
        for case in fold.test.ids
        if not set(fold.test.ids) & set(fold.train.ids)
    ]
    assert sorted(tested) == sorted(ids)


@pytest.mark.parametrize(("held_out", "count"), [(0.25, 3), (4, 4), (0.01, 1)])
def test_held_out_subjects_are_tested_once_and_are_of_every_class(
    held_out: float, count: int
) -> None:
    n = 24
    ids = [f"s/sub-{i // 2}/ses-{i % 2}" for i in range(n)]
    labels = np.repeat(np.arange(12) % 2, 2).astype(np.float32)
    cases = Cases(ids, ["x"] * n, np.zeros((n, 1, 2, 2, 2), np.float16), np.ones((n, 1)), labels)
    one = task("part", "classification", label="sex", test=(), held_out=held_out, shots=(2,))
    (divided,) = folds(TaskArrays(cases, cases, np.ones(n, bool), ()), one)
    assert len({case.rsplit("/", 1)[0] for case in divided.test.ids}) == count
    assert sorted([*divided.test.ids, *divided.train.ids]) == sorted(ids)
    assert not {case.rsplit("/", 1)[0] for case in divided.test.ids} & {
        case.rsplit("/", 1)[0] for case in divided.train.ids
    }
    if count > 1:
        assert abs(divided.test.labels.mean() - 0.5) < 0.2


def test_held_out_cases_are_no_shots_and_need_every_class(root: Path, tmp_path: Path) -> None:
    fields = {"label": "sex", "classes": ("F", "M"), "test": ()}
    half = task("half", "classification", held_out=0.5, shots=(3,), **fields)
    more = task("more", "classification", held_out=4, shots=(3,), **fields)
    single = task("single", "classification", held_out=1, shots=(3,), **fields)
    with pytest.raises(ValueError) as told:
        prepared(root, tmp_path / "prepare", half, more, single)
    too_few, one_class = str(told.value).split("\n")
    assert "'more' has 2 training cases and wants shots=3" in too_few
    assert "'single' has a single class in its test cases" in one_class


@pytest.mark.parametrize(
    "fields",
    [{"held_out": 0.2}, {"held_out": 2.5, "test": ()}, {"held_out": 2, "test": (), "folds": 2}],
)
def test_held_out_beside_test_cases_or_of_half_a_subject_is_refused(fields: dict) -> None:
    with pytest.raises(ValueError, match="held_out="):
        task("wrong", "regression", label="age", **fields)


def test_doubts_about_a_mask_are_told_of_the_grid_that_a_task_reads_it_on() -> None:
    other = "its brain mask cannot be used: y"
    reasons = ["its mask is doubtful: x", other, "its mask is doubtful: z"]
    index = pd.DataFrame({"source": ["a", "a", "c"], "reason": reasons})
    data = Data("data", (Source("a"), Source("c")), volumes=GRID)
    config = PrepareStep(data, (task("fine", "segmentation", volumes=FINE),))
    assert without_unread_masks(index, GRID, config)["reason"].tolist() == ["", other, ""]
    assert without_unread_masks(index, FINE, config)["reason"].tolist() == [*reasons[:2], ""]
