"""The cache of prepared volumes: the same bytes however it was made, and a sentence when it cannot
be made.
"""

import gzip
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from test_layout import scan, text

from scaling.data import identity as identity_module
from scaling.data import prepare as prepare_module
from scaling.data.cache import Cache, damaged_files, open_cache
from scaling.data.layout import scan_sources
from scaling.data.pipeline import batches, draw_crops
from scaling.data.prepare import prepare, renew
from scaling.study.config import Source, Split, Volumes

GRID = Volumes(2.0, (12, 14, 12))


def collection(root: Path, subjects: int = 6) -> pd.DataFrame:
    """`subjects` sessions of t1 and t2 with structure, in a folder "data"."""
    index = np.indices((16, 18, 14)).astype(float)
    ball = ((index - np.array([8, 9, 7.0])[:, None, None, None]) ** 2).sum(0) < 36
    for n in range(subjects):
        session = root / "data" / f"sub_{n}" / "ses_1"
        session.mkdir(parents=True)
        for m, sequence in enumerate(("t1", "t2")):
            voxels = np.where(
                ball, 50 + np.random.default_rng(10 * n + m).integers(0, 90, ball.shape), 0
            ).astype(np.int16)
            nib.save(
                nib.Nifti1Image(voxels, np.diag([2.0, 2.0, 2.5, 1.0])),
                session / f"{sequence}.nii.gz",
            )
    return scan_sources(root, [Source("data")], Split())


def fingerprint(folder: Path) -> dict[str, str]:
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.glob("*.npy"))
    }


def test_prepare_twice_returns_the_same_index_and_touches_nothing(tmp_path: Path) -> None:
    table = collection(tmp_path)
    first = prepare(tmp_path, table, GRID, tmp_path / "cache", workers=1)
    before = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "cache").iterdir()}
    pd.testing.assert_frame_equal(
        prepare(tmp_path, table, GRID, tmp_path / "cache", workers=1), first
    )
    assert {file.name: file.stat().st_mtime_ns for file in (tmp_path / "cache").iterdir()} == before


def test_unusable_first_scan_gives_its_session_no_grid(tmp_path: Path) -> None:
    collection(tmp_path, subjects=1)
    (alone,) = (
        rows
        for name, rows in scan_sources(tmp_path, [Source("data")], Split()).groupby("sequence")
        if name == "t2"
    )
    prepare(tmp_path, alone, GRID, tmp_path / "alone", workers=1)
    flat = np.zeros((20, 20, 20), np.int16)
    flat[:12, 4:16, 4:16] = 7  # a head that is constant inside, elsewhere and on other voxels
    nib.save(
        nib.Nifti1Image(flat, np.diag([1.5, 1.5, 1.5, 1.0])),
        tmp_path / "data/sub_0/ses_1/t1.nii.gz",
    )
    index = prepare(
        tmp_path,
        scan_sources(tmp_path, [Source("data")], Split()),
        GRID,
        tmp_path / "both",
        workers=1,
    )
    assert index["status"].tolist() == ["failed", "ok"]
    assert "constant inside the head" in index["reason"][0]
    np.testing.assert_array_equal(
        open_cache(tmp_path / "both").volume(1), open_cache(tmp_path / "alone").volume(0)
    )


def test_prepare_gives_the_same_bytes_for_any_number_of_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare_module, "GROUP", 4)
    table = collection(tmp_path)
    one = prepare(tmp_path, table, GRID, tmp_path / "one", workers=1)
    two = prepare(tmp_path, table, GRID, tmp_path / "two", workers=2)
    pd.testing.assert_frame_equal(one, two)
    assert fingerprint(tmp_path / "one") == fingerprint(tmp_path / "two")


