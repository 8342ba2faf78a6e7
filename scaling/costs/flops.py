"""Closed-form FLOPs of pretraining and transfer. Nothing is compiled, so a plan prints at once.

FLOPs count a multiply-add as two, and matrix products and convolutions only; tests count the same
over the traced program. What a network costs, its shape knows (`scaling.study.shapes`); what an
objective adds, its config (`scaling.study.objectives.Work`).
"""

import dataclasses
import math
from functools import lru_cache

from scaling.study.config import Finetune, Pretrain, Shape3, Task, Transfer
from scaling.study.ladder import Decoder, Encoder
from scaling.study.objectives import ObjectiveConfig
from scaling.study.task_kinds import kind_of

TEST_CASES = 100  # their number is unknown before the data is read


def pretraining_flops(
    objective: ObjectiveConfig, encoder: Encoder, decoder: Decoder, pretrain: Pretrain
) -> int:
    """Training FLOPs of one sample; a pair is two samples."""
    work = objective.work(encoder.width, pretrain.batch)
    crop, ratio, remat = pretrain.crop, work.mask_ratio, pretrain.remat
    # Heads: forward, and backward to the weights and to the inputs.
    flops = encoder.training_flops(crop, ratio, remat) + 3 * work.flops + work.compared
    if work.decoded:
        flops += work.decoded * decoder.training_flops(encoder, crop, ratio, remat)
    if work.target:
        flops += encoder.flops(crop) + work.target_flops
    for local_crop in work.local_crops:
        flops += encoder.training_flops(local_crop, 0.0, remat)
    return flops


@lru_cache(maxsize=1024)
def transfer_flops(
    task: Task, transfer: Transfer, encoder: Encoder, volume: Shape3, untrained: bool = False
) -> int:
    """FLOPs of trying one checkpoint on one task.

    These are every finetune (those that choose the rate too), the probe's features, and, with an
    `untrained` encoder, the supervised controls.
    """
    total = 0
    if transfer.finetune:
        total += len(task.shots) * finetune_flops(task, transfer.finetune, encoder, volume)
    if transfer.supervised and untrained:
        controls = 2 if task.inside else 1
        total += controls * finetune_flops(task, transfer.supervised, encoder, volume)
    if transfer.probe:
        volumes = len(task.sequences) * (TEST_CASES + max(task.shots))
        total += volumes * encoder.flops(volume)
    return total


def longest_part_flops(
    task: Task, transfer: Transfer, encoder: Encoder, volume: Shape3, untrained: bool = False
) -> int:
    """FLOPs of the longest part of a transfer that is kept only once it is whole: one fit of all
    draws, and its predictions.
    """
    recipes = [transfer.finetune, transfer.supervised if untrained else None]
    parts = [0]
    for recipe in recipes:
        if recipe is not None:
            once = dataclasses.replace(recipe, learning_rates=recipe.learning_rates[:1], tuning=())
            parts.append(finetune_flops(task, once, encoder, volume))
    return max(parts)


def finetune_flops(task: Task, recipe: Finetune, encoder: Encoder, volume: Shape3) -> int:
    """FLOPs of finetuning all draws of one number of shots, choosing their rate, and predicting the
    test cases.
    """
    sequences = len(task.sequences)
    window = recipe.window if kind_of(task).masks and recipe.window else volume
    forward = sequences * encoder.flops(window)
    if kind_of(task).masks:
        forward += encoder.segmentation_flops(window, sequences)
    rates, budgets = len(recipe.learning_rates), 1 + len(recipe.tuning)
    fits = budgets if rates == 1 else rates + budgets
    training = fits * 3 * forward * recipe.steps * recipe.batch
    predicting = budgets * TEST_CASES * windows_of(volume, window) * forward
    return task.draws * (training + predicting)


def windows_of(volume: Shape3, window: Shape3) -> int:
    """Number of windows that overlap by half and cover a volume."""
    counts = []
    for length, side in zip(volume, window, strict=True):
        counts.append(math.ceil(2 * (length - side) / side) + 1)
    return math.prod(counts)
