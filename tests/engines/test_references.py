"""Competitors from plan to collected results: phantom, prepare, their steps, collect."""

import dataclasses
import sys
from pathlib import Path

import jax
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file
from sklearn.linear_model import RidgeCV

from scaling.data.draws import draw_table
from scaling.data.folds import folds
from scaling.data.grids import open_grid
from scaling.data.tasks import TaskArrays, few_shot_draws, load_task
from scaling.engines.evidence import scored
from scaling.engines.run_step import run_step
from scaling.engines.standing import is_one_model
from scaling.models.backbone import build_encoder
from scaling.models.published import encoder_to, with_aliases
from scaling.report.measured import controls
from scaling.report.views import ALL, View, over_draws, with_series
from scaling.runs.experiment import load_study, override
from scaling.runs.plan import Plan, make_plan
from scaling.runs.steps import ReferenceStep
from scaling.study.cnn_shape import CnnShape
from scaling.study.config import Features, Function, Predictions, ResEnc, Study, Weights
from scaling.transfer.predictions import Predicted
from scaling.transfer.references.checks import require_sources
from scaling.transfer.references.features import read_features
from scaling.transfer.references.functions import source_files
from scaling.transfer.references.predictions import all_stated, reference_predictions
from scaling.transfer.references.stamps import edited_files
from scaling.transfer.run import competitor

MICRO = Path(__file__).parents[1] / "micro_study.py"
AGE = "brain-age"


def silent(done: float, total: float) -> None:
    """No progress."""


def run(folder: Path, plan: Plan, *names: str) -> None:
    for name in names:
        run_step(folder, plan, plan.step_of[name], silent)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Study, pd.DataFrame]:
    """The micro study's folder with its volumes, the study, and a table of features of all
    scans.
    """
    root = tmp_path_factory.mktemp("references")
    study = override(load_study(MICRO), [f"data.root={root / 'cohort'}"])
    task = next(task for task in study.tasks if task.name == AGE)
    study = dataclasses.replace(study, tasks=(task,))
    folder = root / "study"
    run(folder, make_plan(study), "phantom", "prepare")
    index = open_grid(folder / "prepare", study.data.volumes).index
    features = np.random.default_rng(0).normal(size=(len(index), 5))
    table = pd.DataFrame(features, columns=[f"feature_{place}" for place in range(5)])
    columns = ["path", "source", "subject", "session", "sequence", "run"]
    return folder, study, pd.concat([index[columns].reset_index(drop=True), table], axis=1)


