"""Competitors from plan to collected results, without a network: phantom, prepare, collect."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import RidgeCV

from scaling.data.grids import open_grid
from scaling.data.tasks import few_shot_draws, load_task
from scaling.engines.evidence import scored
from scaling.engines.run_step import run_step
from scaling.runs.experiment import load_study, override
from scaling.runs.plan import Plan, make_plan
from scaling.study.config import Features, Study
from scaling.transfer.references import is_edited, read_features

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
    assert not is_edited(folder / step)
    table.iloc[::-1].to_parquet(file)
    assert is_edited(folder / step)
    file.unlink()
    assert not is_edited(folder / step)  # it may be elsewhere by now
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
