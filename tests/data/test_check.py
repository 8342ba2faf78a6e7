import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from test_layout import scan, text
from typer.testing import CliRunner

from scaling.cli.data import data_app
from scaling.data import headers
from scaling.data.cache import open_cache
from scaling.data.check import check
from scaling.data.check_progress import partial_file
from scaling.data.problems import Finding
from scaling.data.summary import describe_sources, summarise


def kinds(findings: tuple[Finding, ...]) -> set[str]:
    return {finding.kind for finding in findings}


def test_check_of_a_sound_collection_finds_nothing(tmp_path: Path) -> None:
    scan(tmp_path / "fomo60k" / "sub_1" / "ses_1" / "t1.nii.gz", 1)
    scan(tmp_path / "fomo60k" / "sub_1" / "ses_1" / "t2.nii.gz", 2)
    checked = check(tmp_path, workers=1)
    assert not checked.findings
    row = checked.manifest.iloc[0]
    assert (row["shape"], row["spacing"], row["orientation"], row["verdict"], row["role"]) == (
        "6 x 7 x 8",
        "1 x 1 x 1",
        "RAS",
        "ok",
        "scan",
    )
    assert row["content_hash"]


def test_check_names_every_file_that_cannot_be_used(tmp_path: Path) -> None:
    session = tmp_path / "sub_1" / "ses_1"
    good = scan(session / "t1.nii.gz")
    (session / "t2.nii.gz").write_bytes(good.read_bytes()[:-40])
    (session / "flair.nii.gz").write_bytes(b"")
    text(tmp_path / "sub_1" / "dicom" / "1.dcm", "x")
    scan(tmp_path / "loose.nii.gz", 5)
    checked = check(tmp_path, workers=1)
    bad = checked.manifest[checked.manifest["verdict"] == "bad"].set_index("sequence")["reason"]
    assert "truncated" in bad["t2"]
    assert "empty" in bad["flair"]
    assert kinds(checked.findings) == {"unusable", "place", "formats"}


def test_check_finds_the_same_scan_in_pretraining_and_test(tmp_path: Path) -> None:
    source = scan(tmp_path / "fomo60k" / "sub_1" / "ses_1" / "t1.nii.gz", 1)
    scan(tmp_path / "fomo60k" / "sub_2" / "ses_1" / "t1.nii.gz", 2)
    target = tmp_path / "fomo-task3" / "preprocessed" / "sub_9" / "ses_1" / "t1.nii.gz"
    target.parent.mkdir(parents=True)
    # The same scan compressed differently: only the voxels say so.
    target.write_bytes(gzip.compress(gzip.decompress(source.read_bytes()), 1))
    text(tmp_path / "fomo-task3" / "labels" / "sub_9" / "ses_1" / "label.txt", "55")
    checked = check(tmp_path, workers=1)
    assert {"leakage", "duplicates", "missing"} == kinds(checked.findings)
    leak = next(finding.sentence for finding in checked.findings if finding.kind == "leakage")
    assert "fomo-task3" in leak
    assert "sub_9" in leak


def test_check_finds_the_same_person_by_dataset_and_name(tmp_path: Path) -> None:
    for seed, root in enumerate(("FOMO60K", "held-out")):
        scan(tmp_path / root / "PT005_IXI" / "sub_4" / "ses_1" / "t1.nii.gz", seed)
    checked = check(tmp_path, test=["held-out"], workers=1)
    assert "1 subjects" in next(
        finding.sentence for finding in checked.findings if finding.kind == "leakage"
    )


def test_check_does_not_take_two_sub_1_for_one_person(tmp_path: Path) -> None:
    scan(tmp_path / "one" / "sub_1" / "ses_1" / "t1.nii.gz", 1)
    scan(tmp_path / "two" / "sub_1" / "ses_1" / "t1.nii.gz", 2)
    assert not check(tmp_path, test=["two"], workers=1).findings