def test_competitors_are_collected_beside_the_controls_on_the_same_cases(
    prepared: tuple[Path, Study, pd.DataFrame],
) -> None:
    folder, study, table = prepared
    file = folder.parent / "features.parquet"
    table.to_parquet(file)
    guest = Features("guest", str(file), parameters=1000, samples=500)
    study = dataclasses.replace(study, references=(guest,))
    plan = make_plan(study)
    names = [step.name for step in plan.steps]
    step = "transfer/reference-guest-brain-age"
    assert names.index(step) == names.index("prepare") + 1
    run(folder, plan, step, "transfer/classical-brain-age", "collect")
    assert edited_files(folder / step) == []
    table.iloc[::-1].to_parquet(file)
    assert edited_files(folder / step) == [file]
    file.unlink()
    assert edited_files(folder / step) == []  # it may be elsewhere by now
    results = pd.read_parquet(folder / "results.parquet")
    assert set(results["arm"]) == {"guest", "classical", "histogram"}
    rows = results[results["arm"] == "guest"]
    assert set(rows["params"]) == {1000}
    assert set(rows["duration"]) == {500}
    predictions = pd.read_parquet(folder / "predictions.parquet")
    groups = predictions.groupby(["arm", "draw"])
    cases = {tuple(sorted(group["case"])) for _, group in groups}
    assert len(cases) == 1
    task = study.tasks[0]
    assert "guest" in set(scored(predictions, study, task, "mae", "finetune")["arm"])

    # Against scikit-learn, on rows joined by pandas.
    arrays = load_task(open_grid(folder / "prepare", study.data.volumes), task, study.data)
    chosen = few_shot_draws(task, arrays.train, task.shots[0])[0]
    drawn = draw_table(open_grid(folder / "prepare", study.data.volumes), task)
    of_first = drawn[(drawn["draw"] == 0) & (drawn["shots"] == task.shots[0])]
    assert of_first["case"].tolist() == [arrays.train.ids[place] for place in chosen]
    case_ids = table["source"] + "/" + table["subject"] + "/" + table["session"]
    values = table.filter(like="feature_").to_numpy()

    def of(ids: list[str]) -> np.ndarray:
        vectors = []
        for case in ids:
            for sequence in task.sequences:
                row = (case_ids == case) & (table["sequence"] == sequence)
                vectors.append(values[row.to_numpy()][0])
        return np.reshape(vectors, (len(ids), -1))

    train, test = of([arrays.train.ids[place] for place in chosen]), of(arrays.test.ids)
    scale = np.sqrt(train.var(axis=0).sum())
    assert study.transfer.probe is not None
    model = RidgeCV(alphas=study.transfer.probe.penalties)
    model.fit((train - train.mean(0)) / scale, arrays.train.labels[chosen])
    ours = predictions[(predictions["arm"] == "guest") & (predictions["draw"] == 0)]
    expected = model.predict((test - train.mean(0)) / scale)
    by_case = ours.set_index("case")["prediction"].loc[arrays.test.ids]
    np.testing.assert_allclose(by_case, expected, rtol=1e-4)


def test_table_without_paths_and_folder_of_cases_give_the_same_features(
    prepared: tuple[Path, Study, pd.DataFrame], tmp_path: Path
) -> None:
    folder, study, table = prepared
    task, cache = study.tasks[0], open_grid(folder / "prepare", study.data.volumes)
    table.to_csv(tmp_path / "with.csv", index=False)
    table.drop(columns="path").to_csv(tmp_path / "without.csv", index=False)
    by_path = read_features(Features("a", str(tmp_path / "with.csv")), cache, task)
    by_key = read_features(Features("b", str(tmp_path / "without.csv")), cache, task)
    for case, vector in by_path.items():
        file = tmp_path / "cases" / f"{case}.npy"
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, vector[None])
        np.testing.assert_array_equal(by_key[case], vector)
    of_folder = read_features(Features("c", str(tmp_path / "cases")), cache, task)
    assert of_folder.keys() == by_path.keys()
    for case, vector in by_path.items():
        np.testing.assert_array_equal(of_folder[case], vector)
    file.unlink()
    with pytest.raises(ValueError, match=f"no features of {case}"):
        read_features(Features("c", str(tmp_path / "cases")), cache, task)


def test_missing_doubled_ambiguous_and_infinite_rows_are_refused_by_name(
    prepared: tuple[Path, Study, pd.DataFrame], tmp_path: Path
) -> None:
    folder, study, table = prepared
    task, cache = study.tasks[0], open_grid(folder / "prepare", study.data.volumes)
    place = table.index[(table["source"] == "fomo-task3") & (table["sequence"] == "t1")][0]
    path = str(table.loc[place, "path"])
    infinite = table.copy()
    infinite.loc[place, "feature_3"] = np.inf
    short = table.assign(path=[Path(path).name for path in table["path"]])
    for changed, word in (
        (table.drop(index=place), f"no row of {path}"),
        (pd.concat([table, table.loc[[place]]]), "twice"),
        (infinite, f"no finite number in row {path}"),
        (short, "fits"),
    ):
        file = tmp_path / "table.csv"
        changed.to_csv(file, index=False)
        with pytest.raises(ValueError, match=word):
            read_features(Features("guest", str(file)), cache, task)


