"""Reconstruction across the sequences of a session: anatomy from one, contrast from the other.

The encoder sees a quarter of each of two sequences at one place. A sequence is reconstructed from
its own tokens, and from the other sequence's tokens moved by the difference of the two mean tokens,
through a linear map: one vector that can only tell which contrast is wanted.
"""

import jax
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from scaling.models.backbone import build_backbone
from scaling.models.compute import Compute
from scaling.models.heads import Features
from scaling.models.parameters import keys_from, parameters_of, structure
from scaling.models.patches import unpatchify
from scaling.models.projector import pooled
from scaling.models.transformer import Linear
from scaling.objectives.interface import LOGGED, Logged, Loss, Objective, Parameters, each_view
from scaling.objectives.mae import (
    blanked,
    build_masking,
    exact_patches,
    filled_in,
    reconstruction_loss,
)
from scaling.study.config import Pretrain
from scaling.study.ladder import Decoder, Encoder
from scaling.study.objectives import CrossSequence


def swapped(x: Array) -> Array:
    """Rows 2i and 2i + 1 exchanged."""
    return x.reshape(-1, 2, *x.shape[1:])[:, ::-1].reshape(x.shape)


def build_cross_sequence(
    config: CrossSequence, encoder: Encoder, decoder: Decoder, pretrain: Pretrain, compute: Compute
) -> Objective:
    """Cross-sequence reconstruction for one encoder.

    Volumes are pairs [B, 2, D, H, W]: two sequences of a session, the same place.
    """
    patch = encoder.patch
    masking = build_masking(config.reconstruction, pretrain.crop, patch)
    backbone = build_backbone(encoder, decoder, pretrain.crop, compute)

    def make_shift(rngs: nnx.Rngs) -> Linear:
        return Linear(encoder.width, encoder.width, "float32", rngs)

    shift = structure(make_shift)

    def init(key: PRNGKeyArray) -> Parameters:
        backbone_key, shift_key = jax.random.split(key)
        parameters = backbone.init(backbone_key)
        return parameters | {"shift": parameters_of(make_shift(keys_from(shift_key)))}

    def partner(parameters: Parameters, features: Features) -> Features:
        """Each row's partner's features, moved to the row's own contrast."""
        codes = pooled(features[-1])  # [2 B, E]
        moved = nnx.merge(shift, parameters["shift"])(codes - swapped(codes))
        last = swapped(features[-1])  # [2 B, ..., E]
        moved = moved.reshape(len(moved), *(1,) * (last.ndim - 2), -1)
        finer = [swapped(level) for level in features[:-1]]
        return (*finer, last + moved.astype(last.dtype))

    def loss(
        parameters: Parameters, pairs: Float[Array, "B 2 D H W"], key: PRNGKeyArray, step: Array
    ) -> Loss:
        patches = exact_patches(each_view(pairs), patch)
        visible, mask = masking(key, len(patches))
        features = backbone.encode_visible(parameters["encoder"], patches, visible)
        others = partner(parameters, features)
        alone = backbone.decode(parameters["decoder"], features, visible)
        across = backbone.decode(parameters["decoder"], others, swapped(visible))
        self_loss = reconstruction_loss(alone, patches, mask, config.reconstruction)
        cross_loss = reconstruction_loss(across, patches, mask, config.reconstruction)
        total = config.self_weight * self_loss + config.cross_weight * cross_loss
        embeddings = pooled(features[-1])[:LOGGED]
        parts = {"self_loss": self_loss, "cross_loss": cross_loss, "embeddings": embeddings}
        return total, Logged(parts)

    def reconstruct(
        parameters: Parameters, pairs: Float[Array, "B 2 D H W"], key: PRNGKeyArray
    ) -> tuple[Array, Array, Array]:
        """The second sequence, what is seen of the first, and the second made of that."""
        patches = exact_patches(each_view(pairs), patch)
        visible, mask = masking(key, len(patches))
        features = backbone.encode_visible(parameters["encoder"], patches, visible)
        others = partner(parameters, features)
        across = backbone.decode(parameters["decoder"], others, swapped(visible))
        seen = blanked(patches, mask)[::2]
        filled = filled_in(across, patches, mask, config.reconstruction)[1::2]
        return (
            pairs[:, 1],
            unpatchify(seen, pretrain.crop, patch),
            unpatchify(filled, pretrain.crop, patch),
        )

    return Objective(init, loss, reconstruct, aligned=True)
