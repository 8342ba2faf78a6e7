"""How fast is a step of masked-autoencoder pretraining, here, in PyTorch and in MONAI?

Shows: milliseconds of a whole step (mask, forward, backward, clipping, AdamW; one batch, already on
the device) of three networks: our program (on CPU also as `execution.mesh=[2,1]` has it: a device
per core, each with its half of the batch), the same network in PyTorch (eager and compiled, its
fused attention) and, for the ViTs, MONAI's `MaskedAutoEncoderViT` of the same sizes; and for the
U-Net our program on XLA's own 3D convolution. In turns, after warming up; medians, and the median
of each turn's ratio to ours. PyTorch starts from our weights, and what both predict is compared
first. float32 on two cores, or bfloat16 on a GPU. Costs: a quarter of an hour on two quiet cores,
and `pip install -e '.[benchmark]'` and a C++ compiler. Command:

    python experiments/benchmarks/train_step.py [NETWORK=all] [BATCH=8] [ROUNDS=7]
"""

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import torch
from in_torch import DEVICE, Block, UNet, load, load_blocks, load_unet, seconds, tensor
from monai.networks.nets import MaskedAutoEncoderViT
from torch import nn

import scaling.models.unet
from scaling.costs.flops import pretraining_flops
from scaling.models.backbone import build_backbone
from scaling.models.convolution import convolve, native
from scaling.models.patches import sincos_positions
from scaling.objectives.mae import build_masking
from scaling.processes.malloc import keep_freed_memory
from scaling.processes.parallel import cores
from scaling.study.config import Mae, Pretrain
from scaling.study.ladder import (
    CnnDecoderShape,
    CnnShape,
    Decoder,
    Encoder,
    VitDecoderShape,
    VitShape,
    heads_for,
    visible_tokens,
)
from scaling.training.mesh import global_batch, make_mesh
from scaling.training.program import NEVER, compiled_once, pretraining_program

DTYPE, AUTOCAST = (
    ("bfloat16", torch.bfloat16) if DEVICE.type == "cuda" else ("float32", torch.float32)
)
RECIPE = Pretrain(augment="none", dtype=DTYPE)  # type: ignore[arg-type]


def vit(
    width: int, depth: int, patch: int, decoder_width: int, decoder_depth: int
) -> tuple[VitShape, VitDecoderShape]:
    """A ViT and its decoder."""
    encoder = VitShape("vit", patch, width, depth, heads_for(width), 4 * width, width, depth)
    return encoder, VitDecoderShape(
        "vit", decoder_width, decoder_depth, heads_for(decoder_width), 4 * decoder_width
    )


NETWORKS: dict[str, tuple[int, Encoder, Decoder]] = {
    "vit-96": (96, *vit(384, 12, 16, 192, 4)),
    "vit-64": (64, *vit(192, 6, 8, 96, 2)),
    "unet-64": (
        64,
        CnnShape("unet", 8, (16, 32, 64, 128), (1, 1, 1, 1), 16),
        CnnDecoderShape("cnn", skips=True),
    ),
}