def test_reference_that_is_called_like_a_control_is_refused() -> None:
    study = load_study(MICRO)
    with pytest.raises(ValueError, match="a name of its own"):
        dataclasses.replace(study, references=(Features("random", "table.csv"),))


ENCODER = """
import numpy as np

calls = []


def encode(volumes):
    assert volumes.dtype == np.float32
    with open({log!r}, "a") as file:
        file.write(f"{{len(volumes)}}\\n")
    if {fail}:
        with open({log!r}) as file:
            if len(file.readlines()) > 2:
                raise RuntimeError("out of memory")
    return np.stack([volumes.mean((1, 2, 3)), volumes.std((1, 2, 3))], axis=1)
"""


def test_function_is_run_once_per_scan_and_goes_on_after_a_failure(
    prepared: tuple[Path, Study, pd.DataFrame], tmp_path: Path
) -> None:
    folder, study, _ = prepared
    file, log = tmp_path / "mine.py", tmp_path / "log"
    mine = Function("mine", f"{file}:encode", batch=3)
    plan = make_plan(dataclasses.replace(study, references=(mine,)))
    step = "transfer/reference-mine-brain-age"
    text = ENCODER.format(log=str(log), fail=True)
    file.write_text(text)
    with pytest.raises(RuntimeError, match="out of memory"):
        run(folder, plan, step)
    assert len(log.read_text().split()) == 3  # two batches are kept, the third failed
    stored = list((folder / "references" / "mine").rglob("*.npy"))
    assert len(stored) == 6
    # The same file to the letter: what is kept belongs to this function.
    log.write_text("")
    monkey = text.replace("> 2", "> 999")
    file.write_text(monkey)
    run(folder, plan, step)
    index = open_grid(folder / "prepare", study.data.volumes).index
    scans = index[
        index["source"].str.startswith("fomo-task3") & index["sequence"].isin(["t1", "t2"])
    ]
    assert sum(map(int, log.read_text().split())) == len(scans)
    assert edited_files(folder / step) == []