def test_prepare_killed_and_run_again_gives_the_same_bytes(tmp_path: Path) -> None:
    table = collection(tmp_path, subjects=40)
    expected = prepare(tmp_path, table, GRID, tmp_path / "whole", workers=1)
    script = (
        "import sys, time; from pathlib import Path; from scaling.data.layout import scan_sources\n"
        "from scaling.data.prepare import prepare\n"
        "from scaling.study.config import Source, Split, Volumes\n"
        "root = Path(sys.argv[1])\n"
        "prepare(root, scan_sources(root, [Source('data')], Split()), Volumes(2.0, (12, 14, 12)), "
        "root / 'killed',\n"
        "        progress=lambda done, total: time.sleep(0.3), workers=1)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
    parts = tmp_path / "killed" / "parts"
    while process.poll() is None and not list(parts.glob("*.json")):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "index.parquet").exists()
    with pytest.raises(FileNotFoundError, match="no finished cache"):
        open_cache(tmp_path / "killed")
    reported: list[int] = []
    resumed = prepare(
        tmp_path,
        table,
        GRID,
        tmp_path / "killed",
        lambda done, total: reported.append(done),
        workers=1,
    )
    assert reported[0] > 0
    pd.testing.assert_frame_equal(resumed, expected)
    assert fingerprint(tmp_path / "killed") == fingerprint(tmp_path / "whole")


def test_prepare_with_one_bad_file_lists_it_and_goes_on(tmp_path: Path) -> None:
    collection(tmp_path, subjects=2)
    (tmp_path / "data" / "sub_0" / "ses_1" / "t1.nii.gz").write_bytes(b"\x1f\x8b broken")
    table = scan_sources(tmp_path, [Source("data")], Split())
    index = prepare(tmp_path, table, GRID, tmp_path / "cache", workers=1)
    assert index["status"].tolist() == ["failed", "ok", "ok", "ok"]
    assert "corrupt" in index["reason"].iloc[0]


def test_prepare_with_an_unusable_mask_keeps_the_scan(tmp_path: Path) -> None:
    collection(tmp_path, subjects=2)
    (tmp_path / "data").rename(tmp_path / "preprocessed")
    (tmp_path / "data").mkdir()
    (tmp_path / "preprocessed").rename(tmp_path / "data" / "preprocessed")
    text(tmp_path / "data" / "labels" / "sub_0" / "label.txt", "1")
    text(tmp_path / "data" / "labels" / "sub_0" / "seg.nii.gz", "no image")
    scan(tmp_path / "data" / "labels" / "sub_1" / "seg.nii.gz")
    table = scan_sources(tmp_path, [Source("data")], Split())
    index = prepare(tmp_path, table, GRID, tmp_path / "cache", workers=1)
    assert (index["status"] == "ok").all()
    assert index["reason"].str.contains("cannot be used").tolist() == [True, True, False, False]
    cache = open_cache(tmp_path / "cache")
    with pytest.raises(ValueError, match="no segmentation"):
        cache.mask(0)
    assert cache.mask(2).dtype == np.uint8


@pytest.mark.parametrize("change", ["grid", "label"])
def test_prepare_of_something_else_into_the_same_folder_is_refused(
    tmp_path: Path, change: str
) -> None:
    table = collection(tmp_path, subjects=2)
    prepare(tmp_path, table, GRID, tmp_path / "cache", workers=1)
    volumes = Volumes(3.0, GRID.shape) if change == "grid" else GRID
    if change == "label":
        table.loc[0, "label"] = "1"
    with pytest.raises(ValueError, match="prepared from something else"):
        prepare(tmp_path, table, volumes, tmp_path / "cache", workers=1)


@pytest.mark.parametrize("change", ["nothing", "grid", "label", "fewer"])
def test_cache_that_nothing_was_trained_from_follows_its_collection(
    tmp_path: Path, change: str
) -> None:
    table = collection(tmp_path, subjects=2)
    cache = tmp_path / "cache"
    prepare(tmp_path, table, GRID, cache, workers=1)
    shard = (cache / "shard_00000.npy").stat().st_mtime_ns
    volumes = Volumes(3.0, GRID.shape) if change == "grid" else GRID
    if change == "label":
        table.loc[0, "label"] = "1"
    if change == "fewer":
        table = table.iloc[:2]
    renew(tmp_path, table, volumes, cache, compressed=False)
    again = prepare(tmp_path, table, volumes, cache, workers=1)
    fresh = prepare(tmp_path, table, volumes, tmp_path / "fresh", workers=1)
    pd.testing.assert_frame_equal(again, fresh)
    assert fingerprint(cache) == fingerprint(tmp_path / "fresh")
    assert not list(damaged_files(cache))
    kept = (cache / "shard_00000.npy").stat().st_mtime_ns == shard
    assert kept == (change in ("nothing", "label"))  # labels alone cost no reading


