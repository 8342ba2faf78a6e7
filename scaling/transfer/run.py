"""One transfer step: one checkpoint or control on one task, every protocol, every draw."""

import dataclasses
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import assert_never

import jax
import numpy as np
import pandas as pd

from scaling.data.cache import Cache
from scaling.data.folds import folds
from scaling.data.reference_leakage import reference_leakage
from scaling.data.tasks import TaskArrays, load_task
from scaling.files import write_json, write_table
from scaling.models.backbone import build_encoder
from scaling.objectives.interface import Parameters
from scaling.runs.rundir import EARLIER, PREDICTIONS, Progress
from scaling.runs.steps import ReferenceStep, TransferStep
from scaling.study.config import Features, Finetune, Function, Predictions, Weights
from scaling.study.ladder import Encoder
from scaling.study.task_kinds import kind_of
from scaling.training.checkpoint import first_device, restore_encoder
from scaling.transfer.classical import classical
from scaling.transfer.drafts import DRAFTS, Keep, drafted, drafted_losses, file_name
from scaling.transfer.earlier import earlier_predictions, first_missing, joined
from scaling.transfer.finetune import few_shot_protocols, supervised_protocols
from scaling.transfer.linear_probe import sgd_probe
from scaling.transfer.predictions import KEYS, Predicted, score, tabulate
from scaling.transfer.probe import probe
from scaling.transfer.references.features import read_features, reference_probe
from scaling.transfer.references.functions import encoded_features
from scaling.transfer.references.predictions import all_stated, reference_predictions
from scaling.transfer.references.stamps import write_stamp
from scaling.transfer.references.weights import public_encoder

# The cases of a fold -> the name of what a competitor is tried with, and what it predicts.
Readout = Callable[[TaskArrays], tuple[str, Iterator[Predicted]]]