def test_function_of_a_module_is_run_again_when_a_file_that_it_imports_is_edited(
    prepared: tuple[Path, Study, pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, study, _ = prepared
    package = tmp_path / "my_encoders"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "door.py").write_text(
        "from my_encoders.middle import vectors\n\n\ndef encode(volumes):\n"
        "    return vectors(volumes)\n"
    )
    (package / "middle.py").write_text(
        "def vectors(volumes):\n    from . import helper\n\n    return helper.moments(volumes)\n"
    )
    helper = package / "helper.py"
    text = (
        "import numpy as np\n\n\ndef moments(volumes):\n"
        "    return np.stack([volumes.mean((1, 2, 3)), volumes.std((1, 2, 3))], axis=1)\n"
    )
    helper.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    mine = Function("packaged", "my_encoders.door:encode")
    names = [file.name for file in source_files(mine)]
    assert names == ["door.py", "__init__.py", "helper.py", "middle.py"]
    plan = make_plan(dataclasses.replace(study, references=(mine,)))
    step = "transfer/reference-packaged-brain-age"
    run(folder, plan, step)
    assert edited_files(folder / step) == []
    helper.write_text(text.replace("volumes.std", "2 * volumes.std"))
    assert edited_files(folder / step) == [helper]
    # Deleted and run again in a process of its own, as the warning says, it computes all anew.
    (folder / step / "DONE").unlink()
    for name in [name for name in sys.modules if name.startswith("my_encoders")]:
        monkeypatch.delitem(sys.modules, name)
    run(folder, plan, step)
    first, second = (folder / "references" / "packaged").iterdir()
    pairs = [(np.load(file), np.load(second / file.name)) for file in first.iterdir()]
    ratios = {tuple(np.round(b / a, 3)) for a, b in pairs}
    assert ratios in ({(1.0, 2.0)}, {(1.0, 0.5)})  # the folders come in any order


def test_predictions_of_a_table_and_of_a_folder_score_as_written(
    prepared: tuple[Path, Study, pd.DataFrame], tmp_path: Path
) -> None:
    folder, study, _ = prepared
    task = study.tasks[0]
    arrays = load_task(open_grid(folder / "prepare", study.data.volumes), task, study.data)
    cases, labels = arrays.test.ids, arrays.test.labels
    rows = []
    for draw in range(task.draws):
        for case, label in zip(cases, labels, strict=True):
            rows.append({"case": case, "draw": draw, "prediction": label + 2 + draw})
            text = tmp_path / "texts" / AGE / f"draw_{draw}" / f"{case.split('/')[1]}.txt"
            text.parent.mkdir(parents=True, exist_ok=True)
            text.write_text(f"{label - 3}\n")
    table = pd.DataFrame(rows)
    table.to_csv(tmp_path / "table.csv", index=False)
    subjects = [case.split("/")[1] for case in cases]
    assert len(set(subjects)) == len(subjects)
    references = (
        Predictions("of-table", str(tmp_path / "table.csv")),
        Predictions("of-folder", str(tmp_path / "texts")),
    )
    plan = make_plan(dataclasses.replace(study, references=references))
    for reference, wanted in zip(references, ([2.0, 3.0], [3.0, 3.0]), strict=True):
        step = f"transfer/reference-{reference.name}-brain-age"
        run(folder, plan, step)
        results = pd.read_parquet(folder / step / "results.parquet")
        errors = results[results["metric"] == "mae"].groupby("draw")["value"].mean()
        np.testing.assert_allclose(errors, wanted, rtol=1e-5)
    # The folder has the same numbers after both draws: they are of one model.
    run(folder, plan, "collect")
    predictions = pd.read_parquet(folder / "predictions.parquet")
    assert [is_one_model(predictions, one, task) for one in references] == [False, True]
    view = View("mae", ALL, "out", "probe", task.shots[0])
    results = with_series(pd.read_parquet(folder / "results.parquet"))
    arms = controls(results, AGE, view, results["network"])
    shown = {name: over_draws(arms[name].assign(arm=name), ["arm"]).iloc[0] for name in arms}
    assert shown["of-table"]["draws"] == 2
    assert shown["of-table"]["high"] > shown["of-table"]["low"]
    assert shown["of-folder"]["draws"] == 1
    assert np.isnan(shown["of-folder"]["low"])
    assert shown["of-folder"]["mean"] == pytest.approx(3.0)
    table.iloc[:-1].to_csv(tmp_path / "table.csv", index=False)
    (folder / "transfer/reference-of-table-brain-age/DONE").unlink()
    with pytest.raises(ValueError, match=f"no prediction of {cases[-1]} for 4 shots, draw 1"):
        run(folder, plan, "transfer/reference-of-table-brain-age")


def test_every_fold_is_predicted_from_what_was_read_once(
    prepared: tuple[Path, Study, pd.DataFrame], tmp_path: Path
) -> None:
    folder, study, _ = prepared
    task = dataclasses.replace(study.tasks[0], test=(), folds=3, shots=(2,))
    cache = open_grid(folder / "prepare", study.data.volumes)
    arrays = load_task(cache, task, study.data)
    table = tmp_path / "table.csv"
    rows = pd.DataFrame({"case": arrays.train.ids, "prediction": arrays.train.labels})
    rows.to_csv(table, index=False)
    reference = Predictions("folded", str(table))
    study = dataclasses.replace(study, tasks=(task,), references=(reference,))
    step = make_plan(study).step_of["transfer/reference-folded-brain-age"].config
    assert isinstance(step, ReferenceStep)
    readout = competitor(step, cache, tmp_path, lambda: None)
    table.unlink()
    tested = []
    for fold in folds(arrays, task):
        _, predicted = readout(fold)
        for one in predicted:
            np.testing.assert_allclose(one.outputs, fold.test.labels, rtol=1e-6)
        tested += fold.test.ids
    assert sorted(tested) == sorted(arrays.train.ids)


def test_masks_of_a_folder_are_scored_on_the_grid_of_the_study(
    prepared: tuple[Path, Study, pd.DataFrame], tmp_path: Path
) -> None:
    folder, _, _ = prepared
    root = folder.parent / "cohort"
    # The masks that the cohort itself has, as somebody else's predictions.
    for mask in sorted(root.glob("fomo-task2-test/**/seg.nii.gz")):
        subject = next(part for part in mask.parts if part.startswith("sub_"))
        copy = tmp_path / "masks" / f"{subject}.nii.gz"
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(mask.read_bytes())
    perfect = Predictions("perfect", str(tmp_path / "masks"))
    study = override(load_study(MICRO), [f"data.root={root}", "data.phantom=null"])
    task = next(task for task in study.tasks if task.name == "meningioma")
    study = dataclasses.replace(study, tasks=(task,), references=(perfect,))
    run(tmp_path / "study", make_plan(study), "prepare")
    drawn = pd.read_csv(tmp_path / "study/prepare/draws.csv")
    assert drawn.groupby("draw").size().tolist() == [3, 3]
    cache = open_grid(tmp_path / "study/prepare", study.data.volumes)
    arrays = load_task(cache, task, study.data)

    def predict(arrays: TaskArrays) -> list[Predicted]:
        stated = all_stated(perfect, task)
        return list(reference_predictions(perfect, stated, cache, arrays, task))

    predicted = predict(arrays)
    np.testing.assert_array_equal(predicted[0].outputs, arrays.test.labels)
    image = nib.load(copy)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) * 7, image.affine), copy)
    with pytest.raises(ValueError, match="value 7, which the task's classes do not declare"):
        predict(arrays)


