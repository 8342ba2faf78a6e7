"""Tables beside the scans are joined, whoever wrote them, or it is said what was not."""

import codecs
import json
import math
import os
from pathlib import Path

import pytest
from test_layout import scan, text

from scaling.data.ages import parse_age
from scaling.data.check import check
from scaling.data.delimited import read_table
from scaling.data.layout import scan_source


@pytest.mark.parametrize(
    ("written", "years"),
    [
        ("46.7", 46.7),
        ("46,7", 46.7),
        ("046Y", 46),
        ("45 years", 45),
        ("018M", 1.5),
        ("540 months", 45),
        ("5W", 5 * 7 / 365.25),
        ("10d", 10 / 365.25),
        ("89+", 89),
        (">89", 89),
        (">= 90", 90),
        ("90plus", 90),
        ("89 or older", 89),
        ("45-50", 47.5),
        ("45 to 50 years", 47.5),
        ("-1", -1),
        ("90 and over", 90),
        ("over 89", 89),
        ("=>89", 89),
        ("89 years +", 89),
        ("18 mos", 1.5),
        ("18mths", 1.5),
        ("38 wks", 38 * 7 / 365.25),
        ("P18M", 1.5),
        ("P1Y6M", 1.5),
        ("1y6m", 1.5),
        ("1 year, 6 months", 1.5),
        ("12W3D", 87 / 365.25),
        ("25 y.o.", 25),
        ("25yo", 25),
        (".5", 0.5),
        ("2.5E+01", 25),
        ("45\u201450", 47.5),
        ("(45-50)", 47.5),
        ("18-20 M", 19 / 12),
        ("25\u00a0years", 25),
        ("40s", math.nan),
        ("5;6", math.nan),
        ("1990-05-25", math.nan),
        ("twenty", math.nan),
        ("", math.nan),
    ],
)
def test_age_is_read_as_years(written: str, years: float) -> None:
    assert parse_age(written) == pytest.approx(years, nan_ok=True)


def people(root: Path, *subjects: str) -> None:
    for seed, subject in enumerate(subjects):
        scan(root / subject / "anat" / f"{subject}_T1w.nii.gz", seed)


IDS = [
    *[("1", "2"), ("01", "02"), ("001", "002"), ("sub-01", "sub-02"), ("sub001", "sub002")],
    *[("SUB1", "SUB2"), ("subject-001", "Subject 002"), ("1.0", "2.0"), ("'001'", "'002'")],
    *[('="001"', '="002"'), ("sub-001/", "sub-002/")],
]


@pytest.mark.parametrize("ids", IDS)
def test_ids_are_joined_without_sub_and_leading_zeros(tmp_path: Path, ids: tuple[str, str]) -> None:
    people(tmp_path, "sub-001", "sub-002")
    text(tmp_path / "participants.tsv", f"participant_id\tage\n{ids[0]}\t25\n{ids[1]}\t31\n")
    table = scan_source(tmp_path, ".")
    assert table["age"].tolist() == [25, 31]
    assert table.attrs["remarks"] == []


def test_ids_that_differ_by_more_than_zeros_stay_apart(tmp_path: Path) -> None:
    people(tmp_path, "sub-01", "sub-001")
    text(tmp_path / "participants.tsv", "participant_id\tage\n1\t25\n")
    table = scan_source(tmp_path, ".")
    assert table["age"].isna().all()
    assert any("1 of 1 ids" in remark for remark in table.attrs["remarks"])


def test_ids_without_a_folder_and_folders_without_an_id_are_counted(tmp_path: Path) -> None:
    people(tmp_path, "sub-01", "sub-99")
    rows = "".join(f"sub-{n:02d}\t{20 + n}\n" for n in range(1, 61))
    text(tmp_path / "participants.tsv", "participant_id\tage\n" + rows)
    sentences = [finding.sentence for finding in check(tmp_path, workers=1).findings]
    assert any("59 of 60 ids of" in sentence and "first 02" in sentence for sentence in sentences)
    assert any("1 of 2 subjects are not in" in sentence for sentence in sentences)


