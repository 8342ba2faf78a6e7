"""How much faster do the finetunes of a few-shot task run as one program than one after the other,
here and in PyTorch?

Shows: training samples per second of ROWS finetunes of one ViT (forward, backward, clipped AdamW;
all cases on the device) as the rows of one compiled program, as programs of one row in sequence,
and in PyTorch in eager mode in sequence, in turns. The networks are the same: PyTorch starts from
our weights, and their outputs are compared first. Data are random; compilation is not counted.
Without a GPU all run on one core, and seconds are those of the processor: other work on the machine
is not counted. On a GPU both may use TF32. Costs: two minutes on a core, and `pip install -e
'.[benchmark]'`. Command:

    python experiments/benchmarks/transfer.py [SIZE=xs] [ROWS=16] [STEPS=5] [ROUNDS=3] [SIDE=48]
"""

import copy
import os
import sys
import time
from typing import Any

import jax
import numpy as np
import pandas as pd
import torch
from in_torch import DEVICE, Block, load, load_blocks, seconds
from torch import nn

from scaling.models.backbone import build_encoder
from scaling.models.patches import sincos_positions
from scaling.study.config import Finetune, ViT
from scaling.study.ladder import VitShape, resolve_encoder
from scaling.transfer.finetune_program import finetune_program
from scaling.transfer.kinds import LEARNERS

CASES, SEQUENCES, RATE = 21, 2, 3e-4
CLOCK = time.perf_counter if DEVICE.type == "cuda" else time.process_time


class Classifier(nn.Module):
    """Our encoder on every sequence, our head, one logit: [B, S, D, H, W] -> [B]."""

    def __init__(self, shape: VitShape, side: int):
        super().__init__()
        self.patch, self.side = shape.patch, side
        self.embedding = nn.Linear(shape.patch**3, shape.width)
        self.blocks = nn.ModuleList(
            Block(shape.width, shape.heads, shape.mlp_width) for _ in range(shape.depth)
        )
        self.norm = nn.LayerNorm(shape.width, 1e-6)
        self.hidden, self.output = (
            nn.Linear(SEQUENCES * shape.width, 2 * shape.width),
            nn.Linear(4 * shape.width, 1),
        )
        positions = sincos_positions((side,) * 3, shape.patch, shape.width)
        self.register_buffer("positions", torch.tensor(positions))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        B, p, n = len(images), self.patch, self.side // self.patch
        cubes = (
            images.view(B * SEQUENCES, n, p, n, p, n, p)
            .permute(0, 1, 3, 5, 2, 4, 6)
            .reshape(B * SEQUENCES, n**3, p**3)
        )
        x = self.embedding(cubes) + self.positions
        for block in self.blocks:
            x = block(x)
        beside = self.norm(x).view(B, SEQUENCES, n**3, -1).transpose(1, 2).flatten(2)
        hidden = nn.functional.gelu(self.hidden(beside), approximate="tanh")
        return self.output(torch.cat([hidden.mean(1), hidden.amax(1)], -1))[:, 0]


def loaded(parameters: dict[str, Any], shape: VitShape, side: int) -> Classifier:
    """The network in PyTorch with the parameters of ours."""
    network = Classifier(shape, side)
    encoder = parameters["encoder"]
    load(
        network, {"embedding": encoder["embedding"], "norm": encoder["norm"], **parameters["head"]}
    )
    load_blocks(network.blocks, encoder["stack"]["blocks"])
    return network.to(DEVICE)


def finetune_in_torch(
    network: Classifier, images: torch.Tensor, labels: torch.Tensor, recipe: Finetune
) -> None:
    """The recipe as one writes it in PyTorch."""
    decayed = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in network.parameters() if parameter.ndim == 1]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE)
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 - step / recipe.steps)
        chosen = torch.randint(CASES, (recipe.batch,), device=DEVICE)
        loss = nn.functional.binary_cross_entropy_with_logits(
            network(images[chosen].float()), labels[chosen]
        )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_norm)
        optimizer.step()


def main(size: str = "xs", rows: int = 16, steps: int = 5, rounds: int = 3, side: int = 48) -> None:
    """Print the median samples per second of each, and the medians of the ratios of turns."""
    if DEVICE.type == "cpu":
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        torch.set_num_threads(1)
    torch.set_float32_matmul_precision("high")
    shape = resolve_encoder(ViT(), size)
    assert isinstance(shape, VitShape)
    recipe = Finetune(steps=steps, batch=4, augment="none", warmup_share=0.0)
    program = finetune_program(
        shape, LEARNERS["classification"](()), SEQUENCES, (side,) * 3, recipe, rows
    )
    rng = np.random.default_rng(0)
    images = rng.normal(size=(CASES, SEQUENCES, side, side, side)).astype(np.float16)
    labels = (np.arange(CASES) % 2).astype(np.float32)
    present = np.ones((CASES, SEQUENCES), bool)
    keys = jax.random.split(jax.random.key(0), rows)
    encoder, heads = jax.jit(build_encoder(shape).init)(keys[0]), program.init_heads(keys)
    cases = jax.device_put((images, present, labels))
    per_row = (
        np.ones((rows, CASES), np.float32),
        np.tile(np.float32([0, 1]), (rows, 1)),
        np.full(rows, RATE, np.float32),
        keys,
    )

    def fit(part: slice) -> Any:
        return program.fit(
            encoder,
            jax.tree.map(lambda leaf: leaf[part], heads),
            cases,
            *(each[part] for each in per_row),
        )

    network = jax.tree.map(lambda leaf: leaf[0], fit(slice(0, rows)))
    theirs = loaded(network, shape, side)
    on_device = torch.tensor(images, device=DEVICE), torch.tensor(labels, device=DEVICE)
    with torch.no_grad():
        found = theirs(on_device[0].float()).cpu().numpy()
    np.testing.assert_allclose(
        found, program.apply(network, images, present), atol=1e-4 if DEVICE.type == "cpu" else 2e-2
    )

    def in_torch() -> None:
        for _ in range(rows):
            finetune_in_torch(copy.deepcopy(theirs), *on_device, recipe)

    compared = {
        f"{rows} rows of one program": lambda: fit(slice(0, rows)),
        f"{rows} programs of one row": lambda: [fit(slice(row, row + 1)) for row in range(rows)],
        f"PyTorch {torch.__version__}, eager": in_torch,
    }
    for run in compared.values():
        seconds(run, CLOCK)  # compile
    samples = rows * recipe.steps * recipe.batch
    speeds = pd.DataFrame(
        [
            {name: samples / seconds(run, CLOCK) for name, run in compared.items()}
            for _ in range(rounds)
        ]
    )
    print(
        f"ViT {size}, {SEQUENCES} sequences of {side}^3 voxels, batch {recipe.batch}, on "
        f"{jax.devices()[0].device_kind} and {DEVICE}"
    )
    ratios = speeds.rdiv(speeds.iloc[:, 0], axis=0)
    for name in speeds:
        print(
            f"{name:28s} {speeds[name].median():8.1f} samples/s, one program "
            f"{ratios[name].median():.2f} times as fast"
        )


if __name__ == "__main__":
    main(*(kind(text) for kind, text in zip((str, int, int, int, int), sys.argv[1:], strict=False)))
