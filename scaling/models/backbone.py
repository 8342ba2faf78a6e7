"""The one interface through which any backbone serves any objective: pure functions over nested dicts of arrays."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from scaling.models.patches import sincos_positions
from scaling.models.transformer import Constrain
from scaling.models.vit import MaeDecoder, VitEncoder, unconstrained
from scaling.study.config import Shape3
from scaling.study.ladder import Decoder, Encoder

Parameters = dict[str, Any]
Features = tuple[Array, ...]


class EncoderFunctions(NamedTuple):
    """An encoder alone.

    `init(key)` makes its parameters; `encode(parameters, volumes [B, D, H, W])` gives tokens [B, N, E].
    """

    init: Callable[[PRNGKeyArray], Parameters]
    encode: Callable[[Parameters, Float[Array, "B D H W"]], Float[Array, "B N E"]]


class Backbone(NamedTuple):
    """An encoder and the decoder of masked reconstruction, for volumes of one crop, cut into N cubes of `patch` voxels.

    `init(key)` makes {"encoder": ..., "decoder": ...}; `encode_visible(parameters["encoder"], patches [B, N, P], kept [B, M])`
    gives the features of those M patches that `kept` names, nothing of the others: a tuple, the last of which has the encoder's
    tokens [B, ..., E] (a ViT leaves hidden patches out, a CNN sees zeros there); `decode(parameters["decoder"], features, kept)`
    predicts the voxels of all patches from them: float32 [B, N, P].
    """

    init: Callable[[PRNGKeyArray], Parameters]
    encode_visible: Callable[[Parameters, Float[Array, "B N P"], Int[Array, "B M"]], Features]
    decode: Callable[[Parameters, Features, Int[Array, "B M"]], Float[Array, "B N P"]]


def build_encoder(shape: Encoder, dtype: str = "float32", remat: bool = False, constrain: Constrain = unconstrained) -> EncoderFunctions:
    """The functions of one encoder."""

    def make(rngs: nnx.Rngs) -> VitEncoder:
        return VitEncoder(shape, rngs, jnp.dtype(dtype), remat, constrain)

    graph = structure(make)

    def init(key: PRNGKeyArray) -> Parameters:
        return parameters_of(make(nnx.Rngs(key)))

    def encode(parameters: Parameters, volumes: Float[Array, "B D H W"]) -> Float[Array, "B N E"]:
        return nnx.merge(graph, parameters)(volumes)

    return EncoderFunctions(init, encode)


def build_backbone(
    encoder: Encoder, decoder: Decoder, crop: Shape3, dtype: str = "float32", remat: bool = False, constrain: Constrain = unconstrained
) -> Backbone:
    """The functions of an encoder and its reconstruction decoder, for volumes of `crop` voxels."""

    def make_encoder(rngs: nnx.Rngs) -> VitEncoder:
        return VitEncoder(encoder, rngs, jnp.dtype(dtype), remat, constrain)

    def make_decoder(rngs: nnx.Rngs) -> MaeDecoder:
        return MaeDecoder(decoder, encoder, crop, rngs, jnp.dtype(dtype), remat, constrain)

    encoder_graph, decoder_graph = structure(make_encoder), structure(make_decoder)

    def init(key: PRNGKeyArray) -> Parameters:
        rngs = nnx.Rngs(key)
        return {"encoder": parameters_of(make_encoder(rngs)), "decoder": parameters_of(make_decoder(rngs))}

    def encode_visible(parameters: Parameters, patches: Float[Array, "B N P"], kept: Int[Array, "B M"]) -> Features:
        positions = jnp.asarray(sincos_positions(crop, encoder.patch, encoder.width))
        visible = jnp.take_along_axis(patches, kept[..., None], axis=1)
        return (nnx.merge(encoder_graph, parameters).encode_patches(visible, positions[kept]),)

    def decode(parameters: Parameters, features: Features, kept: Int[Array, "B M"]) -> Float[Array, "B N P"]:
        return nnx.merge(decoder_graph, parameters)(features[-1], kept).astype(jnp.float32)

    return Backbone(init, encode_visible, decode)


def structure(make: Callable[[nnx.Rngs], nnx.Module]) -> Any:
    """A module's graph without its parameters."""
    return nnx.split(nnx.eval_shape(lambda: make(nnx.Rngs(0))))[0]


def parameters_of(module: nnx.Module) -> Parameters:
    """A module's parameters, a nested dict of arrays."""
    return nnx.to_pure_dict(nnx.split(module)[1])
