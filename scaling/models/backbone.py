"""The one interface through which any backbone serves any objective and any task: pure functions over nested dicts of arrays."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from scaling.models.parameters import Parameters, keys_from, parameters_of, structure
from scaling.models.parametrisation import scaled_init
from scaling.models.patches import patchify, sincos_positions, unpatchify
from scaling.models.transformer import Constrain, unconstrained
from scaling.models.unet import CnnDecoder, CnnEncoder
from scaling.models.vit import MaeDecoder, VitEncoder
from scaling.study.config import Remat, Shape3
from scaling.study.ladder import (
    CnnDecoderShape,
    CnnShape,
    Decoder,
    Encoder,
    VitDecoderShape,
    VitShape,
)

Features = tuple[Array, ...]


class EncoderFunctions(NamedTuple):
    """An encoder alone.

    `init(key)` makes its parameters; `encode(parameters, volumes [B, D, H, W])` gives tokens [B, N, E], one for each cube of
    `stride` voxels in row-major order; `features(parameters, volumes)` all that a segmentation head reads: the tokens of a ViT
    ([B, N, E],), the pyramid of a CNN, finest first ([B, d, h, w, C], ...), whose last level the tokens are.
    """

    init: Callable[[PRNGKeyArray], Parameters]
    encode: Callable[[Parameters, Float[Array, "B D H W"]], Float[Array, "B N E"]]
    features: Callable[[Parameters, Float[Array, "B D H W"]], Features]


class Backbone(NamedTuple):
    """An encoder and the decoder of masked reconstruction, for volumes of one crop, cut into N cubes of the encoder's `patch` voxels.

    `init(key)` makes {"encoder": ..., "decoder": ...}; `encode_visible(parameters["encoder"], patches [B, N, P], kept [B, M])`
    gives the features of those M patches that `kept` names, nothing of the others: a tuple, the last of which has the encoder's
    tokens [B, ..., E] (a ViT leaves hidden patches out, a CNN sees zeros there); `decode(parameters["decoder"], features, kept)`
    predicts the voxels of all patches from them: float32 [B, N, P].
    """

    init: Callable[[PRNGKeyArray], Parameters]
    encode_visible: Callable[[Parameters, Float[Array, "B N P"], Int[Array, "B M"]], Features]
    decode: Callable[[Parameters, Features, Int[Array, "B M"]], Float[Array, "B N P"]]


def build_encoder(
    shape: Encoder,
    dtype: str = "float32",
    remat: Remat = "none",
    constrain: Constrain = unconstrained,
) -> EncoderFunctions:
    """The functions of one encoder."""
    make_encoder = encoder_maker(dtype, remat, constrain)
    graph = cache(lambda: structure(lambda rngs: make_encoder(shape, rngs)))

    def init_of(shape: Encoder) -> Callable[[PRNGKeyArray], Parameters]:
        return lambda key: parameters_of(make_encoder(shape, keys_from(key)))

    def features(parameters: Parameters, volumes: Float[Array, "B D H W"]) -> Features:
        found = nnx.merge(graph(), parameters)(volumes)
        return found if isinstance(found, tuple) else (found,)

    def encode(parameters: Parameters, volumes: Float[Array, "B D H W"]) -> Float[Array, "B N E"]:
        last = features(parameters, volumes)[-1]
        return last.reshape(last.shape[0], -1, last.shape[-1])

    return EncoderFunctions(scaled_init(init_of, shape), encode, features)


def build_backbone(
    encoder: Encoder,
    decoder: Decoder,
    crop: Shape3,
    dtype: str = "float32",
    remat: Remat = "none",
    constrain: Constrain = unconstrained,
) -> Backbone:
    """The functions of an encoder and its reconstruction decoder, for volumes of `crop` voxels."""
    make_encoder = encoder_maker(dtype, remat, constrain)

    def make_decoder(encoder: Encoder, rngs: nnx.Rngs) -> nnx.Module:
        if isinstance(encoder, VitShape) and isinstance(decoder, VitDecoderShape):
            return MaeDecoder(decoder, encoder, crop, rngs, jnp.dtype(dtype), remat, constrain)
        assert isinstance(encoder, CnnShape)
        assert isinstance(decoder, CnnDecoderShape)
        return CnnDecoder(
            encoder.features,
            decoder.skips,
            rngs,
            dtype=jnp.dtype(dtype),
            remat=remat,
            constrain=constrain,
        )

    # Not made before they are needed: shapes alone are asked for more often.
    encoder_graph = cache(lambda: structure(lambda rngs: make_encoder(encoder, rngs)))
    decoder_graph = cache(lambda: structure(lambda rngs: make_decoder(encoder, rngs)))

    def init_of(shape: Encoder) -> Callable[[PRNGKeyArray], Parameters]:
        def init(key: PRNGKeyArray) -> Parameters:
            rngs = keys_from(key)
            modules = {"encoder": make_encoder(shape, rngs), "decoder": make_decoder(shape, rngs)}
            return {name: parameters_of(module) for name, module in modules.items()}

        return init

    def encode_visible(
        parameters: Parameters, patches: Float[Array, "B N P"], kept: Int[Array, "B M"]
    ) -> Features:
        encode = nnx.merge(encoder_graph(), parameters)
        if isinstance(encoder, VitShape):
            positions = jnp.asarray(sincos_positions(crop, encoder.patch, encoder.width))
            return (
                encode.encode_patches(
                    jnp.take_along_axis(patches, kept[..., None], axis=1), positions[kept]
                ),
            )
        seen = (
            jnp.zeros(patches.shape[:2], patches.dtype)
            .at[jnp.arange(patches.shape[0])[:, None], kept]
            .set(1)
        )
        return encode(unpatchify(patches * seen[..., None], crop, encoder.patch))

    def decode(
        parameters: Parameters, features: Features, kept: Int[Array, "B M"]
    ) -> Float[Array, "B N P"]:
        decode = nnx.merge(decoder_graph(), parameters)
        if isinstance(encoder, VitShape):
            return decode(features[-1], kept).astype(jnp.float32)
        return patchify(decode(features), encoder.patch).astype(jnp.float32)

    return Backbone(scaled_init(init_of, encoder), encode_visible, decode)


def encoder_maker(
    dtype: str, remat: Remat, constrain: Constrain
) -> Callable[[Encoder, nnx.Rngs], nnx.Module]:
    """What makes the encoder module of a shape."""

    def make(shape: Encoder, rngs: nnx.Rngs) -> nnx.Module:
        if isinstance(shape, VitShape):
            return VitEncoder(shape, rngs, jnp.dtype(dtype), remat, constrain)
        return CnnEncoder(shape, rngs, jnp.dtype(dtype), remat, constrain)

    return make
