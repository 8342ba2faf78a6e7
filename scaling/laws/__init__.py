"""Scaling laws and verdicts from a table of results alone; nothing here knows of images.

fit(table, x, y, bounds=, lower_is_better=) -> Curve        performance against size or duration: forms averaged,
intervals, convergence verdict(cases, task=, metric=, ...) -> Verdict              does a larger budget help this task?
one decision with an error bar compare(cases, arm_a, arm_b, metric=, ...) -> Comparison    paired contrast of two arms
(pretrained against scratch)

Each result has `to_dict()` (plain, JSON-safe) and a sentence in words (`Curve.summary`, `Verdict.sentence`,
`Comparison.sentence`). How it works: `scores` turns a table into an array runs x draws x cases, `crossed` gives the
variance of a contrast on it, `verdict` decides. `forms` (written with `jets`) are the laws, `engine` fits them globally
for all resamples at once under `losses`, `stacking` weighs them.
"""

from scaling.laws.curve import Curve, FormFit, fit
from scaling.laws.effects import Decision, Effect
from scaling.laws.verdict import Comparison, Verdict, compare, verdict

__all__ = ["Comparison", "Curve", "Decision", "Effect", "FormFit", "Verdict", "compare", "fit", "verdict"]
