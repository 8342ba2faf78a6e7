"""Containers for a challenge: its flags, answers to any input, embeddings, and the check of all."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scaling.data.cache import open_cache
from scaling.files import write_json
from scaling.handin.answers import label_probabilities, mask_like, most_probable
from scaling.handin.container_check import check_container, check_format, flag_of
from scaling.handin.contract import challenge_contract, own_contract
from scaling.handin.embedding_export import export_embedding
from scaling.handin.export import promised
from scaling.handin.inference import read_session, run, run_network
from scaling.study.challenge import load_challenge
from scaling.study.config import Volumes

CHECKPOINT = Path("runs/micro/pretrain/mae-xxs-seed0-320")
FOMO26 = load_challenge("fomo26")


def test_contract_takes_the_challenges_flags_and_those_of_its_files() -> None:
    contract = challenge_contract(FOMO26, FOMO26.task("1"), ("flair", "dwi_b1000", "t2s|swi"))
    for flag, sequence in (
        ("dwi", "dwi_b1000"),
        ("dwi_b1000", "dwi_b1000"),
        ("flair", "flair"),
        ("swi", "swi"),
        ("t1w", "t1"),
    ):
        assert contract.flags[flag] == sequence
    assert contract.always_answers
    assert contract.empty_masks
    assert (contract.name, contract.seconds_per_case) == ("task1", 120)
    probe = challenge_contract(FOMO26, FOMO26.task("7"), ("any",))
    assert (probe.name, probe.flags["input"]) == ("task6_and_7", "any")
    assert not own_contract("age", ("t1",)).always_answers


def test_model_that_reads_what_the_task_does_not_give_is_refused() -> None:
    with pytest.raises(ValueError, match=r"reads t2, which task 3 \(brain-age\) of fomo26"):
        challenge_contract(FOMO26, FOMO26.task("3"), ("t1", "t2"))


def test_mask_of_several_labels_takes_the_most_probable_with_the_background() -> None:
    logits = np.full((3, 2, 2, 1), -2.0)
    logits[0, 0, 0], logits[1, 0, 1], logits[2, 1, 0] = 3.0, 3.0, 3.0
    logits[:, 1, 1] = np.array([0.1, 0.0, 0.05])[:, None]
    probabilities = label_probabilities(logits)
    assert probabilities.shape == (2, 2, 2, 1)
    mask = most_probable(probabilities, (1, 2))
    # In the last voxel the labels together outweigh the background, but no label alone does.
    assert mask[..., 0].tolist() == [[0, 1], [2, 0]]
    assert most_probable(np.full((1, 1, 1, 1), 0.51), (1,)).tolist() == [[[1]]]


def test_mask_may_be_empty_where_the_challenge_allows_it(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).uniform(1, 100, (12, 12, 12)).astype(np.float32)
    nib.save(nib.Nifti1Image(voxels, np.diag([2.0, 2.0, 2.0, 1.0])), tmp_path / "scan.nii.gz")
    low = np.full((1, 12, 12, 12), 0.1)
    grid = np.diag([2.0, 2.0, 2.0, 1.0])
    assert np.asarray(mask_like(tmp_path / "scan.nii.gz", low, grid).dataobj).sum() == 0
    filled = mask_like(tmp_path / "scan.nii.gz", low, grid, empty=False)
    assert np.asarray(filled.dataobj).sum() == 1


@pytest.fixture(scope="module")
def probe_container(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("probe") / "out"
    export_embedding(finished / CHECKPOINT, FOMO26, FOMO26.task("6"), out)
    return out


@pytest.fixture
def mask_app(tmp_path: Path) -> Path:
    """A container's folder of a mask model, without its network: no case here gets that far."""
    contract = challenge_contract(FOMO26, FOMO26.task("2"), ("flair",))
    description = promised(contract) | {
        "what": "meningioma",
        "kind": "segmentation",
        "sequences": ["flair"],
        "spacing_mm": 4.0,
        "shape": [16, 16, 16],
        "labels": [1],
        "prior": [],
    }
    write_json(tmp_path / "app/model.json", description)
    return tmp_path / "app"


