"""A checkpoint handed in: the container's content, against the study's network and volumes."""

import itertools
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
import nibabel as nib
import nibabel.processing
import numpy as np
import pytest
from scipy.interpolate import RegularGridInterpolator

from scaling.handin.answers import both_values, mask_like
from scaling.handin.export import export, finetune_on_all, hand_in, transfer_config
from scaling.handin.inference import read_session, run, run_network
from scaling.handin.weights import export_weights
from scaling.models.backbone import build_encoder
from scaling.runs.finished import finished_run
from scaling.runs.steps import TransferStep
from scaling.study.config import ViT, Volumes, Weights
from scaling.study.ladder import CnnShape
from scaling.training.checkpoint import Checkpoints
from scaling.training.program import State
from scaling.transfer.finetune import predict_cases
from scaling.transfer.references.weights import public_encoder
from scaling.transfer.run import load_encoder
from tests.conftest import scaling

CHECKPOINT = Path("runs/micro/pretrain/mae-xxs-seed0-320")
TRAINING = {
    "flax",
    "optax",
    "orbax",
    "orbax-checkpoint",
    "grain",
    "wandb",
    "tensorstore",
    "pandas",
    "sklearn",
    "scikit-learn",
}
SHAPE = (12, 14, 12)
GRID = np.array([[8.0, 0, 0, -41], [0, 8.0, 0, -54], [0, 0, 8.0, -39], [0, 0, 0, 1]])
ORIENTATIONS = [
    "".join(letters)
    for axes in itertools.permutations(("LR", "PA", "IS"))
    for letters in itertools.product(*axes)
]


class HandedIn(NamedTuple):
    """The content of a task's container, and what it was exported from."""

    app: Path
    checkpoint: Path
    config: TransferStep


CNNS = {
    "unet": CnnShape("unet", 8, (4, 8), (1, 1), 4),
    "resenc": CnnShape("resenc", 8, (4, 8), (1, 2), 4),
}
EXPORTED = [
    "vit meningioma",
    "vit brain-age",
    *(
        pytest.param(which, marks=pytest.mark.slow)
        for which in ("unet meningioma", "resenc infarct")
    ),
]


@pytest.fixture(scope="module", params=EXPORTED)
def handed_in(
    request: pytest.FixtureRequest, finished: Path, tmp_path_factory: pytest.TempPathFactory
) -> HandedIn:
    """A task's container, of the micro study or of an untrained CNN in the place of its encoder."""
    folder = tmp_path_factory.mktemp("handed-in")
    backbone, task = request.param.split()
    checkpoint, config = finished / CHECKPOINT, transfer_config(finished / CHECKPOINT, task)
    if backbone == "vit":
        export(checkpoint, task, folder / "out")
    else:
        recipe = replace(
            config.transfer.finetune, learning_rates=(0.03,), window=(16, 16, 16)
        )  # in few steps far from its start
        config = replace(
            config, encoder=CNNS[backbone], transfer=replace(config.transfer, finetune=recipe)
        )
        checkpoint = save_untrained(CNNS[backbone], finished, folder / "study")
        hand_in(checkpoint, config, folder / "out", cuda=False)
    return HandedIn(folder / "out/app", checkpoint, config)


def save_untrained(encoder: CnnShape, finished: Path, study_dir: Path) -> Path:
    """The folder of an untrained encoder's run, in a study that has the micro study's volumes."""
    study_dir.mkdir()
    (study_dir / "prepare").symlink_to(finished / "runs/micro/prepare")
    parameters = jax.jit(build_encoder(encoder).init)(jax.random.key(0))
    with Checkpoints(study_dir / "pretrain/untrained/checkpoints") as checkpoints:
        checkpoints.save(1, State(jax.numpy.int32(1), {"encoder": parameters}, {}, {}))
    return study_dir / "pretrain/untrained"


def session(finished: Path, case: str) -> dict[str, Path]:
    """The files of a case such as fomo-task2-test/sub_1/ses_1, by sequence."""
    source, subject, name = case.split("/")
    return {
        file.name.removesuffix(".nii.gz"): file
        for file in (finished / "cohort" / source / "preprocessed" / subject / name).iterdir()
    }


def first_test_session(handed_in: HandedIn, finished: Path) -> dict[str, Path]:
    """The files of a task's first test session."""
    source = handed_in.config.task.test[0].path
    subject = min((finished / "cohort" / source / "preprocessed").iterdir()).name
    return session(finished, f"{source}/{subject}/ses_1")


