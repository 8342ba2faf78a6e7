import dataclasses
from pathlib import Path

import pytest
from test_layout import scan, text

from scaling.data.check import check
from scaling.data.layout import scan_sources
from scaling.data.track import prove_track
from scaling.study.config import Data, Source, Split


@pytest.fixture
def method(tmp_path: Path) -> Data:
    """FOMO60K of two scans in its published layout, with its manifest and mapping, and another
    source beside it.
    """
    for seed, dataset in enumerate(("PT001_OASIS1", "PT005_IXI")):
        scan(tmp_path / "FOMO60K" / dataset / "sub_1" / "ses_1" / "t1.nii.gz", seed)
    scan(tmp_path / "ours" / "sub_1" / "ses_1" / "t1.nii.gz", 7)
    check(tmp_path / "FOMO60K", tmp_path / "fomo60k.parquet", workers=1)
    rows = [f"{dataset}\tsub_1\tses_1\tt1.nii.gz\tx" for dataset in ("PT001_OASIS1", "PT005_IXI")]
    text(
        tmp_path / "mapping.tsv",
        "\n".join(["dataset\tparticipant_id\tsession_id\tfilename\toriginal_path", *rows]),
    )
    return Data(str(tmp_path), (Source("FOMO60K"),), track="method", manifest="fomo60k.parquet")


@pytest.mark.parametrize("manifest", ["fomo60k.parquet", "mapping.tsv"])
def test_method_study_of_fomo60k_alone_is_let_through_and_of_more_refused(
    tmp_path: Path, method: Data, manifest: str
) -> None:
    data = dataclasses.replace(method, manifest=manifest)
    prove_track(scan_sources(tmp_path, data.pretraining, Split()), data, workers=1)
    mixed = dataclasses.replace(data, pretraining=(Source("FOMO60K"), Source("ours")))
    with pytest.raises(ValueError, match=r"1 of 3 pretraining scans are not in FOMO60K .*ours"):
        prove_track(scan_sources(tmp_path, mixed.pretraining, Split()), mixed, workers=1)
    prove_track(
        scan_sources(tmp_path, mixed.pretraining, Split()), dataclasses.replace(mixed, track="open")
    )


def test_method_study_notices_a_scan_that_was_exchanged(tmp_path: Path, method: Data) -> None:
    scan(tmp_path / "FOMO60K" / "PT005_IXI" / "sub_1" / "ses_1" / "t1.nii.gz", 55)
    with pytest.raises(ValueError, match="1 of 2 pretraining scans"):
        prove_track(scan_sources(tmp_path, method.pretraining, Split()), method, workers=1)


def test_method_study_may_be_tested_on_any_source(tmp_path: Path, method: Data) -> None:
    prove_track(
        scan_sources(tmp_path, [*method.pretraining, Source("ours")], Split()), method, workers=1
    )


def test_method_study_without_a_manifest_is_refused(tmp_path: Path, method: Data) -> None:
    with pytest.raises(ValueError, match=r"data.manifest is empty"):
        dataclasses.replace(method, manifest="")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        prove_track(
            scan_sources(tmp_path, method.pretraining, Split()),
            dataclasses.replace(method, manifest="no.tsv"),
        )
    text(tmp_path / "large.tsv", "content_hash\n" + "x\n" * 60_530)
    with pytest.raises(ValueError, match="another collection"):
        prove_track(
            scan_sources(tmp_path, method.pretraining, Split()),
            dataclasses.replace(method, manifest="large.tsv"),
        )


@pytest.mark.parametrize("columns", ["with dataset", "inside the dataset"])
def test_method_study_of_nested_collections_is_proven_by_the_tables_beside_the_scans(
    tmp_path: Path, columns: str
) -> None:
    folder = tmp_path / "FOMO300K"
    sets = ("PT001_OASIS1", "PT030_OpenNeuro/ds000001")
    for seed, dataset in enumerate(sets):
        scan(folder / dataset / "sub_1" / "ses_1" / "t1.nii.gz", seed)
        row = "sub_1\tses_1\tt1.nii.gz\tSiemens"
        header = "participant_id\tsession_id\tfilename\tManufacturer"
        if columns == "with dataset":
            row, header = f"{Path(dataset).name}\t{row}", f"dataset\t{header}"
        text(folder / dataset / "mri_info.tsv", f"{header}\n{row}")
        text(folder / dataset / "participants.tsv", "participant_id\tage\nsub_1\t30")
    data = Data(
        str(tmp_path),
        (Source("FOMO300K"),),
        track="method",
        challenge="fomo26",
        manifest="FOMO300K",
    )
    prove_track(scan_sources(tmp_path, data.pretraining, Split()), data, workers=1)
    scan(folder / "PT001_OASIS1" / "sub_2" / "ses_1" / "t1.nii.gz", 7)
    with pytest.raises(ValueError, match=r"1 of 3 pretraining scans are not in FOMO300K .*sub_2"):
        prove_track(scan_sources(tmp_path, data.pretraining, Split()), data, workers=1)


def test_folder_without_tables_of_scans_proves_nothing(tmp_path: Path) -> None:
    scan(tmp_path / "FOMO300K" / "PT001_OASIS1" / "sub_1" / "ses_1" / "t1.nii.gz", 1)
    data = Data(
        str(tmp_path),
        (Source("FOMO300K"),),
        track="method",
        challenge="fomo26",
        manifest="FOMO300K",
    )
    with pytest.raises(ValueError, match="holds no table with the columns dataset"):
        prove_track(scan_sources(tmp_path, data.pretraining, Split()), data, workers=1)
