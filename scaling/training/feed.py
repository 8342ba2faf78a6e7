"""The batches of a run as global device arrays: cut on the device out of volumes that live there
where they are few, else read by the host steps ahead. Either way they have the same bits.
"""

import math
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import count
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from scaling.costs.accelerators import accelerator_of
from scaling.costs.reading import THREADS, cores_asked, crops_asked, reading_threads
from scaling.data.cache import Cache
from scaling.data.pipeline import Draw, batches, draw_crops, draw_pairs
from scaling.models.compute import platform_of
from scaling.processes.parallel import cores
from scaling.runs.steps import PretrainStep
from scaling.study.config import Execution, Shape3
from scaling.training.mesh import batch_sharding, global_batch, replicated, spread


def training_draw(cache: Cache, rows: np.ndarray, config: PretrainStep) -> Draw:
    """Which crops each step of a run learns from: `pretrain.batch` of them, in groups of an
    objective's views.
    """
    recipe, pairs = config.pretrain, config.objective.pairs
    if pairs is None:
        return draw_crops(cache, rows, recipe.crop, recipe.batch, config.seed)
    views = config.objective.views
    count = recipe.batch // views
    return draw_pairs(cache, rows, recipe.crop, count, config.seed, pairs, views)


def training_batches(
    cache: Cache,
    rows: np.ndarray,
    config: PretrainStep,
    mesh: Mesh,
    start: int,
    execution: Execution,
) -> "Feed":
    """Yield float16 [B, D, H, W] or pairs [B / 2, 2, D, H, W], spread over the mesh, of every step
    from `start` on.

    The volumes of `rows` stay on each device if they take `execution.resident_gib` at most. Raises
    ValueError as `batches` does.
    """
    recipe, draw = config.pretrain, training_draw(cache, rows, config)
    if 2 * len(rows) * math.prod(cache.volumes.shape) <= execution.resident_gib * 2**30:
        return resident_batches(cache, rows, recipe.crop, draw, mesh, start)
    batch = recipe.batch // config.objective.views
    read = batches(
        cache,
        recipe.crop,
        draw,
        batch,
        start,
        jax.process_index(),
        jax.process_count(),
        threads_here(config, mesh),
    )
    return Feed(global_batch(mesh, local) for local in read)


def threads_here(config: PretrainStep, mesh: Mesh) -> int:
    """Threads that read ahead for the devices of this process."""
    device = mesh.devices.flat[0]
    platform = platform_of(device)
    if platform == "cpu":
        return THREADS
    accelerator = accelerator_of(device.device_kind, platform)
    crops = crops_asked(
        config.objective, config.encoder, config.decoder, config.pretrain, accelerator
    )
    here = len(mesh.local_devices)
    return reading_threads(cores_asked(here * crops, config.pretrain.crop), cores())


def resident_batches(
    cache: Cache, rows: np.ndarray, crop: Shape3, draw: Draw, mesh: Mesh, start: int
) -> "Feed":
    """`training_batches` of few volumes: all of `rows` on every device, a step's places travel."""
    place = np.zeros(len(cache.index), np.int32)
    place[rows] = np.arange(len(rows))
    volumes = spread(replicated(mesh), np.stack([cache.volume(row) for row in rows]))
    cut, sharding = cutter(crop, mesh), batch_sharding(mesh)

    def places() -> Iterator[tuple[Array, Array]]:
        for step in count(start):
            scans, corners = draw(step)
            yield spread(sharding, place[scans]), spread(sharding, corners.astype(np.int32))

    return Feed(places(), lambda at: cut(volumes, *at))


@lru_cache
def cutter(crop: Shape3, mesh: Mesh) -> jax.stages.Wrapped:
    """Compiled: crops [B, ..., *crop] of volumes [N, D, H, W], at scans [B, ...] and corners [B,
    ..., 3].
    """

    def cut(volumes: Array, scans: Array, corners: Array) -> Array:
        if scans.ndim:
            return jax.vmap(cut, (None, 0, 0))(volumes, scans, corners)
        return jax.lax.dynamic_slice(volumes, (scans, *corners), (1, *crop))[0]

    everywhere, shared = replicated(mesh), batch_sharding(mesh)
    return jax.jit(cut, in_shardings=(everywhere, shared, shared), out_shardings=shared)


class Feed(Iterator[Array]):
    """Batches, and the seconds that the device had nothing to do for want of them: what came from
    `source` while it was still at `running`, the newest result of the step before, kept nobody
    waiting. `cut`, which is the device's own work, may wait for that step: not counted.
    """

    def __init__(self, source: Iterator[Any], cut: Callable[[Any], Array] = lambda batch: batch):
        self.source, self.cut, self.waited = source, cut, 0.0
        self.running: Array | None = None

    def __next__(self) -> Array:
        asked = time.perf_counter()
        sent = next(self.source)
        if self.running is None or self.running.is_ready():  # type: ignore[attr-defined]  # jax declares it not
            self.waited += time.perf_counter() - asked
        return self.cut(sent)
