"""Batches are a function of (seed, step) alone, and read what the index says."""

from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scaling.data.cache import Cache
from scaling.data.pipeline import (
    Draw,
    Memory,
    batches,
    draw_crops,
    draw_pairs,
    nested_subset,
    session_pairs,
    shuffled,
)
from scaling.study.config import Volumes

SHAPE, CROP = (8, 10, 6), (4, 4, 4)
Draws = Callable[..., Draw]


@pytest.fixture
def told() -> Cache:
    """A cache whose voxels tell where they are: 128 x row + 8 x depth in every voxel of a plane
    (exact in float16 below 2048).

    Ten scans of five sessions: sub_1 to sub_3 have t1, t2 (and sub_1 a second t1), sub_4 t1 twice,
    sub_5 flair alone.
    """
    sessions = [
        ("sub_1", ("t1", "t1", "t2")),
        ("sub_2", ("t1", "t2")),
        ("sub_3", ("t1", "t2")),
        ("sub_4", ("t1", "t1")),
        ("sub_5", ("flair",)),
    ]
    scans = [(subject, sequence) for subject, sequences in sessions for sequence in sequences]
    index = pd.DataFrame(scans, columns=["subject", "sequence"]).assign(
        source="a", session="ses_1", shard=[0] * 6 + [1] * 4
    )
    index["row"] = index.groupby("shard").cumcount()
    place = np.arange(10)[:, None, None, None] * 128.0 + np.arange(8)[:, None, None] * 8.0
    voxels = np.broadcast_to(place, (10, *SHAPE)).astype(np.float16)
    return Cache(Path("told"), Volumes(4.0, SHAPE), index, (voxels[:6], voxels[6:]), ())


DRAWS = {
    "single": draw_crops,
    "crops": partial(draw_pairs, pairs="crops"),
    "sequences": partial(draw_pairs, pairs="sequences"),
}


def first(
    count: int,
    draws: Draws,
    cache: Cache,
    start: int = 0,
    batch: int = 8,
    seed: int = 3,
    **options: int,
) -> np.ndarray:
    draw = draws(cache, np.arange(10), CROP, batch, seed)
    return np.stack(list(islice(batches(cache, CROP, draw, batch, start, **options), count)))


def scan_of(batch: np.ndarray) -> np.ndarray:
    return batch[..., 0, 0, 0].astype(int) // 128


def depth_of(batch: np.ndarray) -> np.ndarray:
    return batch[..., 0, 0, 0].astype(int) % 128 // 8


