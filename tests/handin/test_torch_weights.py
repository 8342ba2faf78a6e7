"""Exported and published weights against PyTorch's modules: equal outputs on random inputs.

pip install -e '.[test,torch]' && pytest tests/handin/test_torch_weights.py
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from scaling.handin.convert import convert_weights
from scaling.handin.weights import tensors_of, write_tensors
from scaling.models.backbone import build_backbone, build_encoder
from scaling.models.unet import CnnDecoder
from scaling.study.cnn_shape import CnnDecoderShape, CnnShape
from scaling.study.config import ResEnc, UNet, ViT, Weights
from scaling.study.families import Family
from scaling.transfer.references.weights import public_encoder

torch = pytest.importorskip("torch")
architectures = pytest.importorskip("dynamic_network_architectures.architectures.unet")
encoders = pytest.importorskip("dynamic_network_architectures.building_blocks.plain_conv_encoder")

CLOSE = {"rtol": 0, "atol": 1e-4}
SIDE = (16, 16, 16)


def residual_unet(shape: CnnShape) -> Any:
    """The published module, as nnU-Net and nnssl make it."""
    levels = len(shape.features)
    strides = (1, *(2,) * (levels - 1))
    convolution = torch.nn.Conv3d
    return architectures.ResidualEncoderUNet(
        1, levels, shape.features, convolution, 3, strides, shape.blocks, 1, 1, **common()
    ).eval()


def common() -> dict[str, Any]:
    return {
        "conv_bias": True,
        "norm_op": torch.nn.InstanceNorm3d,
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": torch.nn.LeakyReLU,
        "nonlin_kwargs": {"inplace": True},
    }


def randomised(module: Any) -> Any:
    torch.manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module


def random_volumes() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(2, *SIDE)).astype(np.float32)


def channels_first(features: Any) -> np.ndarray:
    return np.moveaxis(np.asarray(features), -1, 1)


def random_parameters(family: Family, size: str) -> Any:
    """Encoder and decoder, every parameter random."""
    backbone = build_backbone(family.encoder(size, "standard"), family.decoder(), SIDE)
    abstract = jax.eval_shape(backbone.init, jax.random.key(0))
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: (0.3 * rng.normal(size=leaf.shape)).astype(np.float32), abstract
    )


@pytest.mark.parametrize("axes", ["xyz", "zyx"])
def test_published_residual_unet_gives_the_same_features_here(tmp_path: Path, axes: str) -> None:
    family = ResEnc(levels=3)
    shape = family.encoder("s", "standard")
    assert isinstance(shape, CnnShape)
    module = randomised(residual_unet(shape))
    torch.save({"network_weights": module.state_dict()}, tmp_path / "checkpoint.pth")
    file = tmp_path / "w.safetensors"
    convert_weights(tmp_path / "checkpoint.pth", file)
    reference = Weights("w", str(file), family, "s", axes=axes)  # type: ignore[arg-type]
    volumes = random_volumes()
    ours = build_encoder(shape).features(public_encoder(reference), volumes)
    given = torch.from_numpy(volumes)[:, None]
    order = (0, 1, 4, 3, 2) if axes == "zyx" else (0, 1, 2, 3, 4)
    with torch.no_grad():
        theirs = module.encoder(given.permute(order))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(channels_first(one), other.permute(order), **CLOSE)


@pytest.mark.parametrize("skips", [True, False])
def test_exported_residual_unet_gives_the_same_output_there(tmp_path: Path, skips: bool) -> None:
    from safetensors.torch import load_file

    family = ResEnc(levels=3, skips=skips)
    shape = family.encoder("s", "standard")
    assert isinstance(shape, CnnShape)
    parameters = random_parameters(family, "s")
    write_tensors(tmp_path / "w.safetensors", tensors_of(shape, parameters), shape)
    module = residual_unet(shape)
    module.load_state_dict(load_file(tmp_path / "w.safetensors"))  # strict: every name, no other
    volumes = random_volumes()
    with torch.no_grad():
        theirs = module(torch.from_numpy(volumes)[:, None])[:, 0]
    pyramid = build_encoder(shape).features(parameters["encoder"], volumes)
    ours = decoded(family, shape, parameters["decoder"], pyramid)
    assert np.abs(ours).max() > 0.1
    np.testing.assert_allclose(ours, theirs, **CLOSE)
    convert_weights(tmp_path / "w.safetensors", tmp_path / "checkpoint.pth")
    content = torch.load(tmp_path / "checkpoint.pth", weights_only=True)
    assert content["network_weights"].keys() == module.state_dict().keys()


def decoded(family: Family, shape: CnnShape, parameters: Any, pyramid: Any) -> np.ndarray:
    """What our decoder makes of a pyramid, [B, D, H, W]."""
    from flax import nnx

    from scaling.models.compute import Compute
    from scaling.models.parameters import structure

    decoder = family.decoder()
    assert isinstance(decoder, CnnDecoderShape)
    graph = structure(lambda rngs: CnnDecoder(shape.features, decoder.skips, rngs, Compute()))
    return np.asarray(nnx.merge(graph, parameters)(pyramid))


def test_exported_plain_unet_gives_the_same_features_there(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    family = UNet(levels=3)
    shape = family.encoder("xxs", "standard")
    assert isinstance(shape, CnnShape)
    parameters = random_parameters(family, "xxs")
    write_tensors(tmp_path / "w.safetensors", tensors_of(shape, parameters), shape)
    module = encoders.PlainConvEncoder(
        1,
        3,
        shape.features,
        torch.nn.Conv3d,
        3,
        (1, 2, 2),
        2,
        return_skips=True,
        pool="max",
        **common(),
    )
    state = load_file(tmp_path / "w.safetensors")
    module.load_state_dict(
        {name[8:]: value for name, value in state.items() if name.startswith("encoder.")}
    )
    volumes = random_volumes()
    with torch.no_grad():
        theirs = module(torch.from_numpy(volumes)[:, None])
    ours = build_encoder(shape).features(parameters["encoder"], volumes)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(channels_first(one), other, **CLOSE)


def test_exported_vit_gives_the_same_tokens_in_its_module(tmp_path: Path) -> None:
    from scaling.handin.torch_vit import load

    family = ViT()
    shape = family.encoder("xxs", "standard")
    parameters = random_parameters(family, "xxs")
    write_tensors(tmp_path / "w.safetensors", tensors_of(shape, parameters), shape)
    volumes = np.random.default_rng(1).normal(size=(2, 16, 24, 32)).astype(np.float32)
    with torch.no_grad():
        theirs = load(str(tmp_path / "w.safetensors"))(torch.from_numpy(volumes))
    ours = build_encoder(shape).encode(parameters["encoder"], volumes)
    np.testing.assert_allclose(ours, theirs, **CLOSE)


def test_pickles_with_code_and_without_tensors_are_refused(tmp_path: Path) -> None:
    torch.save({"network": torch.nn.Linear(2, 2)}, tmp_path / "module.pth")
    with pytest.raises(ValueError, match="weights_only=True"):
        convert_weights(tmp_path / "module.pth", tmp_path / "w.safetensors")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(ValueError, match="holds no tensors by name"):
        convert_weights(tmp_path / "empty.pth", tmp_path / "w.safetensors")
    save_file({"a": np.zeros(2, np.float32)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="and one of"):
        convert_weights(tmp_path / "a.safetensors", tmp_path / "b.onnx")
    assert not (tmp_path / "w.safetensors").exists()