def test_cache_of_a_version_without_names_is_of_the_same_files(tmp_path: Path) -> None:
    table = collection(tmp_path, subjects=2)
    cache = tmp_path / "cache"
    first = prepare(tmp_path, table, GRID, cache, workers=1)
    identity = json.loads((cache / "cache.json").read_text())
    del identity["names"]
    (cache / "cache.json").write_text(json.dumps(identity))
    pd.testing.assert_frame_equal(prepare(tmp_path, table, GRID, cache, workers=1), first)


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("edited", ["scan", "mask"])
def test_prepare_notices_a_file_that_was_edited_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edited: str, verify: bool
) -> None:
    monkeypatch.setattr(prepare_module, "GROUP", 2)
    collection(tmp_path, subjects=3)
    mask = tmp_path / "data" / "labels" / "sub_0" / "ses_1" / "seg.nii"
    mask.parent.mkdir(parents=True)
    voxels = np.zeros((16, 18, 14), np.uint8)
    voxels[4:9, 6:12, 5:10] = 1
    nib.save(nib.Nifti1Image(voxels, np.diag([2.0, 2.0, 2.5, 1.0])), mask)
    table = scan_sources(tmp_path, [Source("data")], Split())
    prepare(tmp_path, table, GRID, tmp_path / "cache", workers=1)
    path = mask if edited == "mask" else tmp_path / "data" / "sub_0" / "ses_1" / "t1.nii.gz"
    before = path.stat()
    image = nib.load(path)
    changed = np.asarray(image.dataobj).copy()
    changed[5:8, 7:10, 6:8] = 0 if edited == "mask" else 33
    if edited == "mask":
        nib.save(nib.Nifti1Image(changed, image.affine), path)
    else:
        path.write_bytes(gzip.compress(nib.Nifti1Image(changed, image.affine).to_bytes(), 1))
    os.truncate(path, path.stat().st_size)
    if verify:  # neither size nor time need tell: the stamp is made to agree with the old one
        monkeypatch.setattr(identity_module, "stamp", lambda file: "1:1")
        index = pd.read_parquet(tmp_path / "cache" / "index.parquet")
        index["stamp"] = identity_module.stamps(table)
        index.to_parquet(tmp_path / "cache" / "index.parquet")
        (tmp_path / "cache" / "digests.json").unlink()
    else:
        assert path.stat().st_mtime_ns != before.st_mtime_ns
    read: list[int] = []
    again = prepare(
        tmp_path,
        table,
        GRID,
        tmp_path / "cache",
        lambda done, total: read.append(done),
        1,
        verify=verify,
    )
    fresh = prepare(tmp_path, table, GRID, tmp_path / "fresh", workers=1)
    assert read == [4, 6]  # one session of three
    pd.testing.assert_frame_equal(again, fresh)
    assert fingerprint(tmp_path / "cache") == fingerprint(tmp_path / "fresh")
    assert prepare(tmp_path, table, GRID, tmp_path / "cache", workers=1, verify=verify).equals(
        again
    )


def test_label_map_among_the_scans_is_left_out_by_its_content(tmp_path: Path) -> None:
    collection(tmp_path, subjects=1)
    index = np.indices((16, 18, 14)).astype(float)
    distance = np.sqrt(((index - np.array([8, 9, 7.0])[:, None, None, None]) ** 2).sum(0))
    labels = np.digitize(distance, [3, 6])
    labels = np.where(distance < 7, labels + 1, 0).astype(np.int16)
    session = tmp_path / "data" / "sub_0" / "ses_1"
    nib.save(nib.Nifti1Image(labels, np.diag([2.0, 2.0, 2.5, 1.0])), session / "native.nii.gz")
    # Flat tissues of a synthetic scan are no labels: their values are others.
    scan_of_tissues = (labels * 150).astype(np.int16)
    nib.save(
        nib.Nifti1Image(scan_of_tissues, np.diag([2.0, 2.0, 2.5, 1.0])), session / "flair.nii.gz"
    )
    table = scan_sources(tmp_path, [Source("data")], Split())
    prepared = prepare(tmp_path, table, GRID, tmp_path / "cache", workers=1).set_index("sequence")
    assert prepared.loc["native", "status"] == "failed"
    assert "holds labels" in prepared.loc["native", "reason"]
    assert (prepared.loc[["t1", "t2", "flair"], "status"] == "ok").all()


