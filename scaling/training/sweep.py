"""Short runs that are only compared: what a sweep over learning rates, widths or schedules does
many times.
"""

from collections.abc import Callable

import jax

from scaling.data.cache import Cache
from scaling.data.pipeline import nested_subset
from scaling.runs.rundir import Progress
from scaling.runs.steps import PretrainStep
from scaling.study.config import Execution
from scaling.training.feed import training_batches
from scaling.training.heldout import heldout_inputs, heldout_loss, split_heldout
from scaling.training.mesh import make_mesh
from scaling.training.program import NEVER, data_key, pretraining_program

Peak = Callable[[int], float]


def loss_after(
    config: PretrainStep, cache: Cache, progress: Progress, peak: Peak | None = None
) -> float:
    """The held-out loss of a run from its beginning to its end on one device, nothing of which is
    kept.

    `peak(step)`, where given, is the learning rate after warm-up in place of the recipe's constant
    one.
    """
    recipe, mesh = config.pretrain, make_mesh(1, 1)
    program = pretraining_program(config.objective, config.encoder, config.decoder, recipe, mesh)
    end = config.end // recipe.batch
    decay_from = NEVER if config.decay_from is None else config.decay_from // recipe.batch
    rows, heldout = split_heldout(cache, config.data)
    feed = training_batches(
        cache,
        nested_subset(cache, rows, config.fraction, config.seed),
        config,
        mesh,
        0,
        Execution(),
    )
    state = program.init(jax.random.fold_in(jax.random.key(config.seed), 0))
    for step in range(end):
        rate = recipe.learning_rate if peak is None else peak(step)
        state, _ = program.step(state, next(feed), data_key(config.seed), rate, decay_from, end)
        progress(step + 1, end)
    inputs = heldout_inputs(cache, heldout, recipe, config.objective)
    return heldout_loss(program, state, inputs)
