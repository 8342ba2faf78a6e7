"""Readouts of frozen features with scikit-learn: what a linear model, and the nearest neighbours, find in what the encoder already has."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from scaling.data.tasks import Cases, TaskArrays, few_shot_draws
from scaling.models.backbone import build_encoder
from scaling.models.patches import grid_pool, patchify, unpatchify
from scaling.objectives.interface import Parameters
from scaling.study.config import Probe, Shape3, Task
from scaling.study.ladder import Encoder
from scaling.transfer.finetune import in_chunks
from scaling.transfer.predictions import Predicted

TEMPERATURE = 0.07
THRESHOLDS = np.linspace(0.05, 0.95, 19)


def probe(
    encoder: Encoder, parameters: Parameters, arrays: TaskArrays, task: Task, recipe: Probe
) -> Iterator[Predicted]:
    """Read every draw's labels out of the frozen encoder, and predict the test cases: linearly ("probe") and from "neighbours"."""
    train, test = (
        encode_cases(encoder, parameters, cases) for cases in (arrays.train, arrays.test)
    )
    shape: Shape3 = arrays.test.images.shape[2:]
    for shots in task.shots:
        for draw, chosen in enumerate(few_shot_draws(task, arrays.train, shots)):
            labels, near = arrays.train.labels[chosen], min(recipe.neighbours, shots)
            known, asked = absent_as_average(train[chosen], test)
            if task.kind == "segmentation":
                masks = np.asarray(patchify(jnp.asarray(labels, jnp.float32), encoder.stride))
                found = {"probe": ridge_masks(known, masks, asked, recipe.mask_penalty)}
                if near:
                    found["neighbours"] = neighbour_masks(known, masks, asked, near)
                outputs = {
                    name: np.asarray(unpatchify(jnp.asarray(scores), shape, encoder.stride))
                    > threshold
                    for name, (scores, threshold) in found.items()
                }
            else:
                pools = pooled(known, asked, shape, encoder.stride, recipe)
                outputs = {"probe": ridge_scores(pools, labels, recipe.penalties)}
                if near:
                    outputs["neighbours"] = neighbour_scores(pools[0][0], labels, pools[0][1], near)
            for name, output in outputs.items():
                yield Predicted(name, shots, draw, 0.0, output)


@lru_cache
def embedder(encoder: Encoder, shape: Shape3) -> Callable[[Parameters, np.ndarray], Array]:
    """Compiled: parameters and images [B, S, D, H, W] to token features [B, S, N, E]."""
    encode = build_encoder(encoder).encode

    def embed(parameters: Parameters, images: Array) -> Array:
        B, S = images.shape[:2]
        tokens = encode(parameters, images.reshape(B * S, *shape).astype(jnp.float32))
        return tokens.reshape(B, S, *tokens.shape[1:])

    return jax.jit(embed)


def encode_cases(
    encoder: Encoder, parameters: Parameters, cases: Cases
) -> Float[np.ndarray, "n N F"]:
    """Token features of all cases, a chunk at a time, their sequences side by side: F = S*E, not a number where one is absent."""
    embed, n = embedder(encoder, cases.images.shape[2:]), len(cases.ids)
    tokens = np.concatenate(
        [np.asarray(embed(parameters, cases.images[rows])) for rows in in_chunks(n)]
    )[:n]
    tokens[~cases.present] = np.nan
    return np.moveaxis(tokens, 1, 2).reshape(n, tokens.shape[2], -1)


def absent_as_average(
    train: Float[np.ndarray, "n N F"], test: Float[np.ndarray, "m N F"]
) -> tuple[np.ndarray, np.ndarray]:
    """Absent sequences take the training cases' average, which says nothing of a case."""
    there = ~np.isnan(train)
    average = (np.where(there, train, 0).sum((0, 1)) / np.maximum(1, there.sum((0, 1)))).astype(
        train.dtype
    )
    return np.where(there, train, average), np.where(np.isnan(test), average, test)


def pooled(
    train: np.ndarray, test: np.ndarray, shape: Shape3, stride: int, recipe: Probe
) -> list[list[np.ndarray]]:
    """One vector a case from its tokens [n, N, F], in three ways: means, means of whitened tokens, and their extremes; each a pair of
    training and test cases.
    """
    white = whiten(train, test, recipe.shrinkage)
    means = [
        [cell_means(tokens, shape, stride, recipe.grid) for tokens in pair]
        for pair in ((train, test), white)
    ]
    return [*means, [extremes(tokens) for tokens in white]]


def whiten(
    train: Float[np.ndarray, "n N F"], test: Float[np.ndarray, "m N F"], shrinkage: float
) -> tuple[Float[np.ndarray, "n N F"], Float[np.ndarray, "m N F"]]:
    """Uncorrelated features of equal variance: principal components of the training cases' tokens, each divided by its deviation.

    An encoder writes large what tells its tokens apart, such as where they are, and small what tells one brain from another; a linear
    readout with one penalty sees what is large. Variances are raised by `shrinkage` of their mean, so that what is nearly constant at
    one site does not blow up at another.
    """
    pca = PCA(svd_solver="covariance_eigh").fit(train.reshape(-1, train.shape[-1]))
    components = (
        pca.components_
        / np.sqrt(pca.explained_variance_ + shrinkage * pca.explained_variance_.mean())[:, None]
    )
    return (train - pca.mean_) @ components.T, (test - pca.mean_) @ components.T