TABLE = "participant_id\tage\tgroup\nsub-01\t25\tM\xfcller\nsub-02\t30\tx\n"


@pytest.mark.parametrize(
    "content",
    [
        TABLE.encode(),
        TABLE.encode("latin-1"),
        TABLE.encode("utf-8-sig"),
        codecs.BOM_UTF16_LE + TABLE.encode("utf-16-le"),
        TABLE.replace("25\t", "25\t\t", 0).replace("\n", "\t\t\n").encode(),
        TABLE.replace("M\xfcller", '"M\xfcller').encode(),
        TABLE.replace("\n", "\r\n").encode(),
        TABLE.replace("\t", ",").encode(),
        TABLE.replace("\t", "|").encode(),
        TABLE.replace("\t", "  ").encode(),
        TABLE.encode("utf-32"),
        TABLE.encode("utf-16-le"),
        TABLE.encode("utf-16-be"),
        ("# written by hand\n" + TABLE).encode(),
        ("# " + TABLE).encode(),
    ],
)
def test_table_in_any_encoding_and_with_stray_marks_is_joined(
    tmp_path: Path, content: bytes
) -> None:
    people(tmp_path, "sub-01", "sub-02")
    (tmp_path / "participants.tsv").write_bytes(content)
    table = scan_source(tmp_path, ".")
    assert table["age"].tolist() == [25, 30]
    assert table["group"].tolist() == ["M\xfcller", "x"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"participant_id\tage\nsub-01\t25\t1\t2\n", "line 2 has 4 values for 2 columns"),
        (b"name\tage\nsub-01\t25\n", "expected participant_id"),
        (b"\x00\x01" * 50, "binary"),
    ],
)
def test_table_that_cannot_be_used_is_named_and_the_scans_go_on(
    tmp_path: Path, content: bytes, words: str
) -> None:
    people(tmp_path, "sub-01")
    (tmp_path / "participants.tsv").write_bytes(content)
    checked = check(tmp_path, workers=1)
    (finding,) = (finding for finding in checked.findings if finding.kind == "tables")
    assert words in finding.sentence
    assert str(tmp_path / "participants.tsv") in finding.sentence
    assert (checked.manifest["verdict"] == "ok").all()


def test_ages_of_sessions_are_those_of_the_visit(tmp_path: Path) -> None:
    for session in ("ses-bl", "ses-m24"):
        name = f"sub-01_{session}_T1w.nii.gz"
        scan(tmp_path / "sub-01" / session / "anat" / name, len(session))
    text(tmp_path / "participants.tsv", "participant_id\tage\nsub-01\t70\n")
    text(
        tmp_path / "sub-01" / "sub-01_sessions.tsv",
        "session_id\tage\tmmse\nses-bl\t70\t29\nses-m24\t72\t27\n",
    )
    table = scan_source(tmp_path, ".").set_index("session")
    assert table["age"].to_dict() == {"ses-bl": 70, "ses-m24": 72}
    assert table["mmse"].to_dict() == {"ses-bl": "29", "ses-m24": "27"}


def test_participants_csv_and_columns_of_ages_by_other_names_are_read(tmp_path: Path) -> None:
    people(tmp_path, "sub-01")
    text(tmp_path / "participants.csv", "participant_id,age_months\nsub-01,540\n")
    assert scan_source(tmp_path, ".")["age"].tolist() == [45]


def test_ages_in_the_unit_of_a_column_beside_them_are_years(tmp_path: Path) -> None:
    people(tmp_path, "sub-01", "sub-02", "sub-03", "sub-04")
    text(
        tmp_path / "participants.tsv",
        "participant_id\tage\tage_units\nsub-01\t60\tMonths\nsub-02\t60\tyears\n"
        "sub-03\t60\tn/a\nsub-04\t24Y\tmonths\n",
    )
    assert scan_source(tmp_path, ".")["age"].tolist() == [5, 60, 60, 24]


