"""Any backbone with any objective and any task: every combination is traced, forward and backward,
without compiling it.
"""

import jax
import jax.numpy as jnp
import pytest

from scaling.models.backbone import build_encoder
from scaling.objectives.build import build_objective
from scaling.study.config import Family, Finetune, Mae, Pretrain, ResEnc, UNet, ViT
from scaling.study.ladder import resolve_decoder, resolve_encoder
from scaling.study.objectives import Contrastive, CrossSequence, Hybrid, Momentum, ObjectiveConfig
from scaling.training.mesh import abstract_batch, make_mesh
from scaling.training.program import NEVER, pretraining_program
from scaling.transfer.finetune_program import finetune_program
from scaling.transfer.kinds import LEARNERS

CROP = (16, 16, 16)
FAMILIES = (ViT(), UNet(levels=3, skips=False), ResEnc(levels=3))
OBJECTIVES = (Mae(), Contrastive(), Momentum(), Hybrid(), CrossSequence())


def called(value: Family | ObjectiveConfig) -> str:
    """The name of a case."""
    return value.kind


@pytest.mark.parametrize("objective", OBJECTIVES, ids=called)
@pytest.mark.parametrize("family", FAMILIES, ids=called)
def test_every_objective_trains_every_backbone_and_reaches_its_encoder(
    family: Family, objective: ObjectiveConfig
) -> None:
    encoder, decoder = resolve_encoder(family, "xxs"), resolve_decoder(family)
    mesh, shape = make_mesh(1, 1), (2, 2, *CROP) if objective.pairs else (4, *CROP)
    program = pretraining_program(objective, encoder, decoder, Pretrain(crop=CROP, batch=4), mesh)
    key = jax.eval_shape(lambda: jax.random.key(0))
    state, metrics = jax.eval_shape(
        program.step, program.abstract, abstract_batch(mesh, shape), key, 1e-3, NEVER, NEVER
    )
    assert metrics["loss"].shape == ()
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), program.abstract
    )
    made = build_objective(objective, encoder, decoder, Pretrain(crop=CROP, batch=4)).init
    alone = build_encoder(encoder).init
    assert jax.tree.structure(jax.eval_shape(made, key)["encoder"]) == jax.tree.structure(
        jax.eval_shape(alone, key)
    )


@pytest.mark.parametrize("kind", ["regression", "segmentation"])
@pytest.mark.parametrize("family", FAMILIES, ids=called)
def test_every_task_finetunes_every_backbone(family: Family, kind: str) -> None:
    encoder = resolve_encoder(family, "xxs")
    recipe = Finetune(steps=2, batch=2)
    program = finetune_program(encoder, LEARNERS[kind](()), 2, CROP, recipe, rows=3)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 3))
    parameters = jax.eval_shape(
        build_encoder(encoder).init, jax.eval_shape(lambda: jax.random.key(0))
    )
    images, present = (
        jax.ShapeDtypeStruct((4, 2, *CROP), jnp.float16),
        jax.ShapeDtypeStruct((4, 2), bool),
    )
    targets = (4, *CROP) if kind == "segmentation" else (4,)
    cases = (images, present, jax.ShapeDtypeStruct(targets, jnp.float32))
    heads = jax.eval_shape(program.init_heads, keys)
    rows = (
        jax.ShapeDtypeStruct((3, 4), jnp.float32),
        jax.ShapeDtypeStruct((3, 2), jnp.float32),
        jax.ShapeDtypeStruct((3,), jnp.float32),
    )
    fitted = jax.eval_shape(program.fit, parameters, heads, cases, *rows, keys)
    assert jax.eval_shape(program.predict, fitted, images, present).shape == (3, *targets)
