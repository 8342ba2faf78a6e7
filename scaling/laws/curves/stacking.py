"""Weights of forms by how well each foretells the next levels from the earlier ones (rolling
origin), not by how well it fits."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scaling.laws.arrays import FloatArray
from scaling.laws.curves.forms import Form
from scaling.laws.curves.losses import Loss
from scaling.laws.curves.newton import fit_batch


@dataclass(frozen=True)
class Foretold:
    """What the earlier levels foretell of the later ones."""

    weights: FloatArray
    """[forms], summing to 1."""
    mean: FloatArray | None = None
    """[origins, n] log errors that the weighted forms foretell; None without origins."""
    later: FloatArray | None = None
    """[origins, n] 1 where a point lies beyond the origin."""


def rolling_origin(
    forms: Sequence[Form],
    t: FloatArray,
    z: FloatArray,
    loss: Loss,
    noise: float,
    prior: float = 1.0,
    origins: int = 6,
    power: float = 2.0,
) -> Foretold:
    """Fit every form to the levels before each origin and score it on those after.

    The levels of t [C, n] are ordered by their sum of logs. Weights fall as a power of the mean
    squared error; with fewer than three levels they are equal. Only the origins that every form
    can be fitted at count (a law with a floor is not to be judged by what it makes of three
    points); a form too rich for all of them is scored by the worst of the others."""
    budget = t.sum(0)
    levels = np.unique(budget)
    equal = Foretold(np.full(len(forms), 1 / len(forms)))
    if len(levels) < 3:
        return equal
    first = max(2, len(levels) // 3)
    cuts = np.unique(
        np.linspace(first, len(levels) - 1, min(origins, len(levels) - first)).round().astype(int)
    )
    before = np.array([(budget < levels[cut]).astype(float) for cut in cuts])  # [origins, n]
    predicted = np.full((len(forms), *before.shape), np.nan)
    for form, values in zip(forms, predicted, strict=True):
        enough = [k for k, weight in enumerate(before) if _can_carry(weight.sum(), form)]
        if enough:
            strength = prior * noise**2
            fits = fit_batch(form, t, z, before[enough], loss, strength=strength, starts=6)
            values[enough] = form.jet(fits.theta.T, t).value
    later = 1 - before
    errors = (later * (z - predicted) ** 2).sum(2) / later.sum(1)  # [forms, origins]
    scored = np.isfinite(errors).any(1)
    if not scored.any():
        return equal
    # The last origin at least: what can be fitted to a part can be to a larger one.
    common = np.isfinite(errors[scored]).all(0)
    score = np.full(len(forms), errors[scored][:, common].mean(1).max())
    score[scored] = errors[scored][:, common].mean(1)
    score += noise**2 / 2
    share = score**-power
    weights = share / share.sum()
    of_scored = weights[scored] / weights[scored].sum()
    mean = np.einsum("f,fon->on", of_scored, predicted[scored][:, common])
    return Foretold(weights, mean, later[common])


def _can_carry(points: float, form: Form) -> bool:
    """Whether so many points leave a form something to be judged by."""
    return points > form.size or (form.size <= 2 and points >= form.size)