@pytest.mark.parametrize("units", ["months", "Month", "mo"])
def test_ages_in_the_unit_that_the_json_file_beside_them_gives_are_years(
    tmp_path: Path, units: str
) -> None:
    people(tmp_path, "sub-01", "sub-02")
    text(tmp_path / "participants.tsv", "participant_id\tage\nsub-01\t60\nsub-02\t24Y\n")
    text(tmp_path / "participants.json", json.dumps({"Age": {"Units": units}}))
    assert scan_source(tmp_path, ".")["age"].tolist() == [5, 24]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"age": {"Units": "fortnights"}}', "gives the unit 'fortnights' of age"),
        ("[1, 2]", "is no JSON object of columns"),
        ('{"age"', "is no JSON object of columns"),
    ],
)
def test_json_file_beside_a_table_that_cannot_be_read_is_named(
    tmp_path: Path, content: str, message: str
) -> None:
    people(tmp_path, "sub-01")
    text(tmp_path / "participants.tsv", "participant_id\tage\nsub-01\t60\n")
    text(tmp_path / "participants.json", content)
    table = scan_source(tmp_path, ".")
    assert table["age"].tolist() == [60]
    (remark,) = [said for said in table.attrs["remarks"] if "participants.json" in said]
    assert message in remark


def test_pipe_under_the_name_of_a_label_is_named_at_once(tmp_path: Path) -> None:
    scan(tmp_path / "preprocessed" / "sub_1" / "ses_1" / "t1.nii.gz")
    label = tmp_path / "labels" / "sub_1" / "ses_1" / "label.txt"
    label.parent.mkdir(parents=True)
    os.mkfifo(label)
    table = scan_source(tmp_path, ".")
    assert any("label.txt is not read: it is no file" in said for said in table.attrs["remarks"])


def test_table_with_two_columns_of_one_name_that_differ_is_not_used(tmp_path: Path) -> None:
    people(tmp_path, "sub-01")
    text(tmp_path / "participants.tsv", "participant_id\tage\tage\nsub-01\t60\t61\n")
    table = scan_source(tmp_path, ".")
    assert table["age"].isna().all()
    assert any("2 columns 'age' with different values" in said for said in table.attrs["remarks"])
    text(tmp_path / "participants.tsv", "participant_id\tage\tage\nsub-01\t60\t60\n")
    assert scan_source(tmp_path, ".")["age"].tolist() == [60]


def test_visits_in_the_folder_that_one_stands_in_are_sessions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("first", "second"):
        scan(tmp_path / "sub-01" / folder / "t1.nii.gz", seed=len(folder))
    monkeypatch.chdir(tmp_path)
    assert scan_source(Path(), ".")["session"].tolist() == ["first", "second"]


def test_visits_are_sessions_and_never_a_pair_of_one(tmp_path: Path) -> None:
    for seed, name in enumerate(
        (
            "sub-01/2019-01-01/t1.nii.gz",
            "sub-01/2019-01-01/flair.nii.gz",
            "sub-01/2021-06-01/t1.nii.gz",
            "sub-02/anat/sub-02_ses-a_T1w.nii.gz",
            "sub-02/anat/sub-02_ses-b_T1w.nii.gz",
            "sub-03/first/t1.nii.gz",
            "sub-03/second/t1.nii.gz",
            "sub-04/t1/t1.nii.gz",
            "sub-04/flair/flair.nii.gz",
        )
    ):
        scan(tmp_path / name, seed)
    table = scan_source(tmp_path, ".")
    sessions = table.groupby("subject")["session"].apply(lambda names: sorted(set(names)))
    assert sessions.to_dict() == {
        "sub-01": ["2019-01-01", "2021-06-01"],
        "sub-02": ["ses-a", "ses-b"],
        "sub-03": ["first", "second"],
        "sub-04": ["ses_1"],
    }
    assert (table["run"] == 1).all()