def test_unusable_inputs_are_answered_by_the_prior(
    mask_app: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = tmp_path / "flair.nii.gz"
    affine = np.diag([1.5, 2.0, 3.0, 1.0])
    for voxels in (np.full((20, 21, 22), 7, np.int16), np.zeros((1, 2, 1), np.int16)):
        nib.save(nib.Nifti1Image(voxels, affine), scan)
        arguments = ["--flair", str(scan), "--output", str(tmp_path / "mask.nii.gz")]
        assert run(mask_app, arguments) == 0
        mask = nib.load(tmp_path / "mask.nii.gz")
        assert mask.shape == voxels.shape
        np.testing.assert_allclose(mask.affine, affine)
        assert not np.asarray(mask.dataobj).any()
    assert "the prior is written" in capsys.readouterr().err


def test_embedding_is_that_of_the_cached_volume_centred_and_scaled(
    probe_container: Path, finished: Path, tmp_path: Path
) -> None:
    app = probe_container / "app"
    description = json.loads((app / "model.json").read_text())
    cache = open_cache(finished / "runs/micro/prepare/cache")
    scans = cache.index[(cache.index["source"] == "fomo60k") & (cache.index["status"] == "ok")]
    volumes = Volumes(description["spacing_mm"], tuple(description["shape"]))
    vectors = []
    # The first scan of a session gives it its grid: one alone is read as the cache has it.
    firsts = scans.drop_duplicates(["subject", "session"])
    for row, path in list(zip(firsts.index, firsts["path"], strict=True)):
        images, _, _ = read_session({"any": finished / path}, ["any"], volumes)
        np.testing.assert_array_equal(images[0], cache.volume(int(row)))
        vectors.append(run_network(app, images, np.ones(1, bool)))
    stacked = np.stack(vectors)
    assert stacked.shape[1] == description["length"]
    assert np.abs(stacked.mean(0)).mean() < 0.1
    assert 0.02 < stacked.std(0).mean() < 0.3
    output = tmp_path / "case.npy"
    path = finished / firsts["path"].iloc[0]
    assert run(app, ["--input", str(path), "--output", str(output)]) == 0
    vector = np.load(output, allow_pickle=False)
    assert (vector.dtype, vector.shape) == (np.float32, (description["length"],))
    np.testing.assert_allclose(vector, vectors[0], rtol=1e-4, atol=1e-5)


def test_check_runs_real_and_made_up_cases_and_finds_faults(
    probe_container: Path, finished: Path, tmp_path: Path
) -> None:
    scan = min((finished / "cohort/fomo60k").rglob("*.nii.gz"))
    checked = check_container(probe_container, [("first", {"any": scan})], tmp_path / "scratch")
    assert [case.name for case in checked] == ["first", "constant", "tiny"]
    assert [case.problems for case in checked] == [[], [], []]
    broken = tmp_path / "broken"
    shutil.copytree(probe_container, broken)
    (broken / "app/predict.py").write_text(
        "import socket, sys\n"
        "from pathlib import Path\n"
        "socket.socket(socket.AF_UNIX)\n"
        "Path(__file__).with_name('log.txt').write_text('x')\n"
        "Path(sys.argv[-1]).write_text('no array')\n"
    )
    (case, *_, folder) = check_container(broken, [("first", {"any": scan})], tmp_path / "scratch")
    assert "it uses sockets" in case.problems[0]
    assert "no readable .npy file" in case.problems[1]
    assert "writes into its own folder: log.txt" in folder.problems[0]


def test_check_of_formats_names_what_is_wrong(tmp_path: Path) -> None:
    number = tmp_path / "x.txt"
    number.write_text("1.2")
    with pytest.raises(ValueError, match="expected a probability from 0 to 1"):
        check_format({"kind": "classification"}, number, [])
    assert check_format({"kind": "regression"}, number, []) == 0
    scan, mask = tmp_path / "scan.nii.gz", tmp_path / "mask.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.int16), np.eye(4)), scan)
    nib.save(nib.Nifti1Image(np.full((4, 4, 4), 3, np.uint8), np.eye(4)), mask)
    with pytest.raises(ValueError, match="holds 3; expected 0, 1, 2"):
        check_format({"kind": "segmentation", "labels": [1, 2]}, mask, [scan])
    nib.save(nib.Nifti1Image(np.ones((4, 4, 3), np.uint8), np.eye(4)), mask)
    with pytest.raises(ValueError, match="of no input"):
        check_format({"kind": "segmentation", "labels": [1]}, mask, [scan])


def test_flag_of_a_sequence_is_the_challenges() -> None:
    contract = challenge_contract(FOMO26, FOMO26.task("1"), ("dwi_b1000",))
    assert flag_of({"flags": contract.flags}, "dwi_b1000") == "dwi"
    age = challenge_contract(FOMO26, FOMO26.task("3"), ("t1",))
    assert flag_of({"flags": age.flags}, "t1") == "t1"
    with pytest.raises(ValueError, match="no flag for pd"):
        flag_of({"flags": contract.flags}, "pd")
