"""The verb on the ladders: how large each rung is and what a sample costs."""

import dataclasses
import json
from typing import Annotated, Literal

import typer
from rich.table import Table

from scaling.cli.terminal import console
from scaling.costs.flops import pretraining_flops
from scaling.costs.memory import sample_memory
from scaling.engines.listing import count
from scaling.study.config import Mae, Pretrain
from scaling.study.families import Family, ResEnc, UNet, ViT
from scaling.study.ladder import resolve_decoder, resolve_encoder, rungs

models_app = typer.Typer()


@dataclasses.dataclass(frozen=True)
class Rung:
    """One rung of a ladder: its parameters, and what a pretraining sample costs.

    `total_parameters` adds the reconstruction decoder to the encoder; `activation_bytes_per_sample`
    are the activations that the backward pass keeps.
    """

    family: str
    size: str
    encoder_parameters: int
    total_parameters: int
    flops_per_sample: int
    activation_bytes_per_sample: int


def ladder(family: Family, pretrain: Pretrain, objective: Mae) -> list[Rung]:
    """Every rung of a family under one recipe."""
    decoder = resolve_decoder(family)
    ladder_rungs = []
    for size in rungs(family):
        encoder = resolve_encoder(family, size, pretrain.parametrisation)
        parameters = encoder.parameters
        total = parameters + decoder.parameters(encoder)
        flops = pretraining_flops(objective, encoder, decoder, pretrain)
        kept = sample_memory(objective, encoder, decoder, pretrain, "h100").kept
        ladder_rungs.append(Rung(family.kind, size, parameters, total, flops, round(kept)))
    return ladder_rungs


@models_app.command(rich_help_panel="Studies")
def models(
    family: Annotated[
        Literal["all", "vit", "unet", "resenc"], typer.Option(help="Which ladder.")
    ] = "all",
    crop: Annotated[tuple[int, int, int], typer.Option(help="Voxels of a sample.")] = (96, 96, 96),
    patch: Annotated[
        int,
        typer.Option(help="Voxels of a patch per axis: a ViT's tokens, and what masking hides."),
    ] = 8,
    dtype: Annotated[
        Literal["float32", "bfloat16"], typer.Option(help="Of the activations.")
    ] = "bfloat16",
    remat: Annotated[
        Literal["none", "blocks", "dots"],
        typer.Option(help="What the backward pass computes once more."),
    ] = "none",
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")] = False,
) -> None:
    """List the ladders of sizes.

    Per rung: parameters, and the training FLOPs and activation memory (on GPU) of one sample of
    masked autoencoding.
    """
    families: list[Family] = [ViT(patch=patch), UNet(patch=patch), ResEnc(patch=patch)]
    recipe = Pretrain(crop=crop, dtype=dtype, remat=remat)
    rows: list[Rung] = []
    for one in families:
        if family in ("all", one.kind):
            check_crop(one, crop)
            rows += ladder(one, recipe, Mae())
    if json_:
        typer.echo(json.dumps([dataclasses.asdict(rung) for rung in rows]))
        return
    table = Table(box=None, pad_edge=False)
    for heading in (
        "family",
        "size",
        "encoder",
        "with decoder",
        "FLOPs per sample",
        "activations per sample",
    ):
        table.add_column(
            heading, justify="left" if heading in ("family", "size") else "right", no_wrap=True
        )
    for rung in rows:
        numbers = (rung.encoder_parameters, rung.total_parameters, rung.flops_per_sample)
        table.add_row(
            rung.family,
            rung.size,
            *map(count, numbers),
            f"{count(rung.activation_bytes_per_sample)}B",
        )
    console.print(table)


def check_crop(family: Family, crop: tuple[int, int, int]) -> None:
    """Raise ValueError when `family` cannot take volumes of `crop` voxels."""
    for cube, field in ((family.patch, "patch"), (family.stride, "levels")):
        if any(length % cube for length in crop):
            raise ValueError(
                f"crop {crop} does not fit the {family.kind} ladder: "
                f"expected multiples of {cube} ({field})"
            )