def cell_means(
    tokens: Float[Array | np.ndarray, "n N F"], shape: Shape3, stride: int, grid: int
) -> Float[np.ndarray, "n GF"]:
    """Mean over the places of each of `grid` cells per axis: what is everywhere a little, such as ageing."""
    return np.asarray(grid_pool(jnp.asarray(tokens), shape, stride, grid)).reshape(len(tokens), -1)


def extremes(tokens: Float[np.ndarray, "n N F"]) -> Float[np.ndarray, "n 2F"]:
    """Largest and smallest value of all places: what is in one place and strange there, such as a lesion."""
    return np.concatenate([tokens.max(1), tokens.min(1)], axis=-1)


def ridge_scores(
    pairs: Iterable[Sequence[np.ndarray]],
    labels: Float[np.ndarray, "n"],
    penalties: tuple[float, ...],
) -> Float[np.ndarray, "m"]:
    """Ridge regression on that pair of training features [n, F] and test features [m, F], with that penalty, whose leave-one-out error on
    the training cases is lowest. With labels 0 and 1 the prediction is a score: a least-squares classifier, enough for a ranking metric.
    """
    return min(
        (fit_ridge(train, labels, test, penalties) for train, test in pairs),
        key=lambda found: found[0],
    )[1]


def fit_ridge(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, penalties: tuple[float, ...]
) -> tuple[float, np.ndarray]:
    """The lowest mean squared leave-one-out error of all penalties on centred features, and what that one predicts.

    All features share one scale, on which a training case lies at a mean squared distance of 1 from the centre: a scale for each
    would blow up, at another site, what is nearly constant at this one.
    """
    centre = train.mean(0)
    scale = np.sqrt(np.square(train - centre).sum(1).mean())
    model = RidgeCV(alphas=penalties).fit((train - centre) / scale, labels)
    return -model.best_score_, model.predict((test - centre) / scale)


def ridge_masks(
    train: Float[np.ndarray, "n K F"],
    masks: Float[np.ndarray, "n K P"],
    test: Float[np.ndarray, "m K F"],
    penalty: float,
) -> tuple[Float[np.ndarray, "m K P"], float]:
    """P voxels of each of K positions from its F features, linearly, and the threshold with the best Dice on the training cases."""
    model = make_pipeline(StandardScaler(), Ridge(alpha=penalty))
    model.fit(train.reshape(-1, train.shape[-1]), masks.reshape(-1, masks.shape[-1]))

    def predict(features: np.ndarray) -> np.ndarray:
        return model.predict(features.reshape(-1, features.shape[-1])).reshape(
            *features.shape[:-1], masks.shape[-1]
        )

    return predict(test), best_threshold(predict(train), masks)


def best_threshold(scores: np.ndarray, masks: np.ndarray) -> float:
    """The threshold of scores with the best Dice against masks, all voxels together."""
    dice = [
        2 * np.sum((scores > t) & (masks > 0)) / max(1, np.sum(scores > t) + np.sum(masks > 0))
        for t in THRESHOLDS
    ]
    return float(THRESHOLDS[int(np.argmax(dice))])


def neighbour_scores(
    train: Float[np.ndarray, "n F"],
    labels: Float[np.ndarray, "n *P"],
    test: Float[np.ndarray, "m F"],
    neighbours: int,
) -> Float[np.ndarray, "m *P"]:
    """Mean label of the nearest training cases by cosine from the training cases' centre, weighted by exp(cosine / 0.07) as in
    Wu et al. 2018 and DINO (Caron et al. 2021).
    """
    centre = train.mean(0)
    weighted = KNeighborsRegressor(
        neighbours,
        metric="cosine",
        algorithm="brute",
        weights=lambda distance: np.exp((1 - distance) / TEMPERATURE),
    )
    return weighted.fit(train - centre, labels).predict(test - centre)


def neighbour_masks(
    train: Float[np.ndarray, "n K F"],
    masks: Float[np.ndarray, "n K P"],
    test: Float[np.ndarray, "m K F"],
    neighbours: int,
) -> tuple[Float[np.ndarray, "m K P"], float]:
    """P voxels of each position from the nearest positions of training cases (in-context retrieval, Balazevic et al. 2023), and the
    threshold with the best Dice when every training case is predicted from the others.
    """

    def predict(known: np.ndarray, of: np.ndarray, asked: np.ndarray) -> np.ndarray:
        flat, values = known.reshape(-1, known.shape[-1]), of.reshape(-1, of.shape[-1])
        return neighbour_scores(
            flat, values, asked.reshape(-1, asked.shape[-1]), neighbours
        ).reshape(*asked.shape[:-1], of.shape[-1])

    left_out = [
        predict(np.delete(train, i, 0), np.delete(masks, i, 0), train[i]) for i in range(len(train))
    ]
    return predict(train, masks, test), best_threshold(np.stack(left_out), masks)
