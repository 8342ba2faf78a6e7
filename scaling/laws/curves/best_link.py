"""Which link a curve is fitted on.

The link is a candidate as the forms are. On the odds of the error a score saturates towards both of
its bounds; on the error itself towards the better one only. Which foretells the later levels from
the earlier ones is chosen by rolling origin, not by the metric's name.
"""

from dataclasses import dataclass

import numpy as np

from scaling.laws.arrays import FloatArray
from scaling.laws.curves.forms import Form
from scaling.laws.curves.link import Link
from scaling.laws.curves.losses import Loss, least_squares
from scaling.laws.curves.losses import student_t as student_t_loss
from scaling.laws.curves.stacking import Foretold, rolling_origin

CLEARLY = 0.7
"""Another link must foretell with a mean squared error smaller by this factor to replace the
odds.
"""


@dataclass(frozen=True)
class OnLink:
    """The data on the scale of one link, and what rolling origin says of the forms there."""

    link: Link
    z: FloatArray
    noise: float
    loss: Loss
    foretold: Foretold
    error: float
    """Squared error of the averaged forms at later levels on the scale of the metric, as the
    geometric mean over origins."""


def on_best_link(
    links: list[Link],
    t: FloatArray,
    scores: FloatArray,
    candidates: list[Form],
    loss: Loss | None = None,
    prior: float = 1.0,
) -> OnLink:
    """The first link, or another one that foretells later levels clearly better."""
    tried = [on_link(link, t, scores, candidates, loss, prior) for link in links]
    chosen = tried[0]
    for other in tried[1:]:
        if other.error < CLEARLY * chosen.error:
            chosen = other
    return chosen


def on_link(
    link: Link,
    t: FloatArray,
    scores: FloatArray,
    candidates: list[Form],
    loss: Loss | None,
    prior: float,
) -> OnLink:
    """The scores on the scale of one link, and how well the forms foretell them there."""
    z = link.log_error(scores)
    noise = first_noise(t, z)
    if loss is None:
        loss = student_t_loss(noise) if len(z) >= 8 else least_squares
    foretold = rolling_origin(candidates, t, z, loss, noise, prior)
    error = np.inf
    if foretold.mean is not None and foretold.later is not None:
        misses = (link.metric(foretold.mean) - scores) ** 2  # [origins, n]
        of_origin = (foretold.later * misses).sum(1) / foretold.later.sum(1)
        # A mean of logarithms: the earliest origins miss by most and would decide alone.
        error = float(np.exp(np.log(of_origin + 1e-12).mean()))
    return OnLink(link, z, noise, loss, foretold, error)


def first_noise(t: FloatArray, z: FloatArray) -> float:
    """A first guess of a run's scatter: residuals around the levels where they repeat, else
    around a quadratic in log x.
    """
    _, level = np.unique(t, axis=1, return_inverse=True)
    level = level.ravel()
    counts = np.bincount(level)
    if (counts > 1).sum() >= 3:
        residual = z - (np.bincount(level, z) / counts)[level]
        degrees = len(z) - len(counts)
    else:
        squares = t**2 if len(counts) > 3 else t[:0]
        design = np.concatenate([np.ones((1, len(z))), t, squares]).T
        residual = z - design @ np.linalg.lstsq(design, z, rcond=None)[0]
        degrees = max(len(z) - design.shape[1], 1)
    return max(float(np.sqrt((residual**2).sum() / degrees)), 1e-4)
