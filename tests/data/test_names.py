"""What names say: label maps are no scans, two visits are two sessions, a mask is a label."""

from pathlib import Path

import pytest
from test_layout import scan, text

from scaling.data.layout import scan_source
from scaling.data.names import is_label_map, session_of

LABEL_MAPS = [
    *("WMHs", "lacunes", "T1w_hypointensities"),
    *(
        "aparc.DKTatlas+aseg.deep",
        "aseg.auto_noCCseg",
        "aseg+aparc",
        "c1t1",
        "p1t1",
    ),
    *(
        "wc2mprage",
        "rois",
        "roi1",
        "samseg",
        "t1_vent",
        "left_hippocampus",
        "GM",
        "t1_gm",
    ),
    *(
        "gm_prob",
        "csf",
        "wm",
        "T1_first_all_fast_firstseg",
        "filled",
        "vessels",
        "tumorseg",
    ),
    *(
        "tumor_core",
        "necrotic",
        "LesionMask",
        "t1mask",
        "t1seg",
        "mask_final",
    ),
    *(
        "segmentation_final",
        "manual_seg_v2",
        "lesion-seg.v1",
        "consensus",
        "rater1",
    ),
    *(
        "ventricles",
        "hemorrhage",
        "cmb",
        "BrainSegmentation",
        "t1_labelled",
        "schaefer100",
    ),
    *(
        "t1_AAL",
        "desikan",
        "mask_t1",
        "seg_t1",
        "nucmorph",
        "brain_mask_eroded",
    ),
]
SCANS = [
    *(
        "t1",
        "t2",
        "flair",
        "t1_2",
        "scan_3",
        "t1gd",
        "t1_brain",
        "t1_masked",
        "t1_n4",
        "wmn",
    ),
    *(
        "right_t1",
        "sub-01_acq-mask_T1w",
        "sub-01_acq-wmn_run-2_T1w",
        "sub-01_part-mag_MP2RAGE",
    ),
    *(
        "hrT2",
        "mprage",
        "brain",
        "orig",
        "nu",
        "whole_brain",
    ),
]


@pytest.mark.parametrize("name", LABEL_MAPS)
def test_label_map_of_a_common_tool_is_told_by_its_name(name: str) -> None:
    assert is_label_map(f"{name}.nii.gz")


@pytest.mark.parametrize("name", SCANS)
def test_scan_is_no_label_map_by_its_name(name: str) -> None:
    assert not is_label_map(f"{name}.nii.gz")


VISITS = [
    *(
        "ses1",
        "ses.1",
        "session_2",
        "visit-2",
        "V01",
        "day1",
        "D0",
        "pre",
        "postop",
        "post-op",
    ),
    *(
        "screening",
        "retest",
        "rescan",
        "MR1",
        "exam1",
        "t2_d0129",
        "OAS30001_MR_d0129",
    ),
    *(
        "01-02-2020",
        "2010-05-06_10_11_12.0",
        "01",
        "1",
        "M00",
        "m12",
        "bl",
        "FU12",
    ),
]


@pytest.mark.parametrize("folder", VISITS)
def test_folder_of_a_visit_is_a_session(folder: str) -> None:
    assert session_of((folder, "anat"), "t1") == folder


@pytest.mark.parametrize("folder", ["anat", "T1", "t2", "FLAIR", "dwi", "mri", "T1w_MPR1", "nii"])
def test_folder_of_a_sequence_is_no_session(folder: str) -> None:
    assert session_of((folder,), "t1") == "ses_1"


@pytest.mark.parametrize(
    ("name", "session"),
    [
        ("sub-01_visit-2_T1w", "visit-2"),
        ("sub-01_ses1_T1w", "ses1"),
        ("sub-01_session-1_T1w", "session-1"),
        ("20200101_t1", "20200101"),
        ("t1_2", "ses_1"),
        ("scan_3", "ses_1"),
    ],
)
def test_visit_in_a_name_is_a_session(name: str, session: str) -> None:
    assert session_of((), name) == session


def labelled(root: Path, name: str) -> Path:
    scan(root / "preprocessed" / "sub_1" / "ses_1" / "flair.nii.gz")
    scan(root / "labels" / "sub_1" / "ses_1" / name)
    return root / "labels" / "sub_1" / "ses_1"


@pytest.mark.parametrize("name", ["mask.nii.gz", "SEG.nii.gz", "sub_1_seg.nii", "lesion.nii.gz"])
def test_only_volume_of_a_folder_of_labels_is_the_mask(tmp_path: Path, name: str) -> None:
    folder = labelled(tmp_path, name)
    assert scan_source(tmp_path, ".")["mask"].tolist() == [str(folder / name)]


def test_several_volumes_in_a_folder_of_labels_are_a_finding(tmp_path: Path) -> None:
    folder = labelled(tmp_path, "lesion.nii.gz")
    scan(folder / "brain.nii.gz")
    table = scan_source(tmp_path, ".")
    assert table["mask"].tolist() == [""]
    assert table.attrs["remarks"] == [
        f"{folder} holds 2 volumes and none is seg.nii.gz; none is used as a mask"
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_of_a_label_is_read_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    scan(tmp_path / "preprocessed" / "sub_1" / "ses_1" / "flair.nii.gz")
    text(tmp_path / "labels" / "sub_1" / "label.txt", "")
    (tmp_path / "labels" / "sub_1" / "label.txt").write_bytes(" 1\r\n".encode(encoding))
    assert scan_source(tmp_path, ".")["label"].tolist() == ["1"]
