"""Our networks written as one writes them in PyTorch, and how to give them our parameters: what the
benchmarks compare with.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import torch
from torch import nn

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def seconds(run: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """How long a call takes, its results computed."""
    began = clock()
    jax.block_until_ready(run())
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return clock() - began


class Block(nn.Module):
    """`scaling.models.transformer.Block`."""

    def __init__(self, width: int, heads: int, mlp_width: int):
        super().__init__()
        self.heads = heads
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.qkv, self.attention_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp_in, self.mlp_out = nn.Linear(width, mlp_width), nn.Linear(mlp_width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        B, N, E = x.shape
        q, k, v = (
            self.qkv(self.attention_norm(x))
            .view(B, N, 3, self.heads, E // self.heads)
            .permute(2, 0, 3, 1, 4)
        )
        x = x + self.attention_out(
            nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, N, E)
        )
        return x + self.mlp_out(
            nn.functional.gelu(self.mlp_in(self.mlp_norm(x)), approximate="tanh")
        )


class ConvNorm(nn.Module):
    """`scaling.models.unet.ConvNorm` and the activation after it."""

    def __init__(self, channels: int, features: int):
        super().__init__()
        self.conv = nn.Conv3d(channels, features, 3, padding=1, bias=False)
        self.norm = nn.InstanceNorm3d(features, affine=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.leaky_relu(self.norm(self.conv(x)), 0.01)


class UNet(nn.Module):
    """`scaling.models.unet`: plain levels, skips, one convolution on the way up. [B, 1, D, H, W] ->
    [B, D, H, W].
    """

    def __init__(self, features: tuple[int, ...]):
        super().__init__()
        below = zip((1, *features), features, strict=False)
        self.down = nn.ModuleList(nn.Sequential(ConvNorm(c, f), ConvNorm(f, f)) for c, f in below)
        pairs = list(zip(features[1:], features, strict=False))[::-1]
        self.up = nn.ModuleList(nn.ConvTranspose3d(c, f, 2, 2) for c, f in pairs)
        self.merge = nn.ModuleList(ConvNorm(2 * f, f) for _, f in pairs)
        self.voxels = nn.Conv3d(features[0], 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pyramid: list[torch.Tensor] = []
        for level in self.down:
            x = level(nn.functional.max_pool3d(x, 2) if pyramid else x)
            pyramid.append(x)
        for up, merge, passed in zip(self.up, self.merge, pyramid[-2::-1], strict=True):
            x = merge(torch.cat([up(x), passed], 1))
        return self.voxels(x)[:, 0]


def tensor(array: Any) -> torch.Tensor:
    """One of our arrays."""
    return torch.tensor(np.asarray(array))


def load(module: nn.Module, ours: Mapping[str, Any]) -> None:
    """Give a linear layer or a norm, or all of them below a module, our parameters of the same
    names.
    """
    if "bias" in ours:
        # Kernels are [inputs, outputs], those of queries, keys and values [3, inputs, outputs].
        weight = (
            np.swapaxes(ours["kernel"], -2, -1).reshape(-1, ours["kernel"].shape[-2])
            if "kernel" in ours
            else ours["scale"]
        )
        module.load_state_dict({"weight": tensor(weight), "bias": tensor(ours["bias"]).reshape(-1)})
        return
    for name, inner in ours.items():
        load(getattr(module, name), inner)


def load_blocks(blocks: nn.ModuleList, ours: Any) -> None:
    """Give transformer blocks our stacked ones."""
    for depth, block in enumerate(blocks):
        load(block, jax.tree.map(lambda leaf: leaf[depth], ours))  # noqa: B023 (called at once)


def load_unet(network: UNet, encoder: Mapping[str, Any], decoder: Mapping[str, Any]) -> None:
    """Give a U-Net our encoder and decoder."""

    def convolution(module: Any, ours: Mapping[str, Any]) -> None:
        module.conv.load_state_dict({"weight": tensor(ours["kernel"]).permute(4, 3, 0, 1, 2)})
        load(module.norm, ours["norm"])

    for level, module in enumerate(network.down):
        for inner, name in zip(module, ("conv_in", "conv_out"), strict=True):  # type: ignore[call-overload]
            convolution(inner, encoder["levels"][f"level{level}"][name])
    for place, (up, merge) in enumerate(zip(network.up, network.merge, strict=True)):
        ours = decoder["levels"][f"level{len(network.up) - 1 - place}"]
        kernel = tensor(ours["kernel"])  # columns by place in the cube, then by channel
        up.load_state_dict(
            {
                "weight": kernel.view(len(kernel), 2, 2, 2, -1).permute(0, 4, 1, 2, 3),
                "bias": tensor(ours["bias"]),
            }
        )
        convolution(merge, ours["conv"])
    voxels = decoder["voxels"]
    network.voxels.load_state_dict(
        {
            "weight": tensor(voxels["kernel"]).T[..., None, None, None],
            "bias": tensor(voxels["bias"]),
        }
    )