def test_label_maps_beside_a_scan_are_left_out_and_counted(tmp_path: Path) -> None:
    session = tmp_path / "sub_1" / "ses_1"
    names = ("aseg", "aparc+aseg", "aparc.a2009s+aseg", "segmentation", "labels", "synthseg")
    names += ("tumor", "dlmuse", "wmparc", "t1_lesions", "t1_seg", "t1_brain_mask")
    for seed, name in enumerate(("t1", *names)):
        scan(session / f"{name}.nii.gz", seed)
    checked = check(tmp_path, workers=1)
    scans = checked.manifest[checked.manifest["role"] == "scan"]
    assert scans["sequence"].tolist() == ["t1"]
    (finding,) = (finding for finding in checked.findings if finding.kind == "labelmaps")
    assert "10 files are label maps" in finding.sentence


def test_file_whose_name_is_no_utf8_is_listed_and_the_rest_goes_on(tmp_path: Path) -> None:
    good = scan(tmp_path / "sub_1" / "ses_1" / "t1.nii.gz")
    odd = bytes(good.parent) + b"/fl\xe4ir.nii.gz"
    Path(odd.decode("utf-8", "surrogateescape")).write_bytes(good.read_bytes())
    checked = check(tmp_path, tmp_path / "m.parquet", workers=1)
    verdicts = checked.manifest.set_index("sequence")["verdict"].to_dict()
    assert verdicts == {"t1": "ok", "fl\\xe4ir": "bad"}
    reason = checked.manifest.set_index("sequence").loc["fl\\xe4ir", "reason"]
    assert "not in UTF-8" in reason


def test_closed_folder_is_listed_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan(tmp_path / "sub_1" / "ses_1" / "t1.nii.gz")
    scan(tmp_path / "sub_2" / "ses_1" / "t1.nii.gz")
    from scaling.data import files

    scandir = files.os.scandir

    def closed(folder: Path | int) -> object:  # tests may run as root, whom no folder is closed to
        if Path(str(folder)).name == "sub_2":
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(files.os, "scandir", closed)
    checked = check(tmp_path, workers=1)
    bad = checked.manifest[checked.manifest["verdict"] == "bad"]
    assert bad["subject"].tolist() == ["sub_2"]
    assert "cannot be opened (Permission denied)" in bad["reason"].iloc[0]


def test_datalad_tree_with_rawdata_and_dropped_files(tmp_path: Path) -> None:
    root = tmp_path / "ds"
    name = "sub-01_T1w.nii.gz"
    annexed = scan(root / ".git" / "annex" / "objects" / "a" / name)
    folder = root / "rawdata" / "sub-01" / "anat"
    folder.mkdir(parents=True)
    (folder / name).symlink_to(annexed)
    (folder / "sub-01_T2w.nii.gz").symlink_to(root / ".git" / "annex" / "objects" / "b" / "gone")
    text(root / "participants.tsv", "participant_id\tage\nsub-01\t50\n")
    for place in (root, root / "rawdata"):
        checked = check(place, workers=1)
        reasons = checked.manifest.set_index("sequence")["reason"].to_dict()
        assert reasons["t1"] == ""
        assert "not downloaded yet" in reasons["t2"]
    assert scan_source(root, ".")["age"].tolist() == [50, 50]


def test_table_with_an_unclosed_quotation_mark_keeps_all_its_rows(tmp_path: Path) -> None:
    file = text(tmp_path / "a.csv", 'path,subject\na.nii,"one\nb.nii,two\nc.nii,three\n')
    assert read_table(file)["subject"].tolist() == ["one", "two", "three"]
    file = text(tmp_path / "b.csv", 'path,subject\na.nii,"one, two"\nb.nii,three\n')
    assert read_table(file)["subject"].tolist() == ["one, two", "three"]


@pytest.mark.parametrize("name", ["PARTICIPANTS.TSV", "Participants.csv", "participants.txt"])
def test_table_of_people_in_another_case_or_ending_is_joined(tmp_path: Path, name: str) -> None:
    people(tmp_path, "sub-01")
    text(tmp_path / name, "participant_id\tage\nsub-01\t25\n")
    assert scan_source(tmp_path, ".")["age"].tolist() == [25]