def transfer(
    folder: Path, checkpoint: Path | None, config: TransferStep, cache: Cache, progress: Progress
) -> dict[str, float]:
    """Write `predictions.parquet` (one row per protocol x shots x draw x case) and
    `results.parquet` (per site and metric).

    Returns each metric's mean over draws and sites, named "out/finetune/20 shots/mae".

    `checkpoint` is the folder of the pretrained arm's checkpoints, None for a control. Raises
    ValueError when the task's data cannot be used (see `load_task`).
    """
    if isinstance(config, ReferenceStep):
        write_stamp(folder, config.reference)
    arrays = load_task(cache, config.task, config.data)
    spacing = (
        cache.volumes.spacing_mm or math.nan
    )  # nothing in mm is asked for where sessions keep their own (see Study)
    tables: list[pd.DataFrame] = []
    tolerance, done = config.transfer.nsd_tolerance_mm, 0

    def pause() -> None:
        progress(drawn(tables), draws_of_all_folds(config))

    earlier = earlier_predictions(folder, expected(config) // config.task.draws)
    growing = dataclasses.replace(arrays, first_draw=first_missing(earlier))
    readout: Readout | None = None
    if isinstance(config, ReferenceStep) and config.encoder is None:
        readout = competitor(config, cache, folder.parents[1], pause)
    for number, fold in enumerate(folds(growing, config.task)):
        if readout is not None:
            entries = iter([readout(fold)])
        else:
            keep = partial(kept_losses, folder / DRAFTS, number, pause)
            entries = protocols(config, checkpoint, fold, spacing, keep)
        for name, predicted in entries:
            draws = counted(predicted, config, done, progress)
            # Each protocol is kept as soon as it is done: a transfer may take longer than a job.
            compute = partial(tabulate, draws, fold, config.task, spacing, tolerance)
            file = folder / DRAFTS / f"{file_name(str(number), name)}.parquet"
            table = joined(earlier, drafted(file, compute), fold)
            tables.append(table)
            done = drawn(tables)
            pause()
    predictions = pd.concat(tables, ignore_index=True)
    write_table(predictions, folder / PREDICTIONS)
    results = score(predictions, config.task)
    write_table(results, folder / "results.parquet")
    remarks = list(arrays.dropped)
    if isinstance(config, ReferenceStep):
        remarks += reference_leakage(config.reference, cache.index, config.task, config.data)
    write_json(folder / "dropped.json", remarks)
    shutil.rmtree(folder / DRAFTS, ignore_errors=True)
    (folder / EARLIER).unlink(missing_ok=True)
    means = results.groupby(["domain", "protocol", "shots", "metric"], as_index=False)[
        "value"
    ].mean()
    return {
        f"{row.domain}/{row.protocol}/{row.shots} shots/{row.metric}": row.value
        for row in means.itertuples()
    }


def drawn(tables: Sequence[pd.DataFrame]) -> int:
    """How many draws of protocols tables hold."""
    return sum(table.groupby(KEYS).ngroups for table in tables)


def kept_losses(
    folder: Path, fold: int, pause: Callable[[], None], name: str, compute: Callable[[], np.ndarray]
) -> np.ndarray:
    """An array by name, from `folder` or computed; then a place to stop."""
    losses = drafted_losses(folder / f"{file_name(str(fold), name)}.parquet", compute)
    pause()
    return losses


def protocols(
    config: TransferStep,
    checkpoint: Path | None,
    arrays: TaskArrays,
    spacing_mm: float,
    keep: Keep,
) -> Iterator[tuple[str, Iterator[Predicted]]]:
    """Everything an arm is tried with that suits the kind of task, by name: a network by probes and
    fine-tuning, the classical control by itself. Nothing is computed before it is asked for.
    """
    task, recipes, suits = config.task, config.transfer, kind_of(config.task).protocols
    if config.encoder is None:
        assert recipes.classical is not None
        if "classical" in suits:
            yield "classical", classical(arrays, task, recipes.classical, spacing_mm)
        return
    encoder = config.encoder
    if isinstance(config, ReferenceStep):
        assert isinstance(config.reference, Weights)
        parameters = jax.device_put(public_encoder(config.reference), first_device())
    else:
        parameters = load_encoder(encoder, config.seed, checkpoint)
    if recipes.probe and "probe" in suits:
        yield "probe", probe(encoder, parameters, arrays, task, recipes.probe)
    if recipes.sgd_probe and "sgd_probe" in suits:
        yield "sgd_probe", sgd_probe(encoder, parameters, arrays, task, recipes.sgd_probe)
    if recipes.finetune and "finetune" in suits:
        recipe = recipes.finetune
        wanted = draws_to_fit(arrays, recipe)
        yield from few_shot_protocols(encoder, parameters, wanted, task, recipe, keep)
    if recipes.supervised and config.arm == "scratch" and "supervised" in suits:
        recipe = recipes.supervised
        wanted = draws_to_fit(arrays, recipe)
        yield from supervised_protocols(encoder, parameters, wanted, task, recipe, keep)


def draws_to_fit(arrays: TaskArrays, recipe: Finetune) -> TaskArrays:
    """The draws that are not predicted yet; all of them where learning rates compete, as one is
    chosen over all draws together.
    """
    competing = len(recipe.learning_rates) > 1
    return dataclasses.replace(arrays, first_draw=0) if competing else arrays


def competitor(
    config: ReferenceStep, cache: Cache, study_dir: Path, pause: Callable[[], None]
) -> Readout:
    """What a competitor that is no network of ours is tried with. Its file, folder or function is
    read once, here, whatever the number of folds.
    """
    task, recipe = config.task, config.transfer.probe
    match config.reference:
        case Predictions() as predictions:
            stated = all_stated(predictions, task)
            return lambda arrays: (
                "predictions",
                reference_predictions(predictions, stated, cache, arrays, task),
            )
        case Features() as reference:
            features = read_features(reference, cache, task)
        case Function() as reference:
            features = encoded_features(reference, cache, task, study_dir, pause)
        case Weights():
            raise AssertionError("weights are tried as a network")
        case _:
            assert_never(config.reference)
    assert recipe is not None
    return lambda arrays: ("probe", reference_probe(features, arrays, task, recipe))


def load_encoder(encoder: Encoder, seed: int, checkpoint: Path | None) -> Parameters:
    """The pretrained encoder, or the random one of a control of this seed; both on the first
    device, so that they share programs.
    """
    init = build_encoder(encoder).init
    if checkpoint is None:
        return jax.jit(init, out_shardings=first_device())(jax.random.key(seed))
    return restore_encoder(checkpoint, jax.eval_shape(init, jax.random.key(0)))


def counted(
    predicted: Iterator[Predicted], config: TransferStep, done: int, progress: Progress
) -> Iterator[Predicted]:
    """Report progress as the draws of a protocol come in, after the `done` ones before it."""
    for number, one in enumerate(predicted, start=done + 1):
        yield one
        progress(number, draws_of_all_folds(config))


def draws_of_all_folds(config: TransferStep) -> int:
    """How many draws of all protocols there are."""
    return expected(config) * max(1, config.task.folds)


def expected(config: TransferStep) -> int:
    """How many draws of all protocols a fold has."""
    recipes, task, suits = config.transfer, config.task, kind_of(config.task).protocols
    if isinstance(config, ReferenceStep) and config.encoder is None:
        return len(task.shots) * task.draws
    if config.encoder is None:
        controls = 2 if task.kind == "regression" else 1  # a histogram as well
        return controls * len(task.shots) * task.draws
    few_shot = all_labelled = 0
    if recipes.probe and "probe" in suits:
        few_shot += 1 + (recipes.probe.neighbours > 0)
    if recipes.sgd_probe and "sgd_probe" in suits:
        few_shot += 1
    if recipes.finetune and "finetune" in suits:
        few_shot += 1 + len(recipes.finetune.tuning)
    if recipes.supervised and config.arm == "scratch" and "supervised" in suits:
        all_labelled = (1 + (task.inside != ())) * (1 + len(recipes.supervised.tuning))
    return (few_shot * len(task.shots) + all_labelled) * task.draws
