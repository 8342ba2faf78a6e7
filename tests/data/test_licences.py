"""Licences of collections: from BIDS, from a file, from a table; none is said to be none."""

import json
from pathlib import Path

import pandas as pd
from test_layout import scan, text

from scaling.data.check import check
from scaling.data.layout import scan_sources
from scaling.data.licences import describe_collections, licence_of
from scaling.data.summary import describe_sources, summarise
from scaling.study.config import Source, Split


def test_licence_is_that_of_bids_then_that_of_a_file(tmp_path: Path) -> None:
    assert licence_of(tmp_path / "absent") == ""
    text(tmp_path / "a" / "LICENSE.txt", "\n  CC BY 4.0 \nmore")
    assert licence_of(tmp_path / "a") == "CC BY 4.0"
    text(tmp_path / "a" / "dataset_description.json", json.dumps({"License": "CC0"}))
    assert licence_of(tmp_path / "a") == "CC0"
    text(tmp_path / "b" / "dataset_description.json", "{broken")
    assert licence_of(tmp_path / "b") == ""


def test_collections_of_a_source_have_their_own_licences(tmp_path: Path) -> None:
    for collection, subject in (("PT001_A", 1), ("PT001_A", 2), ("PT002_B", 1)):
        session = tmp_path / "pool" / collection / f"sub_{subject}" / "ses_1"
        scan(session / "t1.nii.gz", subject)
    text(tmp_path / "pool" / "PT001_A" / "LICENSE", "CC0")
    table = scan_sources(tmp_path, [Source("pool")], Split())
    assert describe_collections(tmp_path, table) == [
        {"collection": "pool/PT001_A", "scans": 2, "subjects": 2, "licence": "CC0"},
        {"collection": "pool/PT002_B", "scans": 1, "subjects": 1, "licence": ""},
    ]
    checked = check(tmp_path)
    assert set(checked.manifest["licence"]) == {"CC0", ""}
    assert describe_sources(checked.manifest)[0]["licences"] == ["CC0"]
    assert "licence: CC0" in summarise(tmp_path, checked)


def test_licence_of_a_table_goes_before_that_of_its_folder(tmp_path: Path) -> None:
    scan(tmp_path / "one.nii.gz")
    text(tmp_path / "LICENSE", "CC0")
    pd.DataFrame({"path": ["one.nii.gz"], "subject": ["1"], "licence": ["on request"]}).to_csv(
        tmp_path / "scans.csv", index=False
    )
    table = scan_sources(tmp_path, [Source("scans.csv")], Split())
    (row,) = describe_collections(tmp_path, table)
    assert row["licence"] == "on request"
