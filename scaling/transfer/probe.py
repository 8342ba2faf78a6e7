"""Readouts of frozen features with scikit-learn: what a linear model, and the nearest neighbours, find in what the encoder already has."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from scaling.data.tasks import Cases, TaskArrays, few_shot_draws
from scaling.models.backbone import build_encoder
from scaling.models.heads import side_by_side
from scaling.models.patches import grid_pool, patchify, unpatchify
from scaling.objectives.objective import Parameters
from scaling.study.config import Probe, Shape3, Task
from scaling.study.ladder import Encoder
from scaling.transfer.finetune import in_chunks
from scaling.transfer.predictions import Predicted

TEMPERATURE = 0.07
THRESHOLDS = np.linspace(0.05, 0.95, 19)


@dataclass(frozen=True)
class Features:
    """Frozen features of n cases: `pooled` float32 [n, F] for one output a case, `tokens` float32 [n, N, F] for one a voxel."""

    pooled: np.ndarray
    tokens: np.ndarray


def probe(encoder: Encoder, parameters: Parameters, arrays: TaskArrays, task: Task, recipe: Probe) -> Iterator[Predicted]:
    """Read every draw's labels out of the frozen encoder, and predict the test cases: linearly ("probe") and from "neighbours"."""
    train, test = (extract_features(encoder, parameters, cases, recipe.grid) for cases in (arrays.train, arrays.test))
    shape: Shape3 = arrays.test.images.shape[2:]
    for shots in task.shots:
        for draw, chosen in enumerate(few_shot_draws(task, arrays.train, shots)):
            labels, near = arrays.train.labels[chosen], min(recipe.neighbours, shots)
            if task.kind == "segmentation":
                masks = np.asarray(patchify(jnp.asarray(labels, jnp.float32), encoder.stride))
                found = {"probe": ridge_masks(train.tokens[chosen], masks, test.tokens, recipe.mask_penalty)}
                if near:
                    found["neighbours"] = neighbour_masks(train.tokens[chosen], masks, test.tokens, near)
                outputs = {
                    name: np.asarray(unpatchify(jnp.asarray(scores), shape, encoder.stride)) > threshold
                    for name, (scores, threshold) in found.items()
                }
            else:
                outputs = {"probe": ridge_scores(train.pooled[chosen], labels, test.pooled, recipe.penalties)}
                if near:
                    outputs["neighbours"] = neighbour_scores(train.pooled[chosen], labels, test.pooled, near)
            for name, output in outputs.items():
                yield Predicted(name, shots, draw, 0.0, output)


@lru_cache
def embedder(encoder: Encoder, shape: Shape3, grid: int) -> Callable[[Parameters, np.ndarray, np.ndarray], tuple[Array, Array]]:
    """Compiled: parameters, images [B, S, D, H, W] and which are present [B, S] to pooled [B, F] and token features [B, N, F]."""
    encode = build_encoder(encoder).encode

    def embed(parameters: Parameters, images: Array, present: Array) -> tuple[Array, Array]:
        B, S = images.shape[:2]
        tokens = encode(parameters, images.reshape(B * S, *shape).astype(jnp.float32))
        pooled = grid_pool(tokens, shape, encoder.stride, grid).reshape(B, S, -1)
        return side_by_side(pooled, present), side_by_side(tokens.reshape(B, S, *tokens.shape[1:]), present)

    return jax.jit(embed)


def extract_features(encoder: Encoder, parameters: Parameters, cases: Cases, grid: int) -> Features:
    """Features of all cases, a chunk at a time."""
    embed = embedder(encoder, cases.images.shape[2:], grid)
    n = len(cases.ids)
    chunks = []
    for rows in in_chunks(n):
        chunks.append([np.asarray(part) for part in embed(parameters, cases.images[rows], cases.present[rows])])
    pooled, tokens = (np.concatenate(parts)[:n] for parts in zip(*chunks, strict=True))
    return Features(pooled, tokens)


def ridge_scores(
    train: Float[np.ndarray, "n F"], labels: Float[np.ndarray, "n"], test: Float[np.ndarray, "m F"], penalties: tuple[float, ...]
) -> Float[np.ndarray, "m"]:
    """Ridge regression on centred features, the penalty chosen by leave-one-out on the training cases.

    All features share one scale, on which a training case lies at a mean squared distance of 1 from the centre: a scale for each
    would blow up, at another site, what is nearly constant at this one. With labels 0 and 1 the prediction is a score: a
    least-squares classifier, enough for a ranking metric.
    """
    centre = train.mean(0)
    scale = np.sqrt(np.square(train - centre).sum(1).mean())
    return RidgeCV(alphas=penalties).fit((train - centre) / scale, labels).predict((test - centre) / scale)


def ridge_masks(
    train: Float[np.ndarray, "n K F"], masks: Float[np.ndarray, "n K P"], test: Float[np.ndarray, "m K F"], penalty: float
) -> tuple[Float[np.ndarray, "m K P"], float]:
    """P voxels of each of K positions from its F features, linearly, and the threshold with the best Dice on the training cases."""
    model = make_pipeline(StandardScaler(), Ridge(alpha=penalty))
    model.fit(train.reshape(-1, train.shape[-1]), masks.reshape(-1, masks.shape[-1]))

    def predict(features: np.ndarray) -> np.ndarray:
        return model.predict(features.reshape(-1, features.shape[-1])).reshape(*features.shape[:-1], masks.shape[-1])

    return predict(test), best_threshold(predict(train), masks)


def best_threshold(scores: np.ndarray, masks: np.ndarray) -> float:
    """The threshold of scores with the best Dice against masks, all voxels together."""
    dice = [2 * np.sum((scores > t) & (masks > 0)) / max(1, np.sum(scores > t) + np.sum(masks > 0)) for t in THRESHOLDS]
    return float(THRESHOLDS[int(np.argmax(dice))])


def neighbour_scores(
    train: Float[np.ndarray, "n F"], labels: Float[np.ndarray, "n *P"], test: Float[np.ndarray, "m F"], neighbours: int
) -> Float[np.ndarray, "m *P"]:
    """Mean label of the nearest training cases by cosine from the training cases' centre, weighted by exp(cosine / 0.07) as in
    Wu et al. 2018 and DINO (Caron et al. 2021).
    """
    centre = train.mean(0)
    weighted = KNeighborsRegressor(
        neighbours, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / TEMPERATURE)
    )
    return weighted.fit(train - centre, labels).predict(test - centre)


def neighbour_masks(
    train: Float[np.ndarray, "n K F"], masks: Float[np.ndarray, "n K P"], test: Float[np.ndarray, "m K F"], neighbours: int
) -> tuple[Float[np.ndarray, "m K P"], float]:
    """P voxels of each position from the nearest positions of training cases (in-context retrieval, Balazevic et al. 2023), and the
    threshold with the best Dice when every training case is predicted from the others.
    """

    def predict(known: np.ndarray, of: np.ndarray, asked: np.ndarray) -> np.ndarray:
        flat, values = known.reshape(-1, known.shape[-1]), of.reshape(-1, of.shape[-1])
        return neighbour_scores(flat, values, asked.reshape(-1, asked.shape[-1]), neighbours).reshape(*asked.shape[:-1], of.shape[-1])

    left_out = [predict(np.delete(train, i, 0), np.delete(masks, i, 0), train[i]) for i in range(len(train))]
    return predict(train, masks, test), best_threshold(np.stack(left_out), masks)
