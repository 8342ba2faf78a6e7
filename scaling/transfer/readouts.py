"""Linear readouts and nearest neighbours with scikit-learn, of whatever features."""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

TEMPERATURE = 0.07  # of neighbours' weights: Wu et al. 2018, DINO (Caron et al. 2021)
THRESHOLDS = np.linspace(0.05, 0.95, 19)


def ridge_scores(
    pairs: Iterable[Sequence[np.ndarray]],
    labels: Float[np.ndarray, "n *P"],
    penalties: tuple[float, ...],
) -> Float[np.ndarray, "m *P"]:
    """Ridge regression on that pair of training features [n, F] and test features [m, F], with that
    penalty, whose leave-one-out error on the training cases is lowest. With labels 0 and 1 the
    prediction is a score: a least-squares classifier, enough for a ranking metric.
    """
    return min(
        (fit_ridge(train, labels, test, penalties) for train, test in pairs),
        key=lambda found: found[0],
    )[1]


def fit_ridge(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, penalties: tuple[float, ...]
) -> tuple[float, np.ndarray]:
    """The lowest mean squared leave-one-out error of all penalties on centred features, and what
    that one predicts.

    All features share one scale, on which a training case lies at a mean squared distance of 1 from
    the centre: a scale for each would blow up, at another site, what is nearly constant at this
    one.
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
    """P voxels of each of K positions from its F features, linearly, and the threshold with the
    best Dice on the training cases.
    """
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
    """Mean label of the nearest training cases by cosine from the training cases' centre, weighted
    by exp(cosine / 0.07) as in Wu et al. 2018 and DINO (Caron et al. 2021).
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
    """P voxels of each position from the nearest positions of training cases (in-context retrieval,
    Balazevic et al. 2023), and the threshold with the best Dice when every training case is
    predicted from the others.
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
