"""A frozen encoder to hand in: one volume in, one vector out, scaled for a linear probe by SGD.

Probes of challenges neither centre nor scale the vectors, and their learning rates suit vectors of
moderate size. So the program subtracts the mean of the pretraining scans' vectors and divides by
their deviation, value by value, times `DEVIATION`. It is proven by that very probe: the classes
are the sequences of the pretraining scans, which need no label.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from scaling.data.cache import Cache
from scaling.data.grids import open_grid
from scaling.data.layout import select
from scaling.handin import challenge_metrics
from scaling.handin.contract import Contract, challenge_contract
from scaling.handin.embed import pooled_features
from scaling.handin.export import (
    Forward,
    container_folder,
    named_leaves,
    promised,
    require_empty,
    write_program,
)
from scaling.handin.linear_probe import TEST, TRAIN, VALIDATION, fit_probe, split_cases
from scaling.models.backbone import build_encoder
from scaling.models.compute import Compute
from scaling.models.patches import grid_pool
from scaling.runs.finished import finished_run
from scaling.runs.rundir import provenance
from scaling.runs.steps import PretrainStep
from scaling.study.challenge import Challenge, ChallengeTask
from scaling.study.shapes import Platform
from scaling.transfer.run import load_encoder

# Measured with the probe of `linear_probe` on made-up vectors: a deviation of 0.1 a value was best
# among .001 to 100.
DEVIATION = 0.1
SCANS = 512  # pretraining scans that the constants are estimated on
FEWEST = 6  # scans of a sequence, so that each part of the probe has one
CELLS = 2  # cells per axis that features are averaged in: location says more than one mean


def export_embedding(
    checkpoint: Path, challenge: Challenge, task: ChallengeTask, out: Path, cuda: bool = False
) -> dict[str, Any]:
    """Write a container that returns the embedding of any one volume. Returns model.json.

    Raises FileExistsError when `out` has content, and ValueError when `checkpoint` is no finished
    run.
    """
    require_empty(out)
    checkpoint = checkpoint.resolve()
    _, config = finished_run(checkpoint)
    contract = challenge_contract(challenge, task, ("any",))
    parameters = load_encoder(config.encoder, config.seed, checkpoint / "checkpoints")
    cache = open_grid(checkpoint.parents[1] / "prepare", config.data.volumes)
    rows = pretraining_rows(cache, config)
    features = pooled_features(config.encoder, parameters, cache, rows, CELLS)
    mean = features.mean(0)
    # A value that never changes carries nothing, and must not be blown up.
    deviation = np.maximum(features.std(0), 1e-6 * max(1.0, float(np.abs(features).max())))
    scale = (DEVIATION / deviation).astype(np.float32)
    proof = prove(features, (features - mean) * scale, cache.index["sequence"].to_numpy()[rows])
    description = describe_embedding(checkpoint, config, contract, len(mean), len(rows), proof)
    with container_folder(out, contract, description, cuda) as app:
        write_encoder(app, config, parameters, mean, scale, cuda)
    return description


def pretraining_rows(cache: Cache, config: PretrainStep) -> np.ndarray:
    """Rows [n] of usable pretraining scans, evenly spread where there are many."""
    chosen = np.logical_or.reduce(
        [select(cache.index, source) for source in config.data.pretraining]
    )
    rows = np.flatnonzero(chosen & (cache.index["status"] == "ok").to_numpy())
    if len(rows) > SCANS:
        rows = rows[np.linspace(0, len(rows) - 1, SCANS).astype(int)]
    return rows


def prove(raw: np.ndarray, scaled: np.ndarray, sequences: np.ndarray) -> dict[str, Any]:
    """Macro AUROC of the probe for the scans' sequences, from raw and from scaled vectors.

    Rare sequences are left out; with fewer than two the proof is empty.
    """
    names, counts = np.unique(sequences.astype(str), return_counts=True)
    classes = names[counts >= FEWEST]
    if len(classes) < 2:
        return {}
    members = np.isin(sequences.astype(str), classes)
    labels = np.searchsorted(classes, sequences[members].astype(str))
    parts = split_cases(sequences[members].astype(str), np.zeros(len(labels)))
    train, validation, test = (parts == part for part in (TRAIN, VALIDATION, TEST))
    result: dict[str, Any] = {"classes": classes.tolist(), "scans": len(labels)}
    for name, vectors in (("auroc_unscaled", raw[members]), ("auroc", scaled[members])):
        probe = fit_probe(
            vectors[train],
            labels[train],
            vectors[validation],
            labels[validation],
            vectors[test],
            len(classes),
        )
        value = challenge_metrics.auroc_one_vs_rest(labels[test], probe.scores)
        result[name] = round(value, 4) if np.isfinite(value) else None
    return result


def write_encoder(
    app: Path,
    config: PretrainStep,
    parameters: Any,
    mean: np.ndarray,
    scale: np.ndarray,
    cuda: bool,
) -> None:
    """Write weights and program: images [1, D, H, W], present [1] -> embedding [d]."""
    shape, stride = config.data.volumes.shape, config.encoder.stride
    names, weights, structure = named_leaves(parameters)
    weights |= {"embedding.mean": mean.astype(np.float32), "embedding.scale": scale}

    def forward_of(platform: Platform) -> Forward:
        encoder = build_encoder(config.encoder, Compute(platform=platform))

        def forward(weights: dict[str, Array], images: Array, present: Array) -> Array:
            del present  # one volume, which is always there
            fitted = jax.tree.unflatten(structure, [weights[name] for name in names])
            tokens = encoder.encode(fitted, images.astype(jnp.float32))  # [1, N, E]
            vector = grid_pool(tokens, shape, stride, CELLS).reshape(-1)  # -> [CELLS^3 E]
            return (vector - weights["embedding.mean"]) * weights["embedding.scale"]

        return forward

    write_program(app, forward_of, weights, (1, *shape), cuda)


def describe_embedding(
    checkpoint: Path,
    config: PretrainStep,
    contract: Contract,
    length: int,
    scans: int,
    proof: dict[str, Any],
) -> dict[str, Any]:
    """What model.json says."""
    volumes = config.data.volumes
    return promised(contract) | {
        "what": f"embedding of {length} values of any one volume by {checkpoint.name}",
        "task": contract.name,
        "kind": "embedding",
        "sequences": ["any"],
        "spacing_mm": volumes.spacing_mm,
        "shape": list(volumes.shape),
        "length": length,
        "deviation": DEVIATION,
        "scaled_on_scans": scans,
        "probe": proof,
        "checkpoint": checkpoint.name,
        "pretraining_seed": config.seed,
        "provenance": provenance(f"{len(jax.devices())} x {jax.devices()[0].device_kind}"),
    }
