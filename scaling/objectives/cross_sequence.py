"""Reconstruction across the sequences of a session: anatomy from one, contrast from the other.

The encoder sees a quarter of each of two sequences at one place. A sequence is reconstructed from its own tokens, and from the other
sequence's tokens moved by the difference of the two mean tokens, through a linear map: one vector that can only tell what kind of image
is asked for.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from scaling.models.backbone import Features, build_backbone
from scaling.models.parameters import keys_from, parameters_of, structure
from scaling.models.patches import patchify, unpatchify
from scaling.models.projector import pooled
from scaling.models.transformer import Constrain, Linear
from scaling.objectives.interface import LOGGED, Metrics, Objective, Parameters, each_view
from scaling.objectives.mae import blanked, build_masking, filled_in, reconstruction_loss
from scaling.study.config import Pretrain
from scaling.study.ladder import Decoder, Encoder
from scaling.study.objectives import CrossSequence


def swapped(x: Float[Array, "2B *N E"]) -> Float[Array, "2B *N E"]:
    """Rows 2i and 2i + 1 exchanged."""
    return x.reshape(-1, 2, *x.shape[1:])[:, ::-1].reshape(x.shape)


def build_cross_sequence(
    config: CrossSequence,
    encoder: Encoder,
    decoder: Decoder,
    pretrain: Pretrain,
    constrain: Constrain,
) -> Objective:
    """Cross-sequence reconstruction for one encoder. Volumes are pairs [B, 2, D, H, W]: two sequences of a session, the same place."""
    masking = build_masking(config.reconstruction, pretrain.crop, encoder.patch)
    backbone = build_backbone(
        encoder, decoder, pretrain.crop, pretrain.dtype, pretrain.remat, constrain
    )

    def make_shift(width: int, rngs: nnx.Rngs) -> Linear:
        return Linear(width, width, jnp.dtype("float32"), rngs)

    shift = structure(lambda rngs: make_shift(encoder.width, rngs))

    def init(key: PRNGKeyArray) -> Parameters:
        backbone_key, shift_key = jax.random.split(key)
        return backbone.init(backbone_key) | {
            "shift": parameters_of(make_shift(encoder.width, keys_from(shift_key)))
        }

    def other(parameters: Parameters, features: Features) -> Features:
        """Each row's partner's features, moved to the row's own contrast."""
        codes = pooled(features[-1])
        moved = nnx.merge(shift, parameters["shift"])(codes - swapped(codes))
        last = swapped(features[-1])
        last = last + moved.reshape(len(moved), *(1,) * (last.ndim - 2), -1).astype(last.dtype)
        return (*(swapped(level) for level in features[:-1]), last)

    def loss(
        parameters: Parameters, pairs: Float[Array, "B 2 D H W"], key: PRNGKeyArray
    ) -> tuple[Array, Metrics]:
        patches = patchify(each_view(pairs), encoder.patch)
        kept, mask = masking(key, len(patches))
        features = backbone.encode_visible(parameters["encoder"], patches, kept)
        own = backbone.decode(parameters["decoder"], features, kept)
        across = backbone.decode(parameters["decoder"], other(parameters, features), swapped(kept))
        self_loss, cross_loss = (
            reconstruction_loss(x, patches, mask, config.reconstruction) for x in (own, across)
        )
        total = config.self_weight * self_loss + config.cross_weight * cross_loss
        return total, {
            "self_loss": self_loss,
            "cross_loss": cross_loss,
            "embeddings": pooled(features[-1])[:LOGGED],
        }

    def reconstruct(
        parameters: Parameters, pairs: Float[Array, "B 2 D H W"], key: PRNGKeyArray
    ) -> tuple[Array, Array, Array]:
        """The second sequence, what is seen of the first, and the second made of that."""
        patches = patchify(each_view(pairs), encoder.patch)
        kept, mask = masking(key, len(patches))
        features = backbone.encode_visible(parameters["encoder"], patches, kept)
        across = backbone.decode(parameters["decoder"], other(parameters, features), swapped(kept))
        seen, filled = (
            blanked(patches, mask)[::2],
            filled_in(across, patches, mask, config.reconstruction)[1::2],
        )
        return (
            pairs[:, 1],
            unpatchify(seen, pretrain.crop, encoder.patch),
            unpatchify(filled, pretrain.crop, encoder.patch),
        )

    return Objective(init, loss, reconstruct, aligned=True)
