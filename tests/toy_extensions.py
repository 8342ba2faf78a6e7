"""An objective, a backbone and a kind of task of a user's own, as an experiment file defines them.

The objective shows a schedule of the step and a running statistic; the backbone is one linear map
of patches; the kind of task orders cases by a number. `docs/extending.md` explains the parts.
"""

from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
import pandas as pd
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray
from pydantic.dataclasses import dataclass
from scipy.stats import spearmanr

from scaling.metrics import Metric, register_metric
from scaling.models.backbone import Modules, build_encoder, register_backbone
from scaling.models.compute import Compute
from scaling.models.heads import Features
from scaling.models.patches import patchify, unpatchify
from scaling.models.projector import pooled
from scaling.models.transformer import Linear
from scaling.objectives.build import register_objective
from scaling.objectives.interface import Logged, Loss, Objective, Parameters, each_view
from scaling.study.config import Pretrain, Shape3
from scaling.study.families import Family, Parametrisation
from scaling.study.ladder import Decoder, Encoder
from scaling.study.objectives import ObjectiveConfig, Pairs, Work
from scaling.study.shapes import DecoderShape, EncoderShape, Memory, Setting, tokens
from scaling.study.strict import STRICT
from scaling.study.task_kinds import TaskKind, read_number, register_kind
from scaling.transfer.kinds import Learner, register_learner
from scaling.transfer.losses import regression_loss

FLOAT32 = 4  # bytes


@dataclass(frozen=True, config=STRICT)
class Agreement(ObjectiveConfig):
    """Embeddings of the views of a scan agree, around a running centre."""

    kind: Literal["agreement"] = "agreement"
    """Which objective this is."""
    count: int = 3
    """Views of a scan."""
    keep: float = 0.9
    """Share of the centre that each step keeps."""

    @property
    def pairs(self) -> Pairs:
        return "crops"

    @property
    def views(self) -> int:
        return self.count

    def work(self, width: int, batch: int) -> Work:
        return Work(compared=3 * 2 * width)


def build_agreement(
    config: Agreement, encoder: Encoder, decoder: Decoder, pretrain: Pretrain, compute: Compute
) -> Objective:
    """The objective for one encoder. Volumes are [B, V, D, H, W]."""
    backbone = build_encoder(encoder, compute)

    def init(key: PRNGKeyArray) -> Parameters:
        return {"encoder": backbone.init(key)}

    def statistics(parameters: Parameters) -> dict[str, Array]:
        return {"centre": jnp.zeros(encoder.width)}

    def loss(
        parameters: Parameters, views: Float[Array, "B V D H W"], key: PRNGKeyArray, step: Array
    ) -> Loss:
        B, V = views.shape[:2]
        embeddings = pooled(backbone.encode(parameters["encoder"], each_view(views)))
        centred = (embeddings - parameters["centre"]).reshape(B, V, -1)  # [B, V, E]
        spread = jnp.square(centred - centred.mean(1, keepdims=True)).mean()
        weight = 1 / (1 + step)  # a schedule
        centre = config.keep * parameters["centre"] + (1 - config.keep) * embeddings.mean(0)
        return spread + weight * jnp.square(centred).mean(), Logged(
            {"weight": jnp.asarray(weight), "embeddings": embeddings}, {"centre": centre}
        )

    return Objective(init, loss, statistics=statistics)


@dataclass(frozen=True, config=STRICT)
class LinearShape(EncoderShape):
    """One linear map of every patch."""

    kind: Literal["linear"]
    patch: int
    width: int

    @property
    def stride(self) -> int:
        return self.patch

    @property
    def parameters(self) -> int:
        return (self.patch**3 + 1) * self.width

    def flops(self, volume: Shape3) -> int:
        return 2 * tokens(volume, self.patch) * self.patch**3 * self.width

    def memory(self, decoder: DecoderShape, setting: Setting, work: Work) -> Memory:
        n = tokens(setting.volume, self.patch)
        return Memory(FLOAT32 * setting.voxels, FLOAT32 * (setting.voxels + n * self.width))

    def forward_memory(self, setting: Setting) -> float:
        return 2 * FLOAT32 * setting.voxels