@pytest.mark.parametrize("name", ["participants.xlsx", "demographics.csv", "participants.tsv.gz"])
def test_table_of_people_that_is_not_read_is_a_finding(tmp_path: Path, name: str) -> None:
    people(tmp_path, "sub-01")
    text(tmp_path / name, "participant_id\tage\nsub-01\t25\n")
    (remark,) = scan_source(tmp_path, ".").attrs["remarks"]
    assert f"{tmp_path / name} is not read" in remark


def test_table_that_is_a_link_to_nothing_is_a_finding(tmp_path: Path) -> None:
    people(tmp_path, "sub-01")
    (tmp_path / "participants.tsv").symlink_to(tmp_path / "annex" / "objects" / "x")
    (remark,) = scan_source(tmp_path, ".").attrs["remarks"]
    assert "participants.tsv is not used" in remark


@pytest.mark.parametrize(
    "column", ["Participant ID", "participantID", "subjid", "ID", "src_subject_id", "# subject"]
)
def test_column_of_ids_under_a_usual_name_is_used(tmp_path: Path, column: str) -> None:
    people(tmp_path, "sub-01")
    text(tmp_path / "participants.tsv", f"{column}\tage\nsub-01\t25\n")
    assert scan_source(tmp_path, ".")["age"].tolist() == [25]


@pytest.mark.parametrize(
    ("column", "age"),
    [
        ("Age (years)", 24),
        ("ageAtScan", 24),
        ("age_yrs", 24),
        ("age_mo", 2),
        ("interview_age", 2),
        ("Patient Age", 24),
    ],
)
def test_column_of_ages_under_a_usual_name_is_used(tmp_path: Path, column: str, age: int) -> None:
    people(tmp_path, "sub-01")
    text(tmp_path / "participants.tsv", f"participant_id\t{column}\nsub-01\t24\n")
    assert scan_source(tmp_path, ".")["age"].tolist() == [age]


@pytest.mark.parametrize("column", ["age_group", "age_at_onset", "baseline_age", "age_2"])
def test_column_of_other_ages_is_named_and_not_used(tmp_path: Path, column: str) -> None:
    people(tmp_path, "sub-01")
    text(tmp_path / "participants.tsv", f"participant_id\t{column}\nsub-01\t24\n")
    table = scan_source(tmp_path, ".")
    assert table["age"].isna().all()
    assert any(column in remark for remark in table.attrs["remarks"])


def test_impossible_ages_are_left_out_and_counted(tmp_path: Path) -> None:
    people(tmp_path, "sub-01", "sub-02", "sub-03")
    rows = "sub-01\t999\nsub-02\t-999\nsub-03\t30\n"
    text(tmp_path / "participants.tsv", "participant_id\tage\n" + rows)
    table = scan_source(tmp_path, ".")
    assert table["age"].isna().tolist() == [True, True, False]
    (remark,) = table.attrs["remarks"]
    assert "2 ages are impossible and left out, first '999'" in remark


def test_several_rows_of_one_person_that_differ_are_a_finding(tmp_path: Path) -> None:
    people(tmp_path, "sub-01")
    rows = "sub-01\t30\nsub-01\t32\n"
    text(tmp_path / "participants.tsv", "participant_id\tage\n" + rows)
    (remark,) = scan_source(tmp_path, ".").attrs["remarks"]
    assert "several rows that differ for 1 name, first 01" in remark


def test_sessions_of_a_table_that_no_folder_has_are_a_finding(tmp_path: Path) -> None:
    people(tmp_path, "sub-01")
    text(tmp_path / "participants.tsv", "participant_id\tvisit\tage\nsub-01\tbaseline\t30\n")
    table = scan_source(tmp_path, ".")
    assert table["age"].tolist() == [30]
    assert "joined by person alone" in table.attrs["remarks"][0]


def test_pointer_in_place_of_a_table_is_called_what_it_is(tmp_path: Path) -> None:
    people(tmp_path, "sub-01")
    text(tmp_path / "participants.tsv", "version https://git-lfs.github.com/spec/v1\noid x\n")
    (remark,) = scan_source(tmp_path, ".").attrs["remarks"]
    assert "is a Git LFS pointer" in remark