def test_check_finds_scans_off_the_grid_of_their_session(tmp_path: Path) -> None:
    session = tmp_path / "sub_1" / "ses_1"
    scan(session / "t1.nii.gz")
    moved = np.eye(4)
    moved[0, 3] = 3
    nib.save(
        nib.Nifti1Image(np.arange(336, dtype=np.int16).reshape(6, 7, 8), moved),
        session / "t2.nii.gz",
    )
    (finding,) = check(tmp_path, workers=1).findings
    assert finding.kind == "grids"
    assert list(finding.files) == [str(session / "t2.nii.gz")]


@pytest.mark.parametrize(
    ("task", "sequences", "label", "expected"),
    [
        ("fomo-task1", ("flair", "adc", "dwi_b1000", "swi"), "2", {"labels"}),
        ("fomo-task1", ("flair", "adc", "dwi_b1000"), "1", {"missing"}),
        ("fomo-task1", ("flair", "adc", "dwi_b1000", "t2s"), "1", set()),
        ("fomo-task3", ("t1", "t2"), "old", {"labels"}),
        ("fomo-task3", ("t1", "t2"), "61.5", set()),
    ],
)
def test_check_compares_sequences_and_labels_with_the_task(
    tmp_path: Path, task: str, sequences: tuple[str, ...], label: str, expected: set[str]
) -> None:
    for number, sequence in enumerate(sequences):
        scan(tmp_path / task / "preprocessed" / "sub_1" / "ses_1" / f"{sequence}.nii.gz", number)
    text(tmp_path / task / "labels" / "sub_1" / "ses_1" / "label.txt", label)
    assert kinds(check(tmp_path, workers=1).findings) == expected


def test_check_looks_into_masks(tmp_path: Path) -> None:
    lesion, other_grid = np.zeros((6, 7, 8)), np.zeros((6, 7, 9))
    lesion[2:5, 2:5, 2:5] = other_grid[2:5, 2:5, 2:5] = 1
    kinds_of_mask = (lesion, np.zeros_like(lesion), -lesion, other_grid, 1 - lesion)
    for number, values in enumerate(kinds_of_mask):
        for n, sequence in enumerate(("flair", "dwi_b1000", "t2s")):
            session = tmp_path / "fomo-task2" / "preprocessed" / f"sub_{number}" / "ses_1"
            scan(session / f"{sequence}.nii.gz", 10 * number + n, mm=4.0)
        mask = tmp_path / "fomo-task2" / "labels" / f"sub_{number}" / "seg.nii.gz"
        mask.parent.mkdir(parents=True)
        nib.save(nib.Nifti1Image(values.astype(np.int16), np.diag([4, 4, 4, 1])), mask)
    manifest = check(tmp_path, workers=1).manifest.set_index("path")
    masks = manifest[manifest["role"] == "mask"]
    assert masks["verdict"].tolist() == ["ok", "warning", "bad", "ok", "warning"]
    scans = manifest[manifest["role"] == "scan"]
    assert scans.groupby("subject")["verdict"].first().tolist() == [
        "ok",
        "ok",
        "warning",
        "ok",
        "warning",
    ]


def test_check_warns_of_doubtful_headers(tmp_path: Path) -> None:
    session = tmp_path / "sub_1" / "ses_1"
    scan(session / "t1.nii.gz")
    image = nib.Nifti1Image(np.arange(336, dtype=np.int16).reshape(6, 7, 8), None)
    nib.save(image, tmp_path / "sub_1" / "ses_1" / "lost.nii.gz")
    image = nib.Nifti1Image(
        np.arange(336, dtype=np.int16).reshape(6, 7, 8), np.diag([2.0, 2, 2, 1])
    )
    image.set_qform(np.diag([-2.0, 2, 2, 1]), 1)
    assert "neither" in headers.describe_header(session / "lost.nii.gz")["remark"]
    nib.save(image, session / "turned.nii.gz")
    assert "LAS" in headers.describe_header(session / "turned.nii.gz")["remark"]