@pytest.mark.parametrize("name", ["t1_brainmask", "t1_bet_mask", "brain_mask"])
def test_brain_mask_beside_a_scan_normalises_it(tmp_path: Path, name: str) -> None:
    session = tmp_path / "data" / "sub_0" / "ses_1"
    session.mkdir(parents=True)
    rng = np.random.default_rng(0)
    index = np.indices((40, 44, 40)).astype(float)
    distance = np.sqrt(((index - np.array([20, 22, 20.0])[:, None, None, None]) ** 2).sum(0))
    voxels = np.where(distance < 17, 900, 0) + np.where(distance < 13, -500, 0)
    voxels = np.where(voxels > 0, voxels + rng.normal(0, 30, voxels.shape), 0).astype(np.float32)
    affine = np.diag([5.0, 5.0, 5.0, 1.0])
    nib.save(nib.Nifti1Image(voxels, affine), session / "t1.nii.gz")
    nib.save(nib.Nifti1Image((distance < 13).astype(np.uint8), affine), session / f"{name}.nii.gz")
    table = scan_sources(tmp_path, [Source("data")], Split())
    assert table["brainmask"].tolist() == [str(session / f"{name}.nii.gz")]
    prepared = prepare(tmp_path, table, Volumes(None, (40, 44, 40)), tmp_path / "cache", workers=1)
    assert prepared["reason"].tolist() == [""]
    volume = open_cache(tmp_path / "cache").volume(0).astype(float)
    brain = np.isin(np.round(volume, 3), np.round(volume[volume < 5], 3)) & (volume != -2.5)
    assert abs(volume[brain].mean()) < 0.1
    assert (volume > 5).sum() == (voxels > 700).sum()


def test_killed_worker_names_the_scan_it_was_reading(tmp_path: Path) -> None:
    table = collection(tmp_path, subjects=2)
    (tmp_path / "killer.py").write_text(
        "import os, signal\n"
        "from scaling.data import ingest\n"
        "read = ingest.read_scan\n"
        "def killed(path):\n"
        "    if path.parts[-3:] == ('sub_1', 'ses_1', 't1.nii.gz'):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return read(path)\n"
        "def patched(job, **options):\n"
        "    ingest.read_scan = killed\n"
        "    return ingest.ingest(job, **options)\n"
    )
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import killer\n"
        "from pathlib import Path\n"
        "from scaling.data import prepare as module\n"
        "from scaling.data.layout import scan_sources\n"
        "from scaling.study.config import Source, Split, Volumes\n"
        "if __name__ == '__main__':\n"
        "    module.ingest, module.GROUP = killer.patched, 2\n"
        "    root = Path(sys.argv[1])\n"
        "    table = scan_sources(root, [Source('data')], Split())\n"
        "    module.prepare(root, table, Volumes(2.0, (12, 14, 12)), root / 'cache', workers=2)\n"
    )
    (tmp_path / "run.py").write_text(script)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "run.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )
    last = done.stderr.strip().splitlines()[-1]
    assert str(tmp_path / "data" / "sub_1" / "ses_1" / "t1.nii.gz") in last
    assert "sub_0" not in last
    prepare(tmp_path, table, GRID, tmp_path / "cache", workers=1)


