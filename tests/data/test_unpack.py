"""Collections published as zip files of sessions: unpacked once, resumed, damaged ones listed."""

import zipfile
from pathlib import Path

import pytest
from test_layout import scan

from scaling.data.layout import scan_source
from scaling.data.unpack import unpack


def pack(folder: Path, inside: bool) -> Path:
    """A session as the zip file beside it, with or without its folder in it."""
    archive = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as content:
        for file in sorted(folder.iterdir()):
            content.write(file, file.relative_to(folder.parent if inside else folder))
            file.unlink()
    folder.rmdir()
    return archive


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """Three sessions, one of a nested collection, as zip files of both forms."""
    root = tmp_path / "fomo300k"
    sessions = ("PT001_OASIS1/sub_1/ses_1", "PT001_OASIS1/sub_2/ses_1")
    for seed, session in enumerate((*sessions, "PT030_OpenNeuro/ds000001/sub_1/ses_1")):
        scan(root / session / "t1.nii.gz", seed)
        pack(root / session, inside=seed % 2 == 0)
    return root


def test_folder_of_zip_files_alone_says_how_to_unpack_them(packed: Path) -> None:
    with pytest.raises(ValueError, match=r"holds 3 zip files .* run `scaling data unpack"):
        scan_source(packed.parent, "fomo300k")


def test_unpacked_sessions_are_scans_and_are_not_unpacked_again(packed: Path) -> None:
    partial = packed / "PT001_OASIS1/sub_1/.ses_1.partial"  # an interrupted run left it
    partial.mkdir()
    (partial / "half").write_text("x")
    assert unpack(packed, workers=1) == (3, [])
    table = scan_source(packed.parent, "fomo300k")
    assert table["subject"].tolist() == [
        "PT001_OASIS1/sub_1",
        "PT001_OASIS1/sub_2",
        "PT030_OpenNeuro/ds000001/sub_1",
    ]
    assert not list(packed.rglob("*.partial"))
    assert unpack(packed, workers=1) == (0, [])


def test_damaged_zip_file_is_listed_and_the_others_are_unpacked(packed: Path) -> None:
    damaged = packed / "PT001_OASIS1/sub_1/ses_1.zip"
    damaged.write_bytes(damaged.read_bytes()[:100])
    count, (problem,) = unpack(packed, workers=1)
    assert count == 2
    assert str(damaged) in problem
    with pytest.raises(ValueError, match="holds 1 zip files"):
        scan_source(packed.parent, "fomo300k")


def test_zip_file_that_leads_out_of_its_folder_is_refused(packed: Path) -> None:
    with zipfile.ZipFile(packed / "PT001_OASIS1/sub_1/ses_1.zip", "w") as content:
        content.writestr("../../stolen.txt", "x")
    count, (problem,) = unpack(packed, workers=1)
    assert count == 2
    assert "leads out of its folder" in problem
    assert not (packed / "PT001_OASIS1/stolen.txt").exists()


def test_folder_without_zip_files_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no zip files"):
        unpack(tmp_path)
