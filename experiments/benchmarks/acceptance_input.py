"""What `acceptance.py` measures of the host: how fast it cuts crops.

Imports no jax, so that its many processes start at once.
"""

import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scaling.data.cache import Cache
from scaling.data.pipeline import batches, draw_crops
from scaling.study.config import Volumes

SHAPE = (160, 192, 160)
BATCH = 16


def random_cache(count: int, crop: int) -> Cache:
    """Volumes of noise in memory, at least as large as a crop."""
    shape = SHAPE if crop > 32 else (32, 32, 32)
    rng = np.random.default_rng(0)
    one = rng.standard_normal(shape, np.float32).astype(np.float16)
    shard = np.stack([np.roll(one, number, 0) for number in range(count)])
    index = pd.DataFrame({"shard": np.zeros(count, int), "row": np.arange(count)})
    return Cache(Path(), Volumes(1.0, shape), index, (shard,), ())


def crops_a_second(
    volumes: int = 16, crop: int = 96, seconds: float = 2.0, most: int = 16
) -> dict[str, Any]:
    """Crops a second that this host cuts out of volumes in memory: by threads of one process, and
    by processes of one thread.
    """
    figures: dict[str, Any] = {"cores": os.cpu_count()}
    counts = [count for count in (1, 2, 4, 8, 16) if count <= most]
    for threads in counts:
        figures[f"{threads} threads"] = cutting_speed(volumes, crop, seconds, threads)
    for processes in counts[1:]:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            arguments = [[value] * processes for value in (volumes, crop, seconds, 1)]
            figures[f"{processes} processes"] = sum(pool.map(cutting_speed, *arguments))
    return figures


def cutting_speed(volumes: int, crop: int, seconds: float, threads: int) -> float:
    """Crops a second of one process."""
    cache = random_cache(volumes, crop)
    draw = draw_crops(cache, np.arange(volumes), (crop,) * 3, BATCH, seed=0)
    read = batches(cache, (crop,) * 3, draw, BATCH, start_step=0, threads=threads)
    next(read)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        next(read)
        count += BATCH
    return count / (time.perf_counter() - began)