@dataclass(frozen=True, config=STRICT)
class Patches(Family):
    """A family of linear maps."""

    kind: Literal["linear"] = "linear"
    """Which family this is."""
    patch: int = 8
    """Voxels of a token per axis."""

    @property
    def stride(self) -> int:
        return self.patch

    def rungs(self) -> tuple[str, ...]:
        return ("xxs", "xs")

    def encoder(self, size: str, parametrisation: Parametrisation) -> LinearShape:
        return LinearShape("linear", self.patch, {"xxs": 8, "xs": 16}[size])

    def decoder(self) -> DecoderShape:
        return DecoderShape("none")


class LinearEncoder(nnx.Module):
    """Volumes to tokens: [B, D, H, W] -> [B, N, E]."""

    def __init__(self, shape: LinearShape, rngs: nnx.Rngs, compute: Compute):
        self.patch = shape.patch
        self.map = Linear(shape.patch**3, shape.width, compute.dtype, rngs)

    def __call__(self, volume: Float[Array, "B D H W"]) -> Float[Array, "B N E"]:
        return self.map(patchify(volume, self.patch))


class VoxelHead(nnx.Module):
    """A logit per voxel from the tokens of all sequences: ([B, S, N, E],) -> [B, D, H, W]."""

    def __init__(self, shape: LinearShape, sequences: int, volume: Shape3, rngs: nnx.Rngs):
        self.volume, self.patch = volume, shape.patch
        self.map = Linear(sequences * shape.width, shape.patch**3, "float32", rngs)

    def __call__(self, features: Features, present: Array) -> Float[Array, "B D H W"]:
        x = jnp.moveaxis(features[-1] * present[..., None, None], 1, 2)  # [B, N, S, E]
        return unpatchify(self.map(x.reshape(*x.shape[:2], -1)), self.volume, self.patch)


def no_decoder(*_: object) -> nnx.Module:
    """This backbone reconstructs nothing: it is for objectives that compare views."""
    raise ValueError("the linear backbone has no decoder; choose an objective without one")


def encode_visible(
    encoder: LinearEncoder,
    patches: Float[Array, "B N P"],
    visible: Int[Array, "B M"],
    crop: Shape3,
) -> Features:
    """The tokens of the visible patches."""
    return (encoder.map(jnp.take_along_axis(patches, visible[..., None], axis=1)),)


def numbers(labels: np.ndarray, predictions: np.ndarray, ruler: Any) -> dict[str, Any]:
    """Label and prediction of every case."""
    return {"label": labels.astype(float), "prediction": predictions.astype(float)}


def rank_correlation(cases: pd.DataFrame) -> dict[str, float]:
    """Spearman's correlation of labels and predictions."""
    return {"spearman": float(spearmanr(cases["label"], cases["prediction"]).statistic)}


def ordering(classes: tuple[str | int, ...]) -> Learner:
    """Learned as a regression, scored by the order alone."""
    return Learner(
        outputs=1,
        loss=regression_loss,
        predict=lambda outputs: outputs,
        columns=numbers,
        score=rank_correlation,
        standardised=True,
    )


register_metric("spearman", Metric("rank correlation", smallest_effect=0.05, pooled=True))
register_kind(
    TaskKind(
        "ordering",
        expected=lambda task: "a number",
        metrics=lambda task: ("spearman",),
        read=read_number,
        protocols=("finetune", "probe", "classical"),
    )
)
register_learner("ordering", ordering)
register_objective(Agreement, build_agreement)
register_backbone(
    Patches,
    LinearShape,
    Modules(
        encoder=LinearEncoder,
        decoder=no_decoder,
        encode_visible=encode_visible,
        decode=no_decoder,
        segmentation_head=lambda shape, sequences, outputs, volume, rngs, compute: VoxelHead(
            shape, sequences, volume, rngs
        ),
    ),
)
