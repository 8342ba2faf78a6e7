"""Weights of a finished pretraining run for others: a file that PyTorch's users load, and its card.

OUT/weights.safetensors   a U-Net under the names of `dynamic-network-architectures` (nnU-Net,
                          nnssl), its reconstruction decoder included; a ViT under our own
OUT/vit.py                of a ViT: the same encoder in PyTorch
OUT/model.json            architecture, grid, normalisation, pretraining, versions
OUT/README.md             the model card
"""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save

from scaling.data.licences import COLLECTIONS
from scaling.files import read_json, write_bytes, write_json, write_text
from scaling.handin.export import require_empty
from scaling.handin.model_card import model_card
from scaling.models.backbone import build_backbone, build_encoder
from scaling.models.published import decoder_to, encoder_to, leaves, with_aliases
from scaling.objectives.build import build_objective
from scaling.objectives.interface import Parameters
from scaling.runs.finished import finished_run
from scaling.runs.rundir import provenance
from scaling.runs.steps import PretrainStep
from scaling.study.cnn_shape import CnnShape
from scaling.study.config import BACKGROUND
from scaling.study.shapes import EncoderShape
from scaling.study.vit_shape import VitShape
from scaling.training.checkpoint import restore_parts

# The module that goes beside the weights; not imported, PyTorch need not be installed.
TORCH_VIT = Path(__file__).with_name("torch_vit.py")

Tensors = dict[str, np.ndarray]


def export_weights(checkpoint: Path, out: Path, licence: str = "") -> dict[str, Any]:
    """Write the weights of a finished pretraining run, and what they are. Returns model.json.

    Raises FileExistsError when `out` has content, and ValueError when `checkpoint` is no finished
    run, or its encoder is of a kind that nothing outside reads.
    """
    require_empty(out)
    checkpoint = checkpoint.resolve()
    plan, config = finished_run(checkpoint)
    parameters = restored(checkpoint / "checkpoints", config)
    tensors = tensors_of(config.encoder, parameters)
    described = describe(checkpoint, config, "decoder" in parameters, licence)
    study_dir = checkpoint.parents[1]
    collections = study_dir / "prepare" / COLLECTIONS
    summary = study_dir / "summary.txt"
    card = model_card(
        described,
        read_json(collections) if collections.exists() else [],
        summary.read_text() if summary.exists() else "",
        plan.study.name,
    )
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write_tensors(partial / "weights.safetensors", tensors, config.encoder)
    if isinstance(config.encoder, VitShape):
        write_text(partial / "vit.py", TORCH_VIT.read_text())
    write_json(partial / "model.json", described)
    write_text(partial / "README.md", card)
    partial.replace(out)
    return described


def restored(folder: Path, config: PretrainStep) -> dict[str, Parameters]:
    """The encoder, and the reconstruction decoder where the objective has trained one."""
    key = jax.random.key(0)
    backbone = build_backbone(config.encoder, config.decoder, config.pretrain.crop)
    parts = {"encoder": jax.eval_shape(build_encoder(config.encoder).init, key)}
    objective = build_objective(config.objective, config.encoder, config.decoder, config.pretrain)
    trained = jax.eval_shape(objective.init, key).get("decoder")
    if isinstance(config.encoder, CnnShape) and trained is not None:
        decoder = jax.eval_shape(backbone.init, key)["decoder"]
        if trained == decoder:
            parts["decoder"] = decoder
    return restore_parts(folder, parts)


def tensors_of(encoder: EncoderShape, parameters: dict[str, Parameters]) -> Tensors:
    """The tensors by the names under which others read them. Raises ValueError."""
    match encoder:
        case CnnShape():
            tensors = encoder_to(parameters["encoder"], encoder)
            if "decoder" in parameters:
                tensors |= decoder_to(parameters["decoder"], encoder)
            return with_aliases(tensors)
        case VitShape():
            return dict(leaves(parameters["encoder"]))
        case _:
            raise ValueError(
                f"weights of a {type(encoder).__name__} cannot be exported; expected a ViT, a UNet "
                "or a ResEnc"
            )


def write_tensors(file: Path, tensors: Tensors, encoder: EncoderShape) -> None:
    """Write float32 tensors, and the encoder's shape beside them."""
    arrays = {name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}
    metadata = {"encoder": json.dumps(dataclasses.asdict(encoder)), "format": "pt"}
    write_bytes(file, save(arrays, metadata))


def describe(checkpoint: Path, config: PretrainStep, decoder: bool, licence: str) -> dict[str, Any]:
    """What model.json says."""
    volumes = config.data.volumes
    described = {
        "name": checkpoint.name,
        "architecture": dataclasses.asdict(config.encoder),
        "decoder": decoder,
        "parameters": config.encoder.parameters,
        "family": config.backbone,
        "size": config.size,
        "objective": dataclasses.asdict(config.objective),
        "pretraining": dataclasses.asdict(config.pretrain),
        "samples": config.end,
        "fraction": config.fraction,
        "seed": config.seed,
        "sources": [f"{source.path} ({source.part})" for source in config.data.pretraining],
        "spacing_mm": volumes.spacing_mm,
        "shape": list(volumes.shape),
        "axes": "RAS, as nibabel orders them",
        "background": BACKGROUND,
        "licence": licence,
        "provenance": provenance(f"{len(jax.devices())} x {jax.devices()[0].device_kind}"),
    }
    plain: dict[str, Any] = json.loads(json.dumps(described))
    return plain