def test_check_reads_scanner_fields_of_a_sidecar(tmp_path: Path) -> None:
    scan(tmp_path / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    text(
        tmp_path / "sub-01" / "anat" / "sub-01_T1w.json",
        json.dumps({"Manufacturer": "GE", "EchoTime": 0.003, "PatientName": "x"}),
    )
    manifest = check(tmp_path, workers=1).manifest
    assert manifest[["manufacturer", "echotime", "magneticfieldstrength"]].to_numpy().tolist() == [
        ["GE", "0.003", ""]
    ]


def test_manifest_is_resumed_and_only_changed_files_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, manifest = tmp_path / "root", tmp_path / "out" / "manifest.parquet"
    for number in range(4):
        scan(root / f"sub_{number}" / "ses_1" / "t1.nii.gz", number)
    first = check(root, manifest, workers=1).manifest
    pd.testing.assert_frame_equal(pd.read_parquet(manifest), first, check_dtype=False)
    assert not partial_file(manifest).exists()
    scan(root / "sub_2" / "ses_1" / "t1.nii.gz", 99)
    read: list[str] = []
    original = headers.describe_header
    monkeypatch.setattr(
        "scaling.data.check.describe_header",
        lambda path: read.append(path.parts[-3]) or original(path),
    )
    second = check(root, manifest, workers=1).manifest
    assert read == ["sub_2"]
    assert first["content_hash"].ne(second["content_hash"]).tolist() == [False, False, True, False]


def test_manifest_of_an_interrupted_check_is_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, manifest = tmp_path / "root", tmp_path / "manifest.parquet"
    for number in range(3):
        scan(root / f"sub_{number}" / "ses_1" / "t1.nii.gz", number)
    expected = check(root, manifest, workers=1).manifest
    pd.read_parquet(manifest).iloc[:2].to_parquet(partial_file(manifest))
    manifest.unlink()
    read: list[str] = []
    original = headers.describe_header
    monkeypatch.setattr(
        "scaling.data.check.describe_header",
        lambda path: read.append(path.parts[-3]) or original(path),
    )
    pd.testing.assert_frame_equal(check(root, manifest, workers=1).manifest, expected)
    assert read == ["sub_2"]


def test_manifest_over_another_file_is_refused(tmp_path: Path) -> None:
    scan(tmp_path / "sub_1" / "ses_1" / "t1.nii.gz")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "results.parquet")
    with pytest.raises(ValueError, match="no manifest"):
        check(tmp_path, tmp_path / "results.parquet", workers=1)