def patchify(volumes: torch.Tensor, p: int) -> torch.Tensor:
    """[B, D, H, W] -> [B, N, P]."""
    B, D, H, W = volumes.shape
    return (
        volumes.view(B, D // p, p, H // p, p, W // p, p)
        .permute(0, 1, 3, 5, 2, 4, 6)
        .reshape(B, -1, p**3)
    )


class MaeVit(nn.Module):
    """The masked autoencoder of `scaling.models.vit`: patches [B, N, P], kept [B, M] -> [B, N,
    P].
    """

    def __init__(self, encoder: VitShape, decoder: VitDecoderShape, side: int):
        super().__init__()
        self.embedding = nn.Linear(encoder.patch**3, encoder.width)
        self.blocks = nn.ModuleList(
            Block(encoder.width, encoder.heads, encoder.mlp_width) for _ in range(encoder.depth)
        )
        self.norm = nn.LayerNorm(encoder.width, 1e-6)
        self.projection = nn.Linear(encoder.width, decoder.width)
        self.mask_token = nn.Parameter(torch.zeros(decoder.width))
        self.decoder_blocks = nn.ModuleList(
            Block(decoder.width, decoder.heads, decoder.mlp_width) for _ in range(decoder.depth)
        )
        self.decoder_norm = nn.LayerNorm(decoder.width, 1e-6)
        self.voxels = nn.Linear(decoder.width, encoder.patch**3)
        for name, width in (("positions", encoder.width), ("decoder_positions", decoder.width)):
            self.register_buffer(name, tensor(sincos_positions((side,) * 3, encoder.patch, width)))

    def forward(self, patches: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        x = (
            self.embedding(patches.gather(1, kept[..., None].expand(-1, -1, patches.shape[-1])))
            + self.positions[kept]
        )
        for block in self.blocks:
            x = block(x)
        x = self.projection(self.norm(x))
        tokens = self.mask_token.to(x.dtype).expand(*patches.shape[:2], -1)
        x = tokens.scatter(1, kept[..., None].expand_as(x), x) + self.decoder_positions
        for block in self.decoder_blocks:
            x = block(x)
        return self.voxels(self.decoder_norm(x))


class MaeUNet(nn.Module):
    """The masked autoencoder on a U-Net: hidden patches are nought."""

    def __init__(self, encoder: CnnShape, side: int):
        super().__init__()
        self.unet, self.patch, self.side = UNet(encoder.features), encoder.patch, side

    def forward(self, patches: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        B, N, _ = patches.shape
        seen = patches * torch.zeros(B, N, device=patches.device).scatter(1, kept, 1.0)[..., None]
        p, n = self.patch, self.side // self.patch
        volumes = (
            seen.view(B, n, n, n, p, p, p)
            .permute(0, 1, 4, 2, 5, 3, 6)
            .reshape(B, 1, *(self.side,) * 3)
        )
        return patchify(self.unet(volumes), p)


def in_torch(side: int, encoder: Encoder, decoder: Decoder, ours: Any) -> nn.Module:
    """The network in PyTorch with our parameters."""
    if isinstance(encoder, CnnShape):
        network: Any = MaeUNet(encoder, side)
        load_unet(network.unet, ours["encoder"], ours["decoder"])
        return network.to(DEVICE)  # type: ignore[no-any-return]
    assert isinstance(decoder, VitDecoderShape)
    network = MaeVit(encoder, decoder, side)
    load(network, {name: ours["encoder"][name] for name in ("embedding", "norm")})
    load(network, {name: ours["decoder"][name] for name in ("projection", "voxels")})
    load(network.decoder_norm, ours["decoder"]["norm"])
    load_blocks(network.blocks, ours["encoder"]["stack"]["blocks"])
    load_blocks(network.decoder_blocks, ours["decoder"]["stack"]["blocks"])
    network.mask_token.data = tensor(ours["decoder"]["mask_token"])
    return network.to(DEVICE)  # type: ignore[no-any-return]


def torch_step(network: nn.Module, loss_of: Callable[[], torch.Tensor]) -> Callable[[], object]:
    """A training step as one writes it in PyTorch."""
    optimizer = torch.optim.AdamW(
        network.parameters(),
        RECIPE.learning_rate,
        (0.9, RECIPE.beta2),
        weight_decay=RECIPE.weight_decay,
    )

    def step() -> object:
        with torch.autocast(DEVICE.type, AUTOCAST, enabled=DEVICE.type == "cuda"):
            loss = loss_of()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), RECIPE.clip_norm)
        optimizer.step()
        return None

    return step


def hidden_loss(
    network: Callable[..., torch.Tensor], volumes: torch.Tensor, patch: int, visible: int
) -> torch.Tensor:
    """Mean squared error on the hidden patches, each normalised, under a new mask."""
    patches = patchify(volumes, patch)
    order = torch.rand(patches.shape[:2], device=patches.device).argsort(1)
    targets = (patches - patches.mean(-1, keepdim=True)) / (
        patches.var(-1, keepdim=True, correction=0) + 1e-6
    ).sqrt()
    hidden = torch.ones_like(order, dtype=torch.float32).scatter(1, order[:, :visible], 0.0)
    errors = (network(patches, order[:, :visible]).float() - targets).square().mean(-1)
    return (errors * hidden).sum() / hidden.sum()


def monai_loss(network: nn.Module, volumes: torch.Tensor, patch: int) -> torch.Tensor:
    """The same with MONAI's model, which masks by itself."""
    patches = patchify(volumes, patch)
    predicted, hidden = network(volumes[:, None])
    targets = (patches - patches.mean(-1, keepdim=True)) / (
        patches.var(-1, keepdim=True, correction=0) + 1e-6
    ).sqrt()
    return ((predicted.float() - targets).square().mean(-1) * hidden).sum() / hidden.sum()


def our_step(
    recipe: Pretrain, encoder: Encoder, decoder: Decoder, volumes: np.ndarray, devices: int = 1
) -> Callable[[], object]:
    """A step of our program; its state stays in the closure."""
    mesh = make_mesh(devices, 1)
    program = pretraining_program(Mae(), encoder, decoder, recipe, mesh)
    held = [program.init(jax.random.key(0))]
    batch, key = global_batch(mesh, volumes), jax.random.key(1)

    def step() -> object:
        held[0], metrics = program.step(held[0], batch, key, recipe.learning_rate, NEVER, NEVER)
        return metrics["loss"]

    step()  # compile
    return step


def compared(name: str, batch: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """Steps of the same network, ours first."""
    side, encoder, decoder = NETWORKS[name]
    recipe = Pretrain(**{**vars(RECIPE), "crop": (side,) * 3, "batch": batch})
    volumes = np.random.default_rng(0).normal(size=(batch, *recipe.crop)).astype(np.float16)
    yield f"ours, {DTYPE}", our_step(recipe, encoder, decoder, volumes)
    if DEVICE.type == "cpu":
        yield (
            "ours, a device per core",
            our_step(recipe, encoder, decoder, volumes, jax.device_count()),
        )
    if isinstance(encoder, CnnShape) and DEVICE.type == "cpu":
        scaling.models.unet.convolve = lambda x, kernel, platform, stride: native(x, kernel, stride)
        compiled_once.cache_clear()
        yield "ours, XLA's 3D convolution", our_step(recipe, encoder, decoder, volumes)
        scaling.models.unet.convolve = convolve
    on_device, visible = (
        torch.tensor(volumes, device=DEVICE).float(),
        visible_tokens((side // encoder.patch) ** 3, Mae().mask_ratio),
    )
    backbone = build_backbone(encoder, decoder, recipe.crop)
    ours = jax.jit(backbone.init)(jax.random.key(0))
    network = in_torch(side, encoder, decoder, ours)
    kept, _ = build_masking(Mae(), recipe.crop, encoder.patch)(jax.random.key(2), batch)
    patches = patchify(on_device, encoder.patch)
    with torch.no_grad():
        theirs = network(patches, tensor(kept).to(DEVICE).long()).cpu().numpy()
    seen = jnp.asarray(patches.cpu().numpy())
    predicted = jax.jit(
        lambda p: backbone.decode(
            p["decoder"], backbone.encode_visible(p["encoder"], seen, kept), kept
        )
    )(ours)
    np.testing.assert_allclose(theirs, predicted, atol=1e-3 if DEVICE.type == "cpu" else 5e-2)
    yield (
        "PyTorch, eager",
        torch_step(network, partial(hidden_loss, network, on_device, encoder.patch, visible)),
    )
    compiled = torch.compile(network, mode="default" if DEVICE.type == "cpu" else "max-autotune")
    yield (
        "PyTorch, compiled",
        torch_step(network, partial(hidden_loss, compiled, on_device, encoder.patch, visible)),
    )
    if isinstance(encoder, VitShape) and isinstance(decoder, VitDecoderShape):
        fixed = {
            "pos_embed_type": "sincos",
            "decoder_pos_embed_type": "sincos",
            "masking_ratio": Mae().mask_ratio,
        }
        thin = {
            "decoder_hidden_size": decoder.width,
            "decoder_mlp_dim": decoder.mlp_width,
            "decoder_num_layers": decoder.depth,
        }
        monai = MaskedAutoEncoderViT(
            1,
            side,
            encoder.patch,
            encoder.width,
            encoder.mlp_width,
            encoder.depth,
            encoder.heads,
            decoder_num_heads=decoder.heads,
            **fixed,
            **thin,
        ).to(DEVICE)
        yield (
            "MONAI, eager",
            torch_step(monai, partial(monai_loss, monai, on_device, encoder.patch)),
        )


def rested(step: Callable[[], object]) -> float:
    """Seconds of a step. PyTorch's threads stay awake for a moment after their work, on cores that
    the next one needs.
    """
    time.sleep(0.3)
    return seconds(step)


def main(chosen: str = "all", batch: int = 8, rounds: int = 7) -> None:
    """Print a table per network."""
    keep_freed_memory()
    if DEVICE.type == "cpu":
        used = min(2, cores())
        jax.config.update("jax_num_cpu_devices", used)
        torch.set_num_threads(used)
    torch.set_float32_matmul_precision("high")
    for name, (side, encoder, decoder) in NETWORKS.items():
        if chosen not in ("all", name):
            continue
        steps = dict(compared(name, batch))
        for step in steps.values():
            for _ in range(2):
                seconds(step)
        turns = pd.DataFrame(
            [{each: rested(step) for each, step in steps.items()} for _ in range(rounds)]
        )
        ratios = turns.rdiv(turns.iloc[:, 0], axis=0)
        flops = batch * pretraining_flops(Mae(), encoder, decoder, Pretrain(crop=(side,) * 3))
        where = f"{jax.devices()[0].device_kind}, PyTorch {torch.__version__} on {DEVICE}"
        print(f"{name}, batch {batch}, {flops / 1e9:.0f} GFLOP a step, {where}")
        for each in turns:
            taken = turns[each].median()
            print(
                f"  {each:28s} {1e3 * taken:9.1f} ms {batch / taken:8.1f} samples/s "
                f"{flops / taken / 1e9:9.1f} GFLOP/s, "
                f"our time is {ratios[each].median():.2f} of it",
                flush=True,
            )


if __name__ == "__main__":
    main(*(kind(text) for kind, text in zip((str, int, int), sys.argv[1:], strict=False)))
