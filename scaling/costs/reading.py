"""Crops that a run asks of the host, against what the host was measured to cut.

A core copies crops out of volumes in memory at the rate of memory, whatever their size: 6,400 of
64^3 voxels a second (`experiments/benchmarks/input.py`), 7,600 of 96^3 in four threads.
"""

import math

from scaling.costs.seconds import pretraining_step_seconds
from scaling.study.config import Pretrain, Shape3
from scaling.study.ladder import Decoder, Encoder
from scaling.study.objectives import ObjectiveConfig

CORE = 3.36e9  # bytes of float16 crops a second of one core
THREADS = 4  # that read ahead at least
FLOAT16 = 2  # bytes


def crops_asked(
    objective: ObjectiveConfig,
    encoder: Encoder,
    decoder: Decoder,
    pretrain: Pretrain,
    accelerator: str,
) -> float:
    """Crops a second that one device trains on at best: a bound, as the plan's hours are."""
    seconds = pretraining_step_seconds(objective, encoder, decoder, pretrain, accelerator)
    return pretrain.batch / seconds


def crops_of_a_core(crop: Shape3) -> float:
    """Crops a second that one core cuts out of volumes in memory."""
    return CORE / (FLOAT16 * math.prod(crop))


def cores_asked(crops: float, crop: Shape3) -> float:
    """Cores that cut so many crops a second."""
    return crops / crops_of_a_core(crop)


def reading_threads(cores_wanted: float, cores: int) -> int:
    """Threads of a process that read ahead: as many as are asked for, half as many again since
    crops come unevenly, no more than the process has cores, and `THREADS` at least.
    """
    return max(THREADS, min(cores, math.ceil(1.5 * cores_wanted)))
