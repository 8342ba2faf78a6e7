"""The vision transformer of weights.safetensors in PyTorch: `load("weights.safetensors")`.

It maps float32 volumes [B, D, H, W] to tokens [B, N, E], one for each cube of
`patch` voxels, in row-major order. It needs torch, numpy and safetensors only; model.json says on
which grid, and how normalised, volumes were in pretraining.
"""

import json

import numpy as np
import torch
from safetensors import safe_open
from torch import nn
from torch.nn.functional import gelu, scaled_dot_product_attention

EPSILON = 1e-6  # added to variances


class Block(nn.Module):
    """Pre-norm attention and MLP: [B, N, E] -> [B, N, E]."""

    def __init__(self, width: int, heads: int, mlp_width: int):
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width, eps=EPSILON)
        self.qkv = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width, eps=EPSILON)
        self.mlp_in = nn.Linear(width, mlp_width)
        self.mlp_out = nn.Linear(mlp_width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        B, N, E = x.shape
        parts = self.qkv(self.attention_norm(x)).reshape(B, N, 3, self.heads, E // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)  # [B, H, N, K] each
        attended = scaled_dot_product_attention(q, k, v)
        x = x + self.attention_out(attended.transpose(1, 2).reshape(B, N, E))
        return x + self.mlp_out(gelu(self.mlp_in(self.mlp_norm(x)), approximate="tanh"))


class Vit(nn.Module):
    """Volumes [B, D, H, W] to tokens [B, N, E]; lengths are multiples of `patch`."""

    def __init__(self, patch: int, width: int, depth: int, heads: int, mlp_width: int):
        super().__init__()
        self.patch, self.width = patch, width
        self.embedding = nn.Linear(patch**3, width)
        self.blocks = nn.ModuleList(Block(width, heads, mlp_width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=EPSILON)

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        x = self.embedding(patchify(volumes, self.patch))
        grid = [length // self.patch for length in volumes.shape[1:]]
        x = x + torch.from_numpy(positions(grid, self.width)).to(x)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


def patchify(volumes: torch.Tensor, patch: int) -> torch.Tensor:
    """Cut volumes [B, D, H, W] into cubes: [B, N, patch^3]."""
    B, D, H, W = volumes.shape
    d, h, w = D // patch, H // patch, W // patch
    cubes = volumes.reshape(B, d, patch, h, patch, w, patch)
    return cubes.permute(0, 1, 3, 5, 2, 4, 6).reshape(B, d * h * w, patch**3)


def positions(grid: list[int], width: int) -> np.ndarray:
    """Fixed sine-cosine positions [N, E], a third of the width per axis."""
    frequencies = width // 6
    rates = 10000.0 ** (-np.arange(frequencies) / frequencies)
    waves = []
    for axis in np.meshgrid(*(np.arange(length) for length in grid), indexing="ij"):
        angles = axis.reshape(-1, 1) * rates
        waves += [np.sin(angles), np.cos(angles)]
    encoded = np.concatenate(waves, axis=1)
    return np.pad(encoded, ((0, 0), (0, width - encoded.shape[1]))).astype(np.float32)


def load(file: str) -> Vit:
    """The encoder of a weights.safetensors, ready to be applied or fine-tuned."""
    with safe_open(file, framework="pt") as opened:
        shape = json.loads(opened.metadata()["encoder"])
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    names = ("patch", "width", "depth", "heads", "mlp_width")
    encoder = Vit(**{name: shape[name] for name in names})
    encoder.load_state_dict(renamed(tensors))
    return encoder.eval()


def renamed(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors as this module calls them: blocks apart, weights [out, in]."""
    state: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        if name.startswith("stack.blocks."):
            part = name.removeprefix("stack.blocks.")
            for number, value in enumerate(tensor):
                add(state, f"blocks.{number}.{part}", value)
        else:
            add(state, name, tensor)
    return state


def add(state: dict[str, torch.Tensor], name: str, value: torch.Tensor) -> None:
    """Put one tensor under its name in PyTorch."""
    if ".qkv." in name:  # three maps [3, E, E] and their biases [3, E], as one
        value = value.permute(1, 0, 2).flatten(1) if value.ndim == 3 else value.flatten()
    if name.endswith("kernel"):
        value = value.T
    name = name.removesuffix("kernel").removesuffix("scale").rstrip(".")
    state[name if name.endswith("bias") else f"{name}.weight"] = value.contiguous()
