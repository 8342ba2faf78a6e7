"""Crops cut on the device are those the host reads."""

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from scaling.data.cache import Cache
from scaling.data.pipeline import batches, draw_crops, draw_pairs
from scaling.study.config import Volumes
from scaling.training.feed import Feed, cutter, resident_batches
from scaling.training.mesh import make_mesh

SHAPE, CROP = (7, 9, 6), (4, 5, 3)


@pytest.fixture
def cache() -> Cache:
    """Twelve scans of four sessions in two shards, every voxel another number."""
    index = pd.DataFrame(
        {"source": "a", "subject": [f"sub_{i // 3}" for i in range(12)], "session": "ses_1"}
    )
    index = index.assign(sequence=["t1", "t2", "flair"] * 4, shard=[0] * 7 + [1] * 5)
    index["row"] = index.groupby("shard").cumcount()
    voxels = np.arange(12 * np.prod(SHAPE), dtype=np.uint16).view(np.float16).reshape(12, *SHAPE)
    return Cache(Path("numbered"), Volumes(4.0, SHAPE), index, (voxels[:7], voxels[7:]), ())


@pytest.mark.parametrize("mesh", [(1, 1), (2, 4), (4, 1, 2)])
@pytest.mark.parametrize("pairs", [None, "crops", "sequences"])
def test_resident_batches_are_those_that_the_host_reads(
    cache: Cache, mesh: tuple[int, ...], pairs: Literal["crops", "sequences"] | None
) -> None:
    rows = np.array([0, 1, 2, 4, 5, 9, 10, 11])
    draw = (
        draw_pairs(cache, rows, CROP, 8, 3, pairs) if pairs else draw_crops(cache, rows, CROP, 8, 3)
    )
    read = np.stack(list(islice(batches(cache, CROP, draw, 8, 5), 4)))
    cut = list(islice(resident_batches(cache, rows, CROP, draw, make_mesh(*mesh), 5), 4))
    np.testing.assert_array_equal(
        np.stack([np.asarray(each) for each in cut]).view(np.uint16), read.view(np.uint16)
    )
    samples = 8 // (mesh[0] * mesh[1])
    assert {shard.data.shape for shard in cut[0].addressable_shards} == {(samples, *read.shape[2:])}


def test_cutting_crops_sends_nothing_between_devices() -> None:
    arguments = (
        np.zeros((12, *SHAPE), np.float16),
        np.zeros((8, 2), np.int32),
        np.zeros((8, 2, 3), np.int32),
    )
    program = cutter(CROP, make_mesh(2, 4)).lower(*arguments).compile().as_text()
    assert program is not None
    assert not [
        words
        for words in ("all-gather", "all-reduce", "all-to-all", "collective-permute")
        if words in program
    ]


def test_time_waited_is_the_hosts_while_the_device_is_idle() -> None:
    def read() -> Iterator[float]:
        while True:
            time.sleep(0.02)
            yield 1.0

    def cut(value: float) -> jax.Array:
        time.sleep(0.4)
        return jnp.float32(value)

    feed = Feed(read(), cut)
    for _ in range(3):
        feed.running = jax.block_until_ready(next(feed))
    assert 0.06 <= feed.waited < 1.2

    @jax.jit
    def long(x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, 2000, lambda _, y: jnp.cos(y @ y), x)

    idle, x = feed.waited, jnp.ones((256, 256))
    jax.block_until_ready(long(x))
    feed.running = long(x)
    next(feed)
    assert feed.waited == idle