def test_weights_are_probed_and_fine_tuned_as_a_checkpoint(
    prepared: tuple[Path, Study, pd.DataFrame], tmp_path: Path
) -> None:
    folder, study, _ = prepared
    public = Weights(
        "public", str(tmp_path / "w.safetensors"), ResEnc(levels=3), "xxs", samples=1000
    )
    encoder = public.encoder
    assert isinstance(encoder, CnnShape)
    parameters = build_encoder(encoder).init(jax.random.key(3))
    tensors = with_aliases(encoder_to(parameters, encoder))
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, public.path)
    study = dataclasses.replace(study, references=(public,))
    plan = make_plan(study)
    step = "transfer/reference-public-brain-age"
    assert plan.step_of[step].parameters == encoder.parameters
    require_sources(study)
    run(folder, plan, step, "collect")
    results = pd.read_parquet(folder / "results.parquet")
    rows = results[results["arm"] == "public"]
    assert {"probe", "finetune"} <= set(rows["protocol"])
    assert set(rows["params"]) == {encoder.parameters}
    predictions = pd.read_parquet(folder / "predictions.parquet")
    table = scored(predictions, study, study.tasks[0], "mae", "finetune")
    assert set(table.loc[table["arm"] == "public", "protocol"]) == {"finetune"}


def test_sources_are_refused_when_a_study_is_planned_all_at_once(tmp_path: Path) -> None:
    study = load_study(MICRO)
    (tmp_path / "table.csv").write_text("path,age\na.nii.gz,3\n")
    references = (
        Features("absent", str(tmp_path / "no.csv")),
        Features("columns", str(tmp_path / "table.csv")),
        Predictions("empty", str(tmp_path), tasks=(AGE,)),
        Function("nothing", "no_such_module:encode"),
        Function("worded", "encode"),
        Weights("file", str(tmp_path / "no.safetensors"), ResEnc(levels=3), "xxs"),
    )
    with pytest.raises(ValueError, match="no columns feature_0") as error:
        require_sources(dataclasses.replace(study, references=references))
    for words in (
        "'absent'",
        "holds no predictions of task 'brain-age'",
        "no module 'no_such_module'",
        "expected module:function",
        "no.safetensors does not exist",
    ):
        assert words in str(error.value)
