"""Weights of forms by how well each foretells the next levels from the earlier ones (rolling origin), not by how well
it fits."""

from collections.abc import Sequence

import numpy as np

from scaling.laws.engine import fit_batch
from scaling.laws.forms import Form
from scaling.laws.losses import Loss
from scaling.laws.scores import FloatArray


def rolling_origin_weights(
    forms: Sequence[Form], t: FloatArray, z: FloatArray, loss: Loss, noise: float, origins: int = 6, power: float = 2.0
) -> FloatArray:
    """Weights [forms], summing to 1. The levels of t are ordered by their sum of logs; from each origin on, every form
    is fitted to the earlier part and scored on the later. Weights fall as a power of the mean squared error; with fewer
    than three levels they are equal. A form too rich for an origin is scored there by the worst of the others, so that
    it must earn its place later on."""
    budget = t.sum(0)
    levels = np.unique(budget)
    if len(levels) < 3 or len(forms) == 1:
        return np.full(len(forms), 1 / len(forms))
    first = max(2, len(levels) // 3)
    cuts = np.unique(np.linspace(first, len(levels) - 1, min(origins, len(levels) - first)).round().astype(int))
    weights = np.array([(budget < levels[c]).astype(float) for c in cuts])
    errors = np.full((len(forms), len(cuts)), np.nan)
    for i, form in enumerate(forms):
        enough = [k for k, w in enumerate(weights) if w.sum() > form.size or (form.size <= 2 and w.sum() >= form.size)]
        if enough:
            fits = fit_batch(form, t, z, weights[enough], loss, strength=noise**2, starts=6)
            residual = z - form.jet(fits.theta.T, t).value
            later = 1 - weights[enough]
            errors[i, enough] = (later * residual**2).sum(1) / later.sum(1)
    worst = np.nanmax(errors, axis=0)
    errors = np.where(np.isnan(errors), worst, errors)
    score = errors.mean(1) + noise**2 / 2
    share = score**-power
    return share / share.sum()