def test_check_command_prints_json_and_exits_by_what_it_found(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    root, manifest = tmp_path / "root", tmp_path / "m.parquet"
    scan(root / "sub_1" / "ses_1" / "t1.nii.gz")
    arguments = ["check", str(root), "--manifest", str(manifest), "--workers", "1"]
    assert CliRunner().invoke(data_app, arguments).exit_code == 0
    shutil.copy(root / "sub_1" / "ses_1" / "t1.nii.gz", root / "sub_1" / "ses_1" / "t1_2.nii.gz")
    result = CliRunner().invoke(data_app, [*arguments, "--json"])
    assert result.exit_code == 1
    summary = json.loads(result.stdout)
    assert summary["verdicts"] == {"ok": 0, "warning": 2, "bad": 0}
    assert [finding["kind"] for finding in summary["findings"]] == ["duplicates"]


def test_manifest_prepares_as_the_folder_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for source, subject in (("a", "sub_1"), ("b", "sub_1"), ("b", "sub_2")):
        scan(
            tmp_path / "data" / source / subject / "ses_1" / "t1.nii.gz",
            ord(source) + int(subject[-1]),
        )
    (tmp_path / "data" / "a" / "sub_1" / "ses_1" / "t2.nii.gz").write_bytes(b"")
    scan(tmp_path / "data" / "b" / "labels" / "sub_1" / "ses_1" / "seg.nii.gz", 9)
    scan(tmp_path / "data" / "loose.nii.gz", 8)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    assert (
        CliRunner()
        .invoke(
            data_app, ["check", "data", "--manifest", "elsewhere/all.parquet", "--workers", "1"]
        )
        .exit_code
        == 1
    )
    grid = ["--spacing", "1", "--shape", "8", "8", "8", "--workers", "1"]
    for root, cache in (("data", "one"), ("elsewhere/all.parquet", "two")):
        assert (
            CliRunner().invoke(data_app, ["prepare", root, cache, *grid]).exit_code == 1
        )  # the empty file
    one, two = (open_cache(tmp_path / cache) for cache in ("one", "two"))
    assert two.index["subject"].tolist() == ["a/sub_1", "a/sub_1", "b/sub_1", "b/sub_2"]
    assert (two.index["status"] == one.index["status"]).all()
    assert "is empty" in two.index.loc[two.index["status"] == "failed", "reason"].item()
    for i in np.flatnonzero(one.index["status"] == "ok"):
        np.testing.assert_array_equal(one.volume(i), two.volume(i))
    np.testing.assert_array_equal(one.mask(2), two.mask(2))


def test_check_lists_the_values_of_labels_and_masks(tmp_path: Path) -> None:
    for number, (label, values) in enumerate([("M", (0, 1)), ("F", (0, 1, 2)), ("F", (0, 2))]):
        session = tmp_path / "task" / "preprocessed" / f"sub_{number}" / "ses_1"
        session.mkdir(parents=True)
        place = tmp_path / "task" / "labels" / f"sub_{number}" / "ses_1"
        place.mkdir(parents=True)
        rng = np.random.default_rng(number)
        voxels = rng.integers(50, 900, (16, 16, 16)).astype(np.int16)
        mask = np.zeros((16, 16, 16), np.uint8)
        for slot, value in enumerate(values):
            mask[4 * slot : 4 * slot + 4, 2:14, 2:14] = value
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), session / "t1.nii.gz")
        nib.save(nib.Nifti1Image(mask, np.eye(4)), place / "seg.nii.gz")
        (place / "label.txt").write_text(f"{label}\n")
    checked = check(tmp_path)
    (source,) = describe_sources(checked.manifest)
    assert source["labels"] == {"F": 2, "M": 1}
    assert source["mask_values"] == {"0": 3, "1": 2, "2": 2}
    text = summarise(tmp_path, checked)
    assert "labels (sessions): F (2), M (1)" in text
    assert "values of masks (masks): 1 (2), 2 (2); a task tells them apart" in text


def test_check_reads_anew_what_a_version_without_values_of_masks_wrote(tmp_path: Path) -> None:
    session = tmp_path / "scans" / "sub_0" / "ses_1"
    session.mkdir(parents=True)
    voxels = np.random.default_rng(0).integers(50, 900, (16, 16, 16)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), session / "t1.nii.gz")
    manifest = tmp_path / "manifest.parquet"
    first = check(tmp_path / "scans", manifest).manifest
    pd.read_parquet(manifest).drop(columns="values").to_parquet(manifest)
    pd.testing.assert_frame_equal(check(tmp_path / "scans", manifest).manifest, first)


def test_check_names_the_file_that_a_killed_worker_was_reading(tmp_path: Path) -> None:
    for number in range(3):
        scan(tmp_path / "scans" / f"sub_{number}" / "ses_1" / "t1.nii.gz", number)
    (tmp_path / "killer.py").write_text(
        "import os, signal\n"
        "from scaling.data import check\n"
        "read = check.describe_header\n"
        "describe = check._describe\n"
        "def killed(path):\n"
        "    if 'sub_1' in path.parts:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return read(path)\n"
        "def patched(files, **options):\n"
        "    check.describe_header = killed\n"
        "    return describe(files, **options)\n"
    )
    (tmp_path / "run.py").write_text(
        "import killer\n"
        "from pathlib import Path\n"
        "from scaling.data import check as module\n"
        "if __name__ == '__main__':\n"
        "    module._describe, module.BLOCK = killer.patched, 1\n"
        "    module.check(Path('scans'), workers=2)\n"
    )
    done = subprocess.run(
        [sys.executable, "run.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )
    last = done.stderr.strip().splitlines()[-1]
    assert str(tmp_path / "scans" / "sub_1" / "ses_1" / "t1.nii.gz") in last
    assert "run again with fewer --workers" in last
