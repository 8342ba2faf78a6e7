"""Every layout is written to a folder and read back."""

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from scaling.data.files import link_problem
from scaling.data.layout import find_sources, scan_source, scan_sources
from scaling.study.config import Source, Split


def scan(path: Path, seed: int = 0, mm: float = 1.0) -> Path:
    """A small valid scan of voxels of `mm`, different for every seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(seed).integers(0, 99, (6, 7, 8)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, np.diag([mm, mm, mm, 1])), path)
    return path


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def test_fomo60k_challenge_layout_is_read(tmp_path: Path) -> None:
    for name in ("t1", "t1_2", "scan_3", "flair"):
        scan(tmp_path / "fomo60k" / "sub_7" / "ses_2" / f"{name}.nii.gz")
    table = scan_source(tmp_path, "fomo60k")
    assert table[["subject", "session"]].drop_duplicates().to_numpy().tolist() == [
        ["sub_7", "ses_2"]
    ]
    assert list(zip(table["sequence"], table["run"], strict=True)) == [
        ("flair", 1),
        ("scan_3", 1),
        ("t1", 1),
        ("t1", 2),
    ]


def test_published_layout_joins_its_three_tables(tmp_path: Path) -> None:
    root = tmp_path / "FOMO60K"
    scan(root / "PT001_OASIS1" / "sub_1" / "ses_1" / "t1.nii.gz")
    scan(root / "PT005_IXI" / "sub_1" / "ses_1" / "t1.nii.gz")
    people = (
        "dataset\tparticipant_id\tsession_id\tsex\tage\n"
        + "PT001_OASIS1\tsub_1\tses_1\tF\t74\nPT005_IXI\tsub_1\tses_1\tM\tn/a\n"
    )
    text(root / "participants.tsv", people)
    text(
        root / "mapping.tsv",
        "dataset\tparticipant_id\tsession_id\tfilename\toriginal_path\nPT001_OASIS1\tsub_1\tses_1\tt1.nii.gz\tOAS1_0001/mpr.img\n",
    )
    text(
        root / "mri_info.tsv",
        "dataset\tparticipant_id\tsession_id\tfilename\tManufacturer\tMagneticFieldStrength\nPT005_IXI\tsub_1\tses_1\tt1.nii.gz\tPhilips\t3\n",
    )
    assert find_sources(root) == ["."]
    table = scan_source(tmp_path, "FOMO60K").set_index("site")
    assert table.loc["PT001_OASIS1", ["age", "sex", "original_path", "manufacturer"]].tolist() == [
        74.0,
        "F",
        "OAS1_0001/mpr.img",
        "",
    ]
    assert table.loc[
        "PT005_IXI", ["sex", "original_path", "manufacturer", "magneticfieldstrength"]
    ].tolist() == ["M", "", "Philips", "3"]
    assert np.isnan(table.loc["PT005_IXI", "age"])
    assert sorted(table["subject"]) == ["PT001_OASIS1/sub_1", "PT005_IXI/sub_1"]


def test_finetuning_labels_are_found_in_both_places_and_beside_a_mask(tmp_path: Path) -> None:
    source = tmp_path / "fomo-task1"
    for number in (1, 2, 3):
        scan(source / "preprocessed" / f"sub_{number}" / "ses_1" / "flair.nii.gz")
    text(source / "labels" / "sub_1" / "ses_1" / "label.txt", "1\n")
    text(source / "labels" / "sub_2" / "label.txt", "0")
    mask = scan(source / "labels" / "sub_2" / "seg.nii.gz")
    table = scan_source(tmp_path, "fomo-task1").set_index("subject")
    assert table["label"].to_dict() == {"sub_1": "1", "sub_2": "0", "sub_3": ""}
    assert table["mask"].to_dict() == {"sub_1": "", "sub_2": str(mask), "sub_3": ""}


def test_bids_layout_is_read_and_what_is_no_structural_scan_left_aside(tmp_path: Path) -> None:
    root = tmp_path / "ds"
    wanted = {
        "ses-01/anat/sub-01_ses-01_T1w.nii.gz": ("t1", 1),
        "ses-01/anat/sub-01_ses-01_run-2_T1w.nii.gz": ("t1", 2),
        "ses-01/anat/sub-01_ses-01_ce-gadolinium_T1w.nii.gz": ("t1c", 1),
        "ses-01/anat/sub-01_ses-01_FLAIR.nii": ("flair", 1),
        "ses-01/anat/sub-01_ses-01_part-phase_T2starw.nii.gz": ("t2s_phase", 1),
        "ses-01/swi/sub-01_ses-01_swi.nii.gz": ("swi", 1),
    }
    for name in wanted:
        scan(root / "sub-01" / name)
    scan(root / "sub-01" / "ses-01" / "func" / "sub-01_ses-01_task-rest_bold.nii.gz")
    scan(root / "sub-01" / "ses-01" / "anat" / "sub-01_ses-01_label-lesion_mask.nii.gz")
    scan(root / "derivatives" / "fs" / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    scan(root / ".git" / "annex" / "sub-01" / "t1.nii.gz")
    text(root / "participants.tsv", "participant_id\tage\tsex\n01\t61\tF\n")
    table = scan_source(root, ".")
    found = {
        os.path.relpath(row.path, root / "sub-01"): (row.sequence, row.run)
        for row in table.itertuples()
    }
    assert found == wanted
    assert set(table["session"]) == {"ses-01"}
    assert set(table["age"]) == {61.0}


def test_two_scans_of_one_name_get_two_runs(tmp_path: Path) -> None:
    for name in ("sub-01_acq-a_T1w.nii.gz", "sub-01_acq-b_T1w.nii.gz"):
        scan(tmp_path / "sub-01" / "anat" / name)
    assert scan_source(tmp_path, ".")["run"].tolist() == [1, 2]


@pytest.mark.parametrize("name", ["scans.csv", "scans.tsv", "semicolons.csv", "scans.parquet"])
def test_table_of_scans_names_whatever_lies_anywhere(tmp_path: Path, name: str) -> None:
    elsewhere = scan(tmp_path / "elsewhere" / "odd name.nii.gz")
    scan(tmp_path / "root" / "a" / "T1_MPRAGE.NII.GZ")
    rows = pd.DataFrame(
        {
            "Path": ["a/T1_MPRAGE.NII.GZ", str(elsewhere)],
            "subject": ["p1", "p2"],
            "age": ["046Y", "n/a"],
            "Scanner": ["x", ""],
        }
    )
    file = tmp_path / "root" / name
    if file.suffix == ".parquet":
        rows.to_parquet(file)
    else:
        rows.to_csv(
            file,
            index=False,
            sep={"scans.csv": ",", "scans.tsv": "\t", "semicolons.csv": ";"}[name],
            encoding="utf-8-sig",
        )
    table = scan_sources(tmp_path / "root", [Source(name)], Split())
    assert table["sequence"].tolist() == ["t1_mprage", "odd name"]
    assert table["age"].tolist()[0] == 46.0
    assert np.isnan(table["age"].tolist()[1])
    assert all(Path(path).exists() for path in table["path"])


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("path,who\na,b\n", "path and subject"),
        ("path,subject\n", "0 rows"),
        ("path,subject\na,\n", "row 1"),
    ],
)
def test_table_of_scans_that_lacks_something_ends_in_one_sentence(
    tmp_path: Path, content: str, word: str
) -> None:
    text(tmp_path / "scans.csv", content)
    with pytest.raises(ValueError, match=word):
        scan_source(tmp_path, "scans.csv")


def test_links_are_read_inside_the_root_only_and_folders_behind_them_never(tmp_path: Path) -> None:
    root = tmp_path / "root"
    outside = scan(tmp_path / "outside.nii.gz")
    store = scan(root / "store" / "1.nii.gz")
    session = root / "data" / "sub_1" / "ses_1"
    session.mkdir(parents=True)
    (session / "t1.nii.gz").symlink_to(store)
    (session / "t2.nii.gz").symlink_to(outside)
    (root / "data" / "sub_2").symlink_to(tmp_path)
    problems = scan_source(root, "data").set_index("path")["problem"]
    assert problems[str(session / "t1.nii.gz")] == ""
    assert "leaves" in problems[str(session / "t2.nii.gz")]
    assert "link to a folder" in problems[str(root / "data" / "sub_2")]
    assert link_problem(store, root) == ""


def test_source_that_is_itself_a_link_is_read(tmp_path: Path) -> None:
    scan(tmp_path / "disk" / "sub_1" / "ses_1" / "t1.nii.gz")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "fomo60k").symlink_to(tmp_path / "disk")
    assert scan_source(tmp_path / "root", "fomo60k")["problem"].tolist() == [""]


def test_participants_without_ids_are_named_and_left_out(tmp_path: Path) -> None:
    scan(tmp_path / "sub_1" / "ses_1" / "t1.nii.gz")
    text(tmp_path / "participants.tsv", "name\tage\na\t3\n")
    (remark,) = scan_source(tmp_path, ".").attrs["remarks"]
    assert "participants.tsv is not used" in remark
    assert "participant_id" in remark


def test_download_within_a_folder_of_its_own_name_is_read(tmp_path: Path) -> None:
    inner = tmp_path / "Task_3" / "Task_3"
    scan(inner / "preprocessed" / "sub_1" / "ses-01" / "t1w.nii.gz")
    text(inner / "labels" / "sub_1" / "ses-01" / "labels.txt", "61.5")
    table = scan_source(tmp_path, "Task_3")
    assert table[["subject", "session", "sequence", "label"]].values.tolist() == [
        ["sub_1", "ses-01", "t1", "61.5"]
    ]
