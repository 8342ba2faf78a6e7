import dataclasses

import numpy as np
import pytest

from scaling.data.cache import Cache
from scaling.data.tasks import Cases, few_shot_draws, load_task
from scaling.study.config import Data, Source, Task, Volumes


def cases(labels: list[float]) -> Cases:
    n = len(labels)
    return Cases(
        [str(i) for i in range(n)],
        ["a"] * n,
        np.zeros((n, 1, 2, 2, 2), np.float16),
        np.ones((n, 1), bool),
        np.array(labels, np.float32),
    )


def task(kind: str, draws: int = 20) -> Task:
    return Task("some task", kind, ("t1",), Source("a"), (Source("b"),), shots=(2,), draws=draws)  # type: ignore[arg-type]


def test_few_shot_draws_are_subsets_that_never_change() -> None:
    drawn = few_shot_draws(task("regression"), cases(list(range(50))), 10)
    assert drawn.shape == (20, 10)
    assert all(len(set(draw)) == 10 for draw in drawn)
    assert len({tuple(sorted(draw)) for draw in drawn}) == 20
    np.testing.assert_array_equal(
        drawn, few_shot_draws(task("regression"), cases(list(range(50))), 10)
    )
    np.testing.assert_array_equal(
        drawn[:5], few_shot_draws(task("regression", draws=5), cases(list(range(50))), 10)
    )


@pytest.mark.parametrize(
    ("positives", "shots", "expected"),
    [(13, 21, 13), (13, 8, 5), (1, 4, 1), (20, 4, 3), (2, 21, 2)],
)
def test_few_shot_draws_keep_the_share_of_a_class_and_both_classes(
    positives: int, shots: int, expected: int
) -> None:
    labelled = cases([1.0] * positives + [0.0] * (21 - positives))
    for draw in few_shot_draws(task("classification"), labelled, shots):
        assert labelled.labels[draw].sum() == expected
        assert len(set(draw)) == shots


def test_few_shot_draws_of_more_shots_than_cases_are_refused() -> None:
    with pytest.raises(ValueError, match="3 training cases and wants 4 shots"):
        few_shot_draws(task("regression"), cases([1, 2, 3]), 4)


def test_tasks_of_the_cohort_have_their_cases(
    cache: Cache, data: Data, tasks: tuple[Task, ...]
) -> None:
    infarct, meningioma, age = (load_task(cache, each, data) for each in tasks)
    assert infarct.train.images.shape[:2] == (6, 4)
    assert set(infarct.train.labels) == {0.0, 1.0}
    assert meningioma.train.labels.shape == (4, 20, 24, 20)
    assert meningioma.train.labels.max() == 1
    assert (age.train.labels > 10).all()
    assert infarct.train.present.all()
    assert not (set(age.train.ids) & set(age.test.ids))


def test_task_takes_the_first_sequence_a_session_has(
    cache: Cache, data: Data, tasks: tuple[Task, ...]
) -> None:
    arrays = load_task(cache, tasks[0], data)
    row = arrays.train.ids[0].split("/")
    scans = cache.index[
        (cache.index["source"] == row[0]) & (cache.index["subject"] == row[1])
    ].set_index("sequence")
    chosen = "t2s" if "t2s" in scans.index else "swi"
    shard, place = scans.loc[chosen, ["shard", "row"]]
    np.testing.assert_array_equal(arrays.train.images[0, 3], cache.shards[shard][place])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"kind": "segmentation"}, "no labels"),
        ({"test": (Source("fomo-task1"),)}, "tests on 6 of its training cases"),
        ({"shots": (7,)}, "6 training cases and wants shots=7"),
        ({"train": Source("elsewhere")}, "no scans of elsewhere"),
        ({"sequences": ("t2s", "pet")}, "wants the sequence 'pet'"),
        ({"inside": (Source("fomo-task1-test"),)}, r"tests on \d+ of its in-domain cases"),
        ({"inside": (Source("fomo-task1"),)}, "are of its training site"),
    ],
)
def test_task_that_does_not_fit_its_data_ends_in_one_sentence(
    cache: Cache, data: Data, tasks: tuple[Task, ...], change: dict[str, object], word: str
) -> None:
    with pytest.raises(ValueError, match=word):
        load_task(cache, dataclasses.replace(tasks[0], **change), data)


def test_cases_for_the_control_in_domain_are_of_the_other_sites_and_not_tested(
    cache: Cache, data: Data, tasks: tuple[Task, ...]
) -> None:
    index = cache.index.copy()
    even = index["subject"].str.extract(r"(\d+)$")[0].astype(int) % 2 == 0
    index["part"] = np.where(even, "train", "test")
    divided = dataclasses.replace(
        tasks[2],
        test=(Source("fomo-task3-test", "test"),),
        inside=(Source("fomo-task3-test", "train"),),
    )
    arrays = load_task(dataclasses.replace(cache, index=index), divided, data)
    assert arrays.inside is not None
    assert not set(arrays.inside.sites) & set(arrays.train.sites)
    assert not set(arrays.inside.ids) & (set(arrays.test.ids) | set(arrays.train.ids))
    assert set(arrays.inside.sites) <= set(arrays.test.sites)


def test_task_on_a_cache_of_another_grid_is_refused(
    cache: Cache, data: Data, tasks: tuple[Task, ...]
) -> None:
    with pytest.raises(ValueError, match="prepare another cache"):
        load_task(
            cache, tasks[0], dataclasses.replace(data, volumes=Volumes(7.0, data.volumes.shape))
        )


@pytest.mark.parametrize("label", ["2", "maybe", "inf"])
def test_task_with_a_label_that_does_not_fit_is_refused(
    cache: Cache, data: Data, tasks: tuple[Task, ...], label: str
) -> None:
    index = cache.index.copy()
    index.loc[index["source"] == "fomo-task1", "label"] = label
    with pytest.raises(ValueError, match="expected 0 or 1"):
        load_task(dataclasses.replace(cache, index=index), tasks[0], data)
