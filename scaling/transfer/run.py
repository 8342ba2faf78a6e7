"""One transfer step: one checkpoint or control on one task, every protocol, every draw."""

import math
from collections.abc import Iterator
from pathlib import Path

import jax

from scaling.data.cache import Cache
from scaling.data.tasks import TaskArrays, load_task
from scaling.files import write_json, write_table
from scaling.models.backbone import build_encoder
from scaling.objectives.interface import Parameters
from scaling.runs.plan import TransferStep
from scaling.runs.rundir import Progress
from scaling.study.ladder import Encoder
from scaling.training.checkpoint import restore_encoder
from scaling.transfer.classical import classical
from scaling.transfer.finetune import finetune, supervised
from scaling.transfer.predictions import Predicted, score, tabulate
from scaling.transfer.probe import probe


def transfer(
    folder: Path, checkpoint: Path | None, config: TransferStep, cache: Cache, progress: Progress
) -> dict[str, float]:
    """Write `predictions.parquet` (one row per protocol x shots x draw x case) and `results.parquet` (per site and metric).

    Returns each metric's mean over draws and sites, named "out/finetune/20 shots/mae".

    `checkpoint` is the folder of the pretrained arm's checkpoints, None for a control. Raises ValueError when the task's data
    cannot be used (see `load_task`).
    """
    arrays = load_task(cache, config.task, config.data)
    spacing = (
        cache.volumes.spacing_mm or math.nan
    )  # nothing in mm is asked for where sessions keep their own (see Study)
    predicted = counted(protocols(config, checkpoint, arrays, spacing), config, progress)
    predictions = tabulate(
        predicted, arrays, config.task.kind, spacing, config.transfer.nsd_tolerance_mm
    )
    write_table(predictions, folder / "predictions.parquet")
    results = score(predictions, config.task.kind)
    write_table(results, folder / "results.parquet")
    write_json(folder / "dropped.json", list(arrays.dropped))
    means = results.groupby(["domain", "protocol", "shots", "metric"], as_index=False)[
        "value"
    ].mean()
    return {
        f"{row.domain}/{row.protocol}/{row.shots} shots/{row.metric}": row.value
        for row in means.itertuples()
    }


def protocols(
    config: TransferStep, checkpoint: Path | None, arrays: TaskArrays, spacing_mm: float
) -> Iterator[Predicted]:
    """Everything an arm is tried with: a network by probe and finetuning, the classical control by itself."""
    if config.encoder is None:
        assert config.transfer.classical is not None
        yield from classical(arrays, config.task, config.transfer.classical, spacing_mm)
        return
    parameters = load_encoder(config.encoder, config.seed, checkpoint)
    if config.transfer.probe:
        yield from probe(config.encoder, parameters, arrays, config.task, config.transfer.probe)
    if config.transfer.finetune:
        yield from finetune(
            config.encoder, parameters, arrays, config.task, config.transfer.finetune
        )
    if config.transfer.supervised and config.arm == "scratch":
        yield from supervised(
            config.encoder, parameters, arrays, config.task, config.transfer.supervised
        )


def load_encoder(encoder: Encoder, seed: int, checkpoint: Path | None) -> Parameters:
    """The pretrained encoder, or the random one of a control of this seed; both on the first device, so that they share programs."""
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    init = build_encoder(encoder).init
    if checkpoint is None:
        return jax.jit(init, out_shardings=device)(jax.random.key(seed))
    shapes = jax.eval_shape(init, jax.random.key(0))
    return restore_encoder(
        checkpoint,
        jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), shapes),
    )


def counted(
    predicted: Iterator[Predicted], config: TransferStep, progress: Progress
) -> Iterator[Predicted]:
    """Report progress as the draws of the protocols come in."""
    total = expected(config)
    for number, one in enumerate(predicted, start=1):
        yield one
        progress(number, total)


def expected(config: TransferStep) -> int:
    """How many draws of all protocols there will be."""
    recipes, task = config.transfer, config.task
    if config.encoder is None:
        return len(task.shots) * task.draws
    few_shot = all_labelled = 0
    if recipes.probe:
        few_shot += 1 + (recipes.probe.neighbours > 0)
    if recipes.finetune:
        few_shot += 1 + len(recipes.finetune.tuning)
    if recipes.supervised and config.arm == "scratch":
        all_labelled = (1 + (task.inside != ())) * (1 + len(recipes.supervised.tuning))
    return (few_shot * len(task.shots) + all_labelled) * task.draws