def arguments(files: dict[str, Path], output: Path) -> list[str]:
    """As the challenge calls, in an order of its own."""
    return [
        "--output",
        str(output),
        *(part for name in sorted(files, reverse=True) for part in (f"--{name}", str(files[name]))),
    ]


def in_orientation(image: nib.Nifti1Image, axes: str) -> nib.Nifti1Image:
    """The same image stored in another orientation."""
    wanted = nib.orientations.axcodes2ornt(axes)
    return image.as_reoriented(
        nib.orientations.ornt_transform(nib.orientations.io_orientation(image.affine), wanted)
    )


def test_container_sees_and_computes_what_the_study_does(
    handed_in: HandedIn, finished: Path, tmp_path: Path
) -> None:
    app, checkpoint, config = handed_in
    network = finetune_on_all(checkpoint, config)
    test = network.arrays.test
    expected = predict_cases(
        network.program, jax.tree.map(lambda leaf: leaf[None], network.parameters), test
    )[0]
    for row, case in enumerate(test.ids[:2]):
        files = session(finished, case)
        images, chosen, _ = read_session(files, list(config.task.sequences), config.data.volumes)
        np.testing.assert_array_equal(images, test.images[row])
        output = run_network(app, images, np.array([name != "" for name in chosen]))
        np.testing.assert_allclose(output, expected[row], rtol=1e-5, atol=1e-5)
        if config.task.kind == "regression":
            assert run(app, arguments(files, tmp_path / "age.txt")) == 0
            years = expected[row] * network.scaling[1] + network.scaling[0]
            assert float((tmp_path / "age.txt").read_text()) == pytest.approx(
                float(years), rel=1e-5
            )


def test_prediction_is_the_same_for_the_same_brain_in_other_orientations(
    handed_in: HandedIn, finished: Path, tmp_path: Path
) -> None:
    app, kind = handed_in.app, "nii.gz" if handed_in.config.task.kind == "segmentation" else "txt"
    files = first_test_session(handed_in, finished)
    assert run(app, arguments(files, tmp_path / f"first.{kind}")) == 0
    for axes in ("LPI", "SAR", "AIL"):
        turned = {name: tmp_path / file.name for name, file in files.items()}
        for name, file in files.items():
            nib.save(in_orientation(nib.load(file), axes), turned[name])
        assert run(app, arguments(turned, tmp_path / f"again.{kind}")) == 0
        if kind == "txt":
            assert (tmp_path / "again.txt").read_text() == (tmp_path / "first.txt").read_text()
            continue
        mask, scan = nib.load(tmp_path / "again.nii.gz"), nib.load(turned["flair"])
        assert mask.shape == scan.shape
        np.testing.assert_array_equal(mask.affine, scan.affine)
        assert np.unique(mask.dataobj).tolist() == [0, 1]
        original = nib.orientations.aff2axcodes(nib.load(files["flair"]).affine)
        back = in_orientation(mask, "".join(original))
        np.testing.assert_array_equal(back.dataobj, nib.load(tmp_path / "first.nii.gz").dataobj)


def test_mask_lies_on_thick_oblique_slices_as_they_are(
    handed_in: HandedIn, finished: Path, tmp_path: Path
) -> None:
    if handed_in.config.task.kind != "segmentation":
        pytest.skip("a task of numbers")
    turn = nib.eulerangles.euler2mat(0.1, -0.3, 0.2) @ np.diag([-1, 1, 1])
    grid = nib.affines.from_matvec(turn @ np.diag([3.1, 2.3, 9.7]), (60, -80, -60))
    files = {}
    for name, file in first_test_session(handed_in, finished).items():
        scan = nib.load(file)
        files[name] = tmp_path / file.name
        nib.save(nib.processing.resample_from_to(scan, ((45, 77, 19), grid), order=1), files[name])
    assert run(handed_in.app, arguments(files, tmp_path / "mask.nii.gz")) == 0
    mask = nib.load(tmp_path / "mask.nii.gz")
    assert (mask.shape, mask.get_data_dtype(), np.unique(mask.dataobj).tolist()) == (
        (45, 77, 19),
        np.uint8,
        [0, 1],
    )
    np.testing.assert_array_equal(mask.affine, nib.load(files["flair"]).affine)


@pytest.mark.parametrize("handed_in", ["vit brain-age"], indirect=True)
def test_container_brings_its_code_and_no_training_package(
    handed_in: HandedIn, tmp_path: Path
) -> None:
    app = handed_in.app
    lines = (app / "requirements.txt").read_text().splitlines()
    assert all(line.count("==") == 1 for line in lines)
    assert {"jax", "jaxlib", "nibabel", "safetensors"} <= {line.split("==")[0] for line in lines}
    assert not {line.split("==")[0] for line in lines} & TRAINING
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import scaling.handin.inference; "
        "print(*sys.modules); print(scaling.__file__)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", script, app],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    modules, file = done.stdout.splitlines()
    assert not set(modules.split()) & TRAINING
    assert Path(file).is_relative_to(app)


