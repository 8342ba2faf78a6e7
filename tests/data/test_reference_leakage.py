"""Leakage of competitors: by name, by person and content, by manifest, and what is not stated."""

from pathlib import Path

import pandas as pd
import pytest

from scaling.data.reference_leakage import reference_leakage
from scaling.study.config import Data, Features, Source, Task, Volumes

TASK = Task("age", "regression", ("t1",), Source("ours"), (Source("ixi"),), shots=(2,), draws=1)


def row(source: str, subject: str, content: str) -> dict[str, str]:
    return {
        "path": f"{source}/{subject}/ses_1/t1.nii.gz",
        "source": source,
        "part": "train",
        "subject": subject,
        "session": "ses_1",
        "status": "ok",
        "content_hash": content,
    }


@pytest.fixture
def index() -> pd.DataFrame:
    return pd.DataFrame(
        [
            row("ours", "sub_1", "a"),
            row("ixi", "sub_1", "b"),
            row("ixi", "sub_2", "c"),
            row("fomo60k", "PT001_OASIS1/sub_1", "c"),
        ]
    )


def remarks(index: pd.DataFrame, data: Data, reference: Features) -> list[str]:
    return reference_leakage(reference, index, TASK, data)


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return Data(
        str(tmp_path), (Source("fomo60k"),), Volumes(8.0, (8, 8, 8)), manifest="manifest.csv"
    )


def test_test_collection_that_a_competitor_names_is_told(index: pd.DataFrame, data: Data) -> None:
    (sentence,) = remarks(index, data, Features("guest", "x.csv", collections=("UKB", "IXI")))
    assert "pretrained on IXI, and 2 test scans of age" in sentence
    assert remarks(index, data, Features("guest", "x.csv", collections=("UKB",))) == []


def test_same_scan_in_a_named_source_is_told(index: pd.DataFrame, data: Data) -> None:
    for name in ("FOMO60K", "PT001_OASIS1"):
        (sentence,) = remarks(index, data, Features("guest", "x.csv", collections=(name,)))
        assert "1 scans of the test cases of age are voxel for voxel in" in sentence
        assert name in sentence


def test_test_scans_in_the_manifest_of_the_method_track_are_told(
    index: pd.DataFrame, data: Data, tmp_path: Path
) -> None:
    table = pd.DataFrame({"dataset": ["ixi"], "participant_id": ["sub_2"]})
    table = table.assign(session_id="ses_1", filename="t1.nii.gz")
    table.to_csv(tmp_path / "manifest.csv", index=False)
    told = remarks(index, data, Features("guest", "x.csv", track="method"))
    assert len(told) == 1
    assert "manifest.csv" in told[0]


def test_unstated_pretraining_is_told_where_samples_are_stated(
    index: pd.DataFrame, data: Data
) -> None:
    (sentence,) = remarks(index, data, Features("guest", "x.csv", samples=10))
    assert "does not state what it was pretrained on" in sentence
    assert remarks(index, data, Features("radiomics", "x.csv")) == []
