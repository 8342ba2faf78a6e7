"""More draws of a finished transfer: those it has are taken over, the others are computed."""

import dataclasses
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from scaling.data.grids import open_grid
from scaling.engines.preparing import prepare_study
from scaling.files import write_table
from scaling.runs.drift import ConfigDriftError
from scaling.runs.rundir import EARLIER, PREDICTIONS, begin, finish, step_status
from scaling.runs.steps import PrepareStep, Step, TransferStep
from scaling.study.config import Data, Finetune, Source, Task, Transfer, ViT, Volumes
from scaling.study.ladder import resolve_encoder
from scaling.transfer.run import transfer

KEYS = ["protocol", "shots", "draw", "case"]
AGE = Task("age", "regression", ("t1",), Source("mine"), (), (4,), 2, "age", folds=2)
RECIPE = Finetune(steps=2, batch=2, learning_rates=(1e-3,))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """Ten people with a scan and an age, prepared into `prepare` beside them."""
    root, rng = tmp_path_factory.mktemp("draws"), np.random.default_rng(0)
    rows = []
    for number in range(10):
        voxels = np.zeros((20, 20, 20), np.float32)
        voxels[3:17, 3:17, 3:17] = rng.normal(100, 10 + number, (14, 14, 14))
        file = root / "mine" / f"sub-{number}" / "ses_1" / "t1.nii.gz"
        file.parent.mkdir(parents=True)
        nib.save(nib.Nifti1Image(voxels, np.diag([8.0, 8.0, 8.0, 1.0])), file)
        rows.append((f"sub-{number}", 30 + 5 * number))
    table = pd.DataFrame(rows, columns=["participant_id", "age"])
    table.to_csv(root / "mine" / "participants.tsv", sep="\t", index=False)
    data = Data(str(root), (Source("mine"),), Volumes(8.0, (16, 16, 16)))
    (root / "prepare").mkdir()
    prepare_study(root / "prepare", PrepareStep(data, (AGE,)), "in", 1, lambda done, total: None)
    return data


def step(data: Data, arm: str, draws: int, rates: tuple[float, ...] = (1e-3,)) -> Step:
    """A control on the task, by the probe and by fine-tuning, or the classical one."""
    encoder = resolve_encoder(ViT(), "xxs", "mup") if arm == "scratch" else None
    task = dataclasses.replace(AGE, draws=draws)
    recipes = Transfer(finetune=dataclasses.replace(RECIPE, learning_rates=rates))
    config = TransferStep(arm, "none", "", "", encoder, 0.0, 0, 0, task, data, recipes)
    return Step(f"transfer/{arm}", "transfer", config, ())


def run(study: Path, one: Step, shift: float = 0.0) -> pd.DataFrame:
    """Run a step as the engines do; its predictions, to which `shift` is added before it ends."""
    folder = begin(study, one, "1 x cpu")
    cache = open_grid(Path(one.config.data.root) / "prepare")
    transfer(folder, None, one.config, cache, lambda done, total: None)
    predictions = pd.read_parquet(folder / PREDICTIONS)
    if shift:
        predictions["prediction"] += shift
        write_table(predictions, folder / PREDICTIONS)
    finish(folder, one, 1.0)
    return predictions.set_index(KEYS).sort_index()


@pytest.mark.parametrize("arm", ["classical", pytest.param("scratch", marks=pytest.mark.slow)])
def test_more_draws_give_what_all_of_them_at_once_would_have(
    data: Data, tmp_path: Path, arm: str
) -> None:
    run(tmp_path / "grown", step(data, arm, 2))
    assert step_status(tmp_path / "grown", step(data, arm, 3)) == "todo"
    grown, whole = (run(tmp_path / name, step(data, arm, 3)) for name in ("grown", "whole"))
    assert grown.index.equals(whole.index)
    assert not grown.index.duplicated().any()
    np.testing.assert_allclose(grown["prediction"], whole["prediction"], rtol=1e-4)
    assert step_status(tmp_path / "grown", step(data, arm, 3)) == "done"
    assert not (tmp_path / "grown/transfer" / arm / EARLIER).exists()
    with pytest.raises(ConfigDriftError, match=r"task\.draws was 3, is 2"):
        step_status(tmp_path / "grown", step(data, arm, 2))


def test_draws_that_are_there_are_not_computed_again(data: Data, tmp_path: Path) -> None:
    run(tmp_path, step(data, "classical", 2), shift=1000.0)
    predictions = run(tmp_path, step(data, "classical", 3))["prediction"]
    early = predictions.index.get_level_values("draw") < 2
    assert (predictions[early] > 500).all()
    assert (predictions[~early] < 500).all()


def test_draws_that_are_damaged_are_computed_again(data: Data, tmp_path: Path) -> None:
    whole = run(tmp_path, step(data, "classical", 2))
    file = tmp_path / "transfer/classical" / PREDICTIONS
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    predictions = run(tmp_path, step(data, "classical", 3))["prediction"]
    pd.testing.assert_series_equal(predictions.loc[whole.index], whole["prediction"])


@pytest.mark.slow
def test_draws_whose_learning_rates_compete_are_all_computed_again(
    data: Data, tmp_path: Path
) -> None:
    rates = (1e-3, 1e-4)
    run(tmp_path, step(data, "scratch", 2, rates), shift=1000.0)
    predictions = run(tmp_path, step(data, "scratch", 3, rates))["prediction"]
    assert (predictions.loc["finetune"] < 500).all()
    assert (predictions.loc["probe"] > 500).any()


def test_prepared_scans_stay_when_a_task_is_added(data: Data, tmp_path: Path) -> None:
    one = Step("prepare", "prepare", PrepareStep(data, (AGE,)), ())
    folder = begin(tmp_path, one, "1 x cpu")
    (folder / "cache").mkdir()
    (folder / "cache" / "shard.npy").write_text("volumes")
    finish(folder, one, 1.0)
    tasks = (AGE, dataclasses.replace(AGE, name="another"))
    more = dataclasses.replace(one, config=PrepareStep(data, tasks))
    assert step_status(tmp_path, more) == "todo"
    begin(tmp_path, more, "1 x cpu")
    assert (folder / "cache" / "shard.npy").read_text() == "volumes"
    finish(folder, more, 1.0)
    assert step_status(tmp_path, more) == "done"
