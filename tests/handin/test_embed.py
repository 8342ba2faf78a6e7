"""Features of any folder of scans, against the tokens of the encoder on the study's own volumes."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scaling.data.cache import open_cache
from scaling.handin.embed import embed, list_scans
from scaling.runs.finished import finished_run
from scaling.transfer.features import embedder
from scaling.transfer.run import load_encoder
from tests.conftest import scaling

CHECKPOINT = Path("runs/micro/pretrain/mae-xxs-seed0-320")


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """Three subjects in the FOMO60K layout, a loose scan, a broken one, and a mask that is none of
    them.
    """
    source = finished / "cohort/fomo60k"
    for subject in sorted(path.name for path in source.iterdir() if path.name.startswith("sub_"))[
        :3
    ]:
        shutil.copytree(source / subject, tmp_path / "scans" / subject)
    first = min((tmp_path / "scans").rglob("*.nii.gz"))
    (tmp_path / "scans/loose").mkdir()
    shutil.copy(first, tmp_path / "scans/loose/Brain 1.nii.gz")
    (tmp_path / "scans/loose/broken.nii.gz").write_bytes(first.read_bytes()[:500])
    (tmp_path / "scans/labels").mkdir()
    shutil.copy(first, tmp_path / "scans/labels/seg.nii.gz")
    return tmp_path / "scans"


def test_embed_writes_a_row_per_scan_and_lists_broken_files(finished: Path, folder: Path) -> None:
    out = folder.parent / "features.parquet"
    done = scaling("embed", finished / CHECKPOINT, folder, "--out", out, folder=folder.parent)
    assert done.returncode == 0, done.stderr
    assert "1 scans could not be used" in done.stdout
    assert "broken.nii.gz is corrupt or truncated" in done.stdout
    table = pd.read_parquet(out)
    assert list(table.columns[:6]) == ["path", "subject", "session", "sequence", "run", "feature_0"]
    files = {str(file.relative_to(folder)) for file in folder.rglob("*.nii.gz")}
    assert set(table["path"]) == files - {"loose/broken.nii.gz", "labels/seg.nii.gz"}
    loose = table.set_index("path").loc["loose/Brain 1.nii.gz"]
    assert (loose["subject"], loose["session"], loose["sequence"]) == ("", "", "brain 1")
    known = table[table["subject"] != ""]
    assert (known["path"].str.split("/").str[0] == known["subject"]).all()
    assert table.attrs == {"checkpoint": CHECKPOINT.name, "grid": 2, "spacing_mm": 8.0}
    assert sorted(path.name for path in folder.parent.iterdir()) == ["features.parquet", "scans"]


def test_features_are_the_means_of_the_encoders_tokens_on_the_studys_volumes(
    finished: Path, folder: Path
) -> None:
    checkpoint, out = finished / CHECKPOINT, folder.parent / "features.csv"
    assert len(embed(checkpoint, folder, out, 1, 1, lambda done, total: None)) == 1
    table = pd.read_csv(out)
    features = table[[column for column in table if column.startswith("feature_")]].to_numpy()
    cache = open_cache(finished / "runs/micro/prepare/cache")
    _, config = finished_run(checkpoint)
    program = embedder(config.encoder, cache.volumes.shape)
    parameters = load_encoder(config.encoder, config.seed, checkpoint / "checkpoints")
    paths = [
        Path(path).relative_to("cohort/fomo60k")
        for path in cache.index["path"]
        if "fomo60k" in path
    ]
    rows = {
        str(path): row
        for row, path in zip(
            np.flatnonzero(cache.index["path"].str.contains("fomo60k")), paths, strict=True
        )
    }
    for number in np.flatnonzero(table["path"].isin(rows))[[0, -1]]:
        image = cache.volume(int(rows[table["path"][number]]))[None, None]
        tokens = np.asarray(program(parameters, image)[0, 0])
        np.testing.assert_allclose(features[number], tokens.mean(0), rtol=1e-4, atol=1e-5)


def test_list_of_no_scans_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no scans"):
        list_scans(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        list_scans(tmp_path / "nowhere")


def test_visits_are_sessions_and_brain_masks_are_used_as_in_training(tmp_path: Path) -> None:
    files = ("a/t1", "a/t1_brainmask", "b/t1", "loose")
    for name in files:
        path = tmp_path / "scans" / ("sub_1" if "/" in name else ".") / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"0")
    table = list_scans(tmp_path / "scans")
    assert table["session"].tolist() == ["", "a", "b"]
    mask = tmp_path / "scans/sub_1/a/t1_brainmask.nii.gz"
    assert table["brainmask"].tolist() == ["", str(mask), ""]


def test_links_to_folders_are_listed_and_not_followed(folder: Path) -> None:
    (folder / "linked").symlink_to(folder / "loose")
    table = list_scans(folder)
    (problem,) = table.loc[table["problem"] != "", "problem"]
    assert problem.startswith(f"{folder / 'linked'} is a link to a folder")


@pytest.mark.parametrize(
    ("out", "grid", "words"),
    [("x.txt", 1, "should end in .parquet"), ("x.csv", 4, "grid is 4; expected 1 to 3 cells")],
)
def test_embed_of_another_table_or_finer_cells_is_refused_in_a_sentence(
    finished: Path, tmp_path: Path, out: str, grid: int, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        embed(finished / CHECKPOINT, tmp_path, tmp_path / out, grid, 1, lambda done, total: None)
    assert not any(tmp_path.iterdir())