def test_prepare_on_a_small_disk_says_what_it_needs_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = collection(tmp_path, subjects=1)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(OSError, match=r"needs .* GB for 2 scans") as error:
        prepare(tmp_path, table, GRID, tmp_path / "cache", workers=1)
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "cache").glob("*.npy"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_prepare_on_a_disk_that_fills_up_says_so_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare_module, "GROUP", 2)
    table = collection(tmp_path, subjects=3)
    expected = prepare(tmp_path, table, GRID, tmp_path / "whole", workers=1)
    from scaling.data.shards import Shards

    write, written = Shards.write, []

    def fills_up(self: Shards, kind: str, number: int, row: int, volume: np.ndarray) -> None:
        written.append(row)
        if row == 3:
            Path("/dev/full").write_bytes(b"x")  # the system's own error of a full disk
        write(self, kind, number, row, volume)

    monkeypatch.setattr(Shards, "write", fills_up)
    with pytest.raises(OSError, match=r"full after 2 of 6 scans.*continues"):
        prepare(tmp_path, table, GRID, tmp_path / "cache", workers=1)
    monkeypatch.setattr(Shards, "write", write)
    pd.testing.assert_frame_equal(
        prepare(tmp_path, table, GRID, tmp_path / "cache", workers=1), expected
    )
    assert fingerprint(tmp_path / "cache") == fingerprint(tmp_path / "whole")


@pytest.mark.parametrize("harm", ["short", "gone", "other"])
def test_corrupt_shard_ends_in_one_sentence(tmp_path: Path, harm: str) -> None:
    prepare(tmp_path, collection(tmp_path, subjects=1), GRID, tmp_path / "cache", workers=1)
    shard = tmp_path / "cache" / "shard_00000.npy"
    if harm == "short":
        shard.write_bytes(shard.read_bytes()[:-100])
    elif harm == "gone":
        shard.unlink()
    else:
        np.save(shard, np.zeros((2, 3, 3, 3), np.float16))
    with pytest.raises(ValueError, match=r"shard_00000.npy .* prepare it again"):
        open_cache(tmp_path / "cache")


def test_sessions_without_a_spacing_keep_their_own_voxels(tmp_path: Path) -> None:
    table = collection(tmp_path, subjects=1)
    index = prepare(tmp_path, table, Volumes(None, (20, 20, 20)), tmp_path / "cache", workers=1)
    assert set(index["spacing"]) == {"2 x 2 x 2.5"}
    assert index["covered"].tolist() == [1.0, 1.0]
    volume = open_cache(tmp_path / "cache").volume(0).astype(float)
    stored = np.asarray(nib.load(table["path"].iloc[0]).dataobj).astype(float)
    inside = volume != volume[0, 0, 0]
    values = stored[stored > 0].clip(*np.percentile(stored[stored > 0], (0.5, 99.5)))
    np.testing.assert_allclose(volume[inside], (values - values.mean()) / values.std(), atol=2e-3)


def test_compressed_cache_holds_the_same_volumes_and_resumes(tmp_path: Path) -> None:
    pytest.importorskip("blosc2")
    table = collection(tmp_path, subjects=2)
    plain = prepare(tmp_path, table, GRID, tmp_path / "plain", workers=1)
    small = prepare(tmp_path, table, GRID, tmp_path / "small", workers=1, compressed=True)
    pd.testing.assert_frame_equal(plain, small)
    assert not list((tmp_path / "small").glob("*.npy"))
    one, other = open_cache(tmp_path / "plain"), open_cache(tmp_path / "small")
    for i in range(len(table)):
        np.testing.assert_array_equal(one.volume(i), other.volume(i))
    np.testing.assert_array_equal(
        one.shards[0][1, 2:9, 3:5, 0:12], other.shards[0][1, 2:9, 3:5, 0:12]
    )
    batch = [
        next(batches(each, (6, 6, 6), draw_crops(each, np.arange(4), (6, 6, 6), 4, 0), 4, 3))
        for each in (one, other)
    ]
    np.testing.assert_array_equal(*batch)
    with pytest.raises(ValueError, match="compressed was"):
        prepare(tmp_path, table, GRID, tmp_path / "small", workers=1)


def test_head_larger_than_the_grid_is_reported(tmp_path: Path) -> None:
    index = prepare(
        tmp_path,
        collection(tmp_path, subjects=1),
        Volumes(2.0, (6, 6, 6)),
        tmp_path / "cache",
        workers=1,
    )
    assert (index["covered"] < 0.5).all()


def test_cache_of_a_cohort_has_no_failures(cache: Cache) -> None:
    assert (cache.index["status"] == "ok").all()
    assert (cache.index["reason"] == "").all()