@pytest.mark.parametrize("draws", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize("hosts", [2, 4, 8])
def test_batches_for_any_number_of_hosts_are_the_same_globally(
    told: Cache, draws: Draws, hosts: int
) -> None:
    whole = first(6, draws, told)
    parts = [
        first(6, draws, told, process_index=host, process_count=hosts, threads=1 + host)
        for host in range(hosts)
    ]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


@pytest.mark.parametrize("draws", DRAWS.values(), ids=DRAWS)
def test_batches_from_a_later_step_go_on_as_if_never_stopped(told: Cache, draws: Draws) -> None:
    np.testing.assert_array_equal(first(5, draws, told, start=7), first(12, draws, told)[7:])


@pytest.mark.parametrize("draws", DRAWS.values(), ids=DRAWS)
def test_batches_of_another_seed_are_others(told: Cache, draws: Draws) -> None:
    assert not np.array_equal(first(3, draws, told, seed=4), first(3, draws, told, seed=3))


def test_batches_visit_every_scan_once_an_epoch_in_another_order(told: Cache) -> None:
    epochs = scan_of(first(15, draw_crops, told, batch=4)).reshape(6, 10)
    assert (np.sort(epochs, axis=1) == np.arange(10)).all()
    assert len({tuple(epoch) for epoch in epochs}) == 6


def test_batches_are_crops_from_everywhere(told: Cache) -> None:
    assert set(depth_of(first(30, draw_crops, told)).ravel()) == {0, 1, 2, 3, 4}


def test_two_crops_are_of_one_scan_at_independent_places(told: Cache) -> None:
    pairs = first(30, DRAWS["crops"], told)
    assert pairs.shape == (30, 8, 2, *CROP)
    assert (scan_of(pairs)[..., 0] == scan_of(pairs)[..., 1]).all()
    assert set(scan_of(pairs).ravel()) == set(range(10))
    together = depth_of(pairs).reshape(-1, 2)
    assert len(np.unique(together, axis=0)) == 25


def test_two_sequences_are_of_one_session_at_one_place(told: Cache) -> None:
    pairs = first(60, DRAWS["sequences"], told)
    one, other = np.moveaxis(scan_of(pairs), -1, 0)
    subject, sequence = (told.index[name].to_numpy() for name in ("subject", "sequence"))
    assert (subject[one] == subject[other]).all()
    assert (sequence[one] != sequence[other]).all()
    assert (depth_of(pairs)[..., 0] == depth_of(pairs)[..., 1]).all()
    # Neither t1 twice nor flair alone; both scans of a kind, both orders.
    assert set(zip(one.ravel(), other.ravel(), strict=True)) == {
        (0, 2),
        (2, 0),
        (1, 2),
        (2, 1),
        (3, 4),
        (4, 3),
        (5, 6),
        (6, 5),
    }
    # Three sessions, each once an epoch, however many pairs it has.
    assert (
        np.sort(subject[one.ravel()].reshape(-1, 3), axis=1) == ["sub_1", "sub_2", "sub_3"]
    ).all()


def test_two_sequences_without_a_session_that_has_two_is_refused(told: Cache) -> None:
    with pytest.raises(ValueError, match="none of the 3 scans has another sequence of its session"):
        session_pairs(told, np.array([7, 8, 9]))


def test_two_sequences_use_only_the_given_rows(told: Cache) -> None:
    assert [pair.tolist() for pair in session_pairs(told, np.array([1, 2, 3]))] == [
        [[1, 2], [2, 1]]
    ]


def test_subsets_of_the_subjects_are_nested_and_of_whole_subjects(told: Cache) -> None:
    rows = np.array([0, 1, 2, 3, 5, 6, 7, 9])
    people = told.index["subject"].to_numpy()
    larger = set(rows.tolist())
    for fraction, count in [(1.0, 5), (0.6, 3), (0.4, 2), (1 / 64, 1)]:
        subset = nested_subset(told, rows, fraction, seed=1)
        assert set(subset.tolist()) <= larger
        assert len(set(people[subset])) == count
        assert set(subset.tolist()) == {
            row for row in rows.tolist() if people[row] in people[subset]
        }
        larger = set(subset.tolist())
    assert len({tuple(nested_subset(told, rows, 0.4, seed)) for seed in range(8)}) > 1


def test_order_of_a_batch_larger_than_an_epoch_holds_whole_epochs() -> None:
    items = shuffled(3, seed=0, step=2, batch=9)
    assert (np.sort(items.reshape(3, 3), axis=1) == np.arange(3)).all()


@pytest.mark.parametrize(
    ("rows", "crop", "batch", "words"),
    [
        (np.arange(0), CROP, 8, "no scans to sample from"),
        (np.arange(10), (4, 11, 4), 8, r"crop \(4, 11, 4\) does not fit"),
        (np.arange(10), CROP, 7, "batch=7 is not divisible by the 2 processes"),
    ],
)
def test_batches_that_cannot_be_made_are_refused_at_once(
    told: Cache, rows: np.ndarray, crop: tuple[int, int, int], batch: int, words: str
) -> None:
    for draws in DRAWS.values():
        with pytest.raises(ValueError, match=words):
            batches(told, crop, draws(told, rows, crop, batch, 0), batch, 0, process_count=2)


def test_memory_is_written_again_only_when_nothing_refers_to_it() -> None:
    memory = Memory()
    held = memory.array((4, 3))
    part = memory.array((4, 3))[1:, 0]  # a view of a view: what it was taken of is gone
    held[:], part[:] = 1, 2
    for _ in range(3):
        memory.array((4, 3))[:] = 3
    assert (held == 1).all()
    assert (part == 2).all()
    assert len(memory.owners) == 3