@pytest.mark.parametrize("handed_in", ["vit brain-age"], indirect=True)
def test_container_says_what_it_cannot_read(
    handed_in: HandedIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app = handed_in.app
    broken = tmp_path / "flair.nii.gz"
    broken.write_bytes(b"")
    assert (
        run(app, ["--flair", str(broken), "--t1", str(broken), "--output", str(tmp_path / "x.txt")])
        == 2
    )
    said = capsys.readouterr().err
    assert "no usable scan" in said
    assert "is empty (0 bytes)" in said
    assert not (tmp_path / "x.txt").exists()


def test_unusable_first_scan_gives_its_session_no_grid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_scan(tmp_path / "t1.nii.gz", np.diag([2.0, 2.5, 3.0, 1.0]), (30, 24, 20))
    flat = np.zeros((20, 20, 20), np.float32)
    flat[:12, 4:16, 4:16] = 7  # a head that is constant inside, elsewhere and on other voxels
    nib.save(nib.Nifti1Image(flat, np.diag([1.5, 1.5, 1.5, 1.0])), tmp_path / "flair.nii.gz")
    files = {name: tmp_path / f"{name}.nii.gz" for name in ("flair", "t1")}
    volumes = Volumes(4.0, SHAPE)
    images, chosen, grid = read_session(files, ["flair|t1"], volumes)
    assert chosen == ["t1"]
    assert "left out: " in (said := capsys.readouterr().err)
    assert "constant inside the head" in said
    alone, _, own = read_session({"t1": files["t1"]}, ["flair|t1"], volumes)
    np.testing.assert_array_equal(grid, own)
    np.testing.assert_array_equal(images, alone)


def probability(seed: int) -> np.ndarray:
    """A smooth blob on the grid, up to 0.9."""
    index = np.indices(SHAPE) - np.random.default_rng(seed).uniform(4, 8, 3)[:, None, None, None]
    return 0.9 * np.exp(-(index**2).sum(0) / 12)


def save_scan(path: Path, affine: np.ndarray, shape: tuple[int, int, int]) -> nib.Nifti1Image:
    voxels = np.random.default_rng(0).uniform(1, 100, shape).astype(np.float32)
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return nib.load(path)


def test_mask_turns_with_its_scan_through_all_orientations(tmp_path: Path) -> None:
    affine = np.diag([2.5, 3.5, 9.0, 1.0])
    affine[:3, 3] = (-20.3, -30.2, -40.1)
    scan = save_scan(tmp_path / "ras.nii.gz", affine, (18, 17, 10))
    first = np.asarray(mask_like(tmp_path / "ras.nii.gz", probability(0)[None], GRID).dataobj)
    assert 20 < first.sum() < first.size
    assert len(ORIENTATIONS) == 48
    for axes in ORIENTATIONS:
        nib.save(in_orientation(scan, axes), tmp_path / "turned.nii.gz")
        mask = mask_like(tmp_path / "turned.nii.gz", probability(0)[None], GRID)
        np.testing.assert_array_equal(np.asarray(in_orientation(mask, "RAS").dataobj), first)


def test_mask_is_the_interpolated_probability_at_each_voxels_place(tmp_path: Path) -> None:
    angle = np.deg2rad(20)
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-3.0, 3.0, 6.0])
    affine[:3, 3] = (25, -40, -30)
    scan = save_scan(tmp_path / "oblique.nii.gz", affine, (20, 24, 12))
    mask = mask_like(tmp_path / "oblique.nii.gz", probability(1)[None], GRID)
    np.testing.assert_allclose(mask.affine, scan.affine)
    places = np.moveaxis(np.indices(scan.shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    axes = [GRID[axis, 3] + 8.0 * np.arange(SHAPE[axis]) for axis in range(3)]
    expected = RegularGridInterpolator(axes, probability(1), bounds_error=False, fill_value=0.0)(
        places
    )
    clear = np.abs(expected - 0.5) > 1e-3
    assert expected[clear].max() > 0.5
    np.testing.assert_array_equal(np.asarray(mask.dataobj)[clear], expected[clear] > 0.5)


def test_mask_is_never_of_one_value() -> None:
    low, high = probability(2) / 10, 1 - probability(2) / 10
    assert np.flatnonzero(both_values(low)).tolist() == [low.argmax()]
    assert np.flatnonzero(both_values(high) == 0).tolist() == [high.argmin()]


@pytest.mark.parametrize(
    ("checkpoint", "task", "words"),
    [
        (
            "runs/micro/pretrain/mae-xxs-seed0-trunk-128",
            "infarct",
            "does not try mae-xxs-seed0-trunk-128 on 'infarct'; name a cooldown",
        ),
        ("runs/micro", "infarct", "lies in no study's folder"),
        (CHECKPOINT, "age", "one of infarct, meningioma, brain-age"),
        ("runs/micro/pretrain/mae-xl", "infarct", "its runs are pretrain/mae-xxs-seed0-trunk-128"),
    ],
)
def test_export_of_something_else_is_refused_in_a_sentence(
    finished: Path, tmp_path: Path, checkpoint: str, task: str, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        export(finished / checkpoint, task, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_export_writes_over_nothing(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not empty"):
        export(finished / CHECKPOINT, "infarct", tmp_path)


NO_PICKLE = """
import pickle, sys, pathlib
found = []
def note(event, arguments):
    if event == "pickle.find_class":
        found.append(arguments)
sys.addaudithook(note)
pickle.loads(pickle.dumps(pathlib.PurePath))
assert found, "the hook sees what it should"
from scaling.runs.finished import finished_run
from scaling.handin.inference import warm_up
from scaling.transfer.run import load_encoder
checkpoint, app = map(pathlib.Path, sys.argv[1:])
found.clear()
def refuse(*arguments, **options):
    raise AssertionError("something is unpickled")
pickle.load = pickle.loads = pickle.Unpickler = pickle._Unpickler = refuse
_, config = finished_run(checkpoint)
load_encoder(config.encoder, config.seed, checkpoint / "checkpoints")
warm_up(app)
assert not found, found
"""


@pytest.mark.parametrize("handed_in", ["vit brain-age"], indirect=True)
def test_loading_checkpoint_and_container_unpickles_nothing(handed_in: HandedIn) -> None:
    command = [sys.executable, "-c", NO_PICKLE, handed_in.checkpoint, handed_in.app]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_validators_call_in_a_fresh_environment_takes_seconds(
    finished: Path, tmp_path: Path
) -> None:
    assert (
        scaling(
            "export", CHECKPOINT, "--task", "infarct", "--out", tmp_path / "out", folder=finished
        ).returncode
        == 0
    )
    app = tmp_path / "out/app"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv/bin/python"
    subprocess.run(
        [python, "-m", "pip", "install", "-q", "-r", app / "requirements.txt"], check=True
    )
    subject = min((finished / "cohort/fomo-task1-test/preprocessed").iterdir()).name
    files = session(finished, f"fomo-task1-test/{subject}/ses_1")
    turned = {name: tmp_path / file.name for name, file in files.items()}
    for name, file in files.items():
        nib.save(in_orientation(nib.load(file), "PIR"), turned[name])
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    subprocess.run([python, app / "predict.py", "--warm"], env=environment, check=True)
    compiled = sorted(app.glob("compiled/*/*"))
    for number, given in enumerate((files, turned)):
        began = time.perf_counter()
        command = [python, app / "predict.py", *arguments(given, tmp_path / f"{number}.txt")]
        subprocess.run(command, env=environment, cwd=tmp_path, check=True)
        assert time.perf_counter() - began < 30
    assert compiled
    assert sorted(app.glob("compiled/*/*")) == compiled
    assert (tmp_path / "0.txt").read_text() == (tmp_path / "1.txt").read_text()
    assert 0 < float((tmp_path / "0.txt").read_text()) < 1


def test_weights_of_a_finished_run_have_a_card_and_are_read_back(
    finished: Path, tmp_path: Path
) -> None:
    checkpoint = finished / CHECKPOINT
    out = tmp_path / "out"
    described = export_weights(checkpoint, out, licence="CC0")
    assert described["samples"] == 320
    names = {file.name for file in out.iterdir()}
    assert names == {"weights.safetensors", "vit.py", "model.json", "README.md"}
    card = (out / "README.md").read_text()
    for words in (
        "| mae |",
        "320 samples",
        "CC0",
        "fomo60k",
        "## Verdicts",
        "from vit import load",
    ):
        assert words in card
    _, config = finished_run(checkpoint)
    size = config.size
    reference = Weights("again", str(out / "weights.safetensors"), ViT(), size)
    read = public_encoder(reference)
    trained = load_encoder(config.encoder, config.seed, checkpoint / "checkpoints")
    jax.tree.map(np.testing.assert_array_equal, read, trained)
    with pytest.raises(FileExistsError):
        export_weights(checkpoint, out)
