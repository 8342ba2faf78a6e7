"""Masked reconstruction and contrast on one shared encoder: a single masked pass gives the latents
for both.
"""

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from scaling.models.backbone import build_backbone
from scaling.models.compute import Compute
from scaling.models.projector import pooled
from scaling.objectives.contrastive import build_contrast
from scaling.objectives.interface import Logged, Loss, Objective, Parameters, each_view
from scaling.objectives.mae import build_mae, build_masking, exact_patches, reconstruction_loss
from scaling.study.config import Pretrain
from scaling.study.ladder import Decoder, Encoder
from scaling.study.objectives import Hybrid


def build_hybrid(
    config: Hybrid, encoder: Encoder, decoder: Decoder, pretrain: Pretrain, compute: Compute
) -> Objective:
    """The hybrid objective for one encoder.

    Volumes are pairs [B, 2, D, H, W]; every view is masked by itself.
    """
    masking = build_masking(config.reconstruction, pretrain.crop, encoder.patch)
    backbone = build_backbone(encoder, decoder, pretrain.crop, compute)
    contrast = build_contrast(config.contrast, encoder)
    mae = build_mae(config.reconstruction, encoder, decoder, pretrain, compute)
    assert mae.reconstruct is not None
    picture = mae.reconstruct

    def init(key: PRNGKeyArray) -> Parameters:
        backbone_key, contrast_key = jax.random.split(key)
        return backbone.init(backbone_key) | contrast.init(contrast_key)

    def loss(
        parameters: Parameters, pairs: Float[Array, "B 2 D H W"], key: PRNGKeyArray, step: Array
    ) -> Loss:
        patches = exact_patches(each_view(pairs), encoder.patch)
        visible, mask = masking(key, len(patches))
        features = backbone.encode_visible(parameters["encoder"], patches, visible)
        predicted = backbone.decode(parameters["decoder"], features, visible)
        reconstruction = reconstruction_loss(predicted, patches, mask, config.reconstruction)
        contrastive, metrics = contrast.loss(parameters, pooled(features[-1]))
        total = config.reconstruction_weight * reconstruction + config.contrast_weight * contrastive
        parts = {"reconstruction_loss": reconstruction, "contrastive_loss": contrastive}
        return total, Logged(parts | metrics)

    def reconstruct(
        parameters: Parameters, pairs: Float[Array, "B 2 D H W"], key: PRNGKeyArray
    ) -> tuple[Array, Array, Array]:
        return picture(parameters, pairs[:, 0], key)

    return Objective(init, loss, reconstruct)
