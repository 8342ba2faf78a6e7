"""Scaling laws and verdicts from a table of results alone; nothing here knows of images.

- `fit(table, x, y, bounds=, lower_is_better=)` -> `Curve`: performance against size or duration, forms averaged, intervals, convergence.
- `verdict(cases, task=, metric=)` -> `Verdict`: does a larger budget help this task? One decision with an error bar.
- `compare(cases, arm_a, arm_b, metric=)` -> `Comparison`: paired contrast of two arms (pretrained against scratch).

Each result has `to_dict()` (plain, JSON-safe) and a sentence in words (`Curve.summary`, `Verdict.sentence`, `Comparison.sentence`).

How it works. Curves: `link` turns a metric into the logarithm of an error, `forms` (written with `jets`) are the laws, `engine` fits one
globally to all resamples at once (`objective`, `losses`), `stacking` weighs the forms, `diagnostics` says what the data determine.
Verdicts: `scores` turns a table into an array runs x draws x cases, `crossed` gives the variance of a contrast on it, `effects` the
contrasts and the rule, `verdict` the sentence, `simulate` studies of known truth to test it on.
"""

from scaling.laws.curve import Curve, FormFit, fit
from scaling.laws.effects import Decision, Effect
from scaling.laws.verdict import Comparison, Verdict, compare, verdict

__all__ = ["Comparison", "Curve", "Decision", "Effect", "FormFit", "Verdict", "compare", "fit", "verdict"]
