"""Weights of forms by how well each foretells the next levels from the earlier ones (rolling
origin), not by how well it fits."""

from collections.abc import Sequence

import numpy as np

from scaling.laws.arrays import FloatArray
from scaling.laws.curves.forms import Form
from scaling.laws.curves.losses import Loss
from scaling.laws.curves.newton import fit_batch


def rolling_origin_weights(
    forms: Sequence[Form],
    t: FloatArray,
    z: FloatArray,
    loss: Loss,
    noise: float,
    prior: float = 1.0,
    origins: int = 6,
    power: float = 2.0,
) -> FloatArray:
    """Weights [forms], summing to 1. The levels of t are ordered by their sum of logs; from each
    origin on, every form is fitted to the earlier part and scored on the later. Weights fall as a
    power of the mean squared error; with fewer than three levels they are equal. Only the origins
    that every form can be fitted at count (a law with a floor is not to be judged by what it
    makes of three points); a form too rich for all of them is scored by the worst of the others."""
    budget = t.sum(0)
    levels = np.unique(budget)
    if len(levels) < 3 or len(forms) == 1:
        return np.full(len(forms), 1 / len(forms))
    first = max(2, len(levels) // 3)
    cuts = np.unique(
        np.linspace(first, len(levels) - 1, min(origins, len(levels) - first)).round().astype(int)
    )
    weights = np.array([(budget < levels[c]).astype(float) for c in cuts])
    errors = np.full((len(forms), len(cuts)), np.nan)
    for i, form in enumerate(forms):
        enough = [
            k
            for k, w in enumerate(weights)
            if w.sum() > form.size or (form.size <= 2 and w.sum() >= form.size)
        ]
        if enough:
            fits = fit_batch(form, t, z, weights[enough], loss, strength=prior * noise**2, starts=6)
            residual = z - form.jet(fits.theta.T, t).value
            later = 1 - weights[enough]
            errors[i, enough] = (later * residual**2).sum(1) / later.sum(1)
    scored = np.isfinite(errors).any(1)
    if not scored.any():
        return np.full(len(forms), 1 / len(forms))
    common = np.isfinite(errors[scored]).all(
        0
    )  # the last origin at least: what can be fitted to a part can be to a larger one
    score = np.full(len(forms), errors[scored][:, common].mean(1).max())
    score[scored] = errors[scored][:, common].mean(1)
    score += noise**2 / 2
    share = score**-power
    return share / share.sum()
