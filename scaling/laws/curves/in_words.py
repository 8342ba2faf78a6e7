"""A fitted curve in words."""

from dataclasses import replace

import numpy as np

from scaling.laws.curves.curve import Curve


def with_summary(curve: Curve) -> Curve:
    """The curve with a sentence on what it says."""
    first, last = np.array([curve.x_low]), np.array([curve.x_high])
    mean, low, high = curve.predict(np.concatenate([first, last]))
    best = max(curve.forms, key=lambda f: f.weight)
    word = "worse"
    # The interval at the largest budget decides: does it hold the mean at the smallest?
    if low[1] <= mean[0] <= high[1]:
        word = "no clear change"
    elif (mean[1] < mean[0]) == curve.link.lower_is_better:
        word = "better"
    change = (
        f"From {' and '.join(curve.x_names)} {_join(curve.x_low)} to {_join(curve.x_high)}, "
        f"{curve.y_name} goes from {mean[0]:.4g} to {mean[1]:.4g} (90% interval there "
        f"{low[1]:.4g} to {high[1]:.4g}): {word}."
    )
    forms = ", ".join(
        f"{form.name} {form.weight:.0%}"
        for form in sorted(curve.forms, key=lambda f: -f.weight)
        if form.weight >= 0.05
    )
    parts = [change, f"Forms: {forms}, from {curve.rows} runs at {curve.levels} levels."]
    if best.not_identified:
        parts.append(
            f"Not identified by these data: {', '.join(best.not_identified)} of the form "
            f"{best.name}."
        )
    elif curve.levels < 4:
        parts.append("Too few levels to identify a floor: nothing is claimed beyond the largest.")
    return replace(curve, summary=" ".join(parts))


def _join(values: tuple[float, ...]) -> str:
    return " and ".join(f"{v:.3g}" for v in values)
