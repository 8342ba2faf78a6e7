"""The one interface through which any backbone serves any objective and any task: pure functions
over nested dicts of arrays.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from scaling.models import unet, vit
from scaling.models.compute import Compute
from scaling.models.heads import Features, PooledHead, SegmentationHead, UNetHead
from scaling.models.parameters import Parameters, keys_from, parameters_of, structure
from scaling.models.parametrisation import scaled_init
from scaling.study.families import FAMILIES, Family
from scaling.study.ladder import CnnShape, Decoder, Encoder, VitShape
from scaling.study.protocols import Shape3


class Modules(NamedTuple):
    """What makes and applies the networks of one class of shapes."""

    encoder: Callable[[Any, nnx.Rngs, Compute], nnx.Module]
    """`encoder(shape, rngs, compute)` is a module that maps volumes [B, D, H, W] to features: a
    tuple, finest first, or the tokens [B, N, E] alone.
    """
    decoder: Callable[[Any, Any, Shape3, nnx.Rngs, Compute], nnx.Module]
    """`decoder(shape, encoder_shape, crop, rngs, compute)` is the module that reconstructs."""
    encode_visible: Callable[[Any, Array, Array, Shape3], Features]
    """`encode_visible(encoder, patches [B, N, P], visible [B, M], crop)` gives the features of the
    patches at those M indices, and nothing of the others.
    """
    decode: Callable[[Any, Features, Array, int], Array]
    """`decode(decoder, features, visible [B, M], patch)` predicts all voxels [B, N, P]."""
    segmentation_head: Callable[[Any, int, int, Shape3, nnx.Rngs, Compute], nnx.Module]
    """`segmentation_head(shape, sequences, outputs, volume, rngs, compute)` is a module that maps
    features [B, S, ...] and which sequences are present [B, S] to logits [B, D, H, W], or
    [B, K, D, H, W] of K > 1 outputs.
    """


BACKBONES: dict[type[Encoder], Modules] = {
    VitShape: Modules(
        encoder=vit.VitEncoder,
        decoder=vit.MaeDecoder,
        encode_visible=vit.encode_visible,
        decode=lambda decoder, features, visible, patch: vit.decode(decoder, features, visible),
        segmentation_head=lambda shape, sequences, outputs, volume, rngs, compute: SegmentationHead(
            shape, sequences, volume, rngs, outputs
        ),
    ),
    CnnShape: Modules(
        encoder=unet.CnnEncoder,
        decoder=lambda shape, encoder, crop, rngs, compute: unet.CnnDecoder(
            encoder.features, shape.skips, rngs, compute
        ),
        encode_visible=unet.encode_visible,
        decode=lambda decoder, features, visible, patch: unet.decode(decoder, features, patch),
        segmentation_head=lambda shape, sequences, outputs, volume, rngs, compute: UNetHead(
            shape, sequences, rngs, compute, outputs
        ),
    ),
}


def register_backbone(family: type[Family], shape: type[Encoder], modules: Modules) -> None:
    """Make a user's backbone known: studies may then name its family among their `families`.

    Raises ValueError where its kind is taken.
    """
    FAMILIES.register(family)
    BACKBONES[shape] = modules


def modules_of(shape: Encoder) -> Modules:
    """What makes the networks of a shape. Raises TypeError for a class that is not registered."""
    modules = BACKBONES.get(type(shape))
    if modules is None:
        raise TypeError(
            f"nothing makes encoders of class {type(shape).__name__}; "
            "expected a class given to scaling.models.backbone.register_backbone"
        )
    return modules


class EncoderFunctions(NamedTuple):
    """An encoder alone."""

    init: Callable[[PRNGKeyArray], Parameters]
    """`init(key)` makes its parameters."""
    encode: Callable[[Parameters, Float[Array, "B D H W"]], Float[Array, "B N E"]]
    """`encode(parameters, volumes)` gives tokens, one for each cube of `stride` voxels in row-major
    order.
    """
    features: Callable[[Parameters, Float[Array, "B D H W"]], Features]
    """`features(parameters, volumes)` gives all that a segmentation head reads: the tokens of a ViT
    ([B, N, E],), the pyramid of a CNN, finest first ([B, d, h, w, C], ...), whose last level the
    tokens are.
    """


class Backbone(NamedTuple):
    """An encoder and the decoder of masked reconstruction, for volumes of one crop, cut into N
    cubes of the encoder's `patch` voxels.
    """

    init: Callable[[PRNGKeyArray], Parameters]
    """`init(key)` makes {"encoder": ..., "decoder": ...}."""
    encode_visible: Callable[[Parameters, Float[Array, "B N P"], Int[Array, "B M"]], Features]
    """`encode_visible(parameters["encoder"], patches, visible)` gives the features of the M patches
    at the indices `visible`, nothing of the others: a tuple, the last of which has the encoder's
    tokens [B, ..., E]. A ViT leaves hidden patches out, a CNN sees zeros there.
    """
    decode: Callable[[Parameters, Features, Int[Array, "B M"]], Float[Array, "B N P"]]
    """`decode(parameters["decoder"], features, visible)` predicts the voxels of all patches, in
    float32.
    """


def build_encoder(shape: Encoder, compute: Compute | None = None) -> EncoderFunctions:
    """The functions of one encoder, by default as the devices at hand compute it in float32."""
    compute = compute or Compute()
    make_encoder = modules_of(shape).encoder

    @cache
    def graph() -> Any:
        return structure(lambda rngs: make_encoder(shape, rngs, compute))

    def init_of(shape: Encoder) -> Callable[[PRNGKeyArray], Parameters]:
        return lambda key: parameters_of(make_encoder(shape, keys_from(key), compute))

    def features(parameters: Parameters, volumes: Float[Array, "B D H W"]) -> Features:
        features = nnx.merge(graph(), parameters)(volumes)
        return features if isinstance(features, tuple) else (features,)

    def encode(parameters: Parameters, volumes: Float[Array, "B D H W"]) -> Float[Array, "B N E"]:
        last = features(parameters, volumes)[-1]
        return last.reshape(last.shape[0], -1, last.shape[-1])

    return EncoderFunctions(scaled_init(init_of, shape), encode, features)


def build_backbone(
    encoder: Encoder, decoder: Decoder, crop: Shape3, compute: Compute | None = None
) -> Backbone:
    """The functions of an encoder and its reconstruction decoder, for volumes of `crop` voxels."""
    compute = compute or Compute()
    modules = modules_of(encoder)

    # Not made before they are needed: shapes alone are asked for more often.
    @cache
    def encoder_graph() -> Any:
        return structure(lambda rngs: modules.encoder(encoder, rngs, compute))

    @cache
    def decoder_graph() -> Any:
        return structure(lambda rngs: modules.decoder(decoder, encoder, crop, rngs, compute))

    def init_of(shape: Encoder) -> Callable[[PRNGKeyArray], Parameters]:
        def init(key: PRNGKeyArray) -> Parameters:
            rngs = keys_from(key)
            encoder_module = modules.encoder(shape, rngs, compute)
            decoder_module = modules.decoder(decoder, shape, crop, rngs, compute)
            return {
                "encoder": parameters_of(encoder_module),
                "decoder": parameters_of(decoder_module),
            }

        return init

    def encode_visible(
        parameters: Parameters, patches: Float[Array, "B N P"], visible: Int[Array, "B M"]
    ) -> Features:
        module = nnx.merge(encoder_graph(), parameters)
        return modules.encode_visible(module, patches, visible, crop)

    def decode(
        parameters: Parameters, features: Features, visible: Int[Array, "B M"]
    ) -> Float[Array, "B N P"]:
        module = nnx.merge(decoder_graph(), parameters)
        return modules.decode(module, features, visible, encoder.patch).astype(jnp.float32)

    return Backbone(scaled_init(init_of, encoder), encode_visible, decode)


def make_head(
    outputs: int,
    masks: bool,
    encoder: Encoder,
    sequences: int,
    shape: Shape3,
    rngs: nnx.Rngs,
    compute: Compute | None = None,
) -> nnx.Module:
    """The head of a task: `outputs` numbers per case or, for `masks`, per voxel.

    All take what `EncoderFunctions.features` gives for each sequence, [B, S, ...], and which are
    present, [B, S].
    """
    if not masks:
        return PooledHead(encoder, sequences, rngs, outputs)
    compute = compute or Compute()
    head = modules_of(encoder).segmentation_head
    return head(encoder, sequences, outputs, shape, rngs, compute)
