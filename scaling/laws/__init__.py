"""Scaling laws and verdicts from a table of results alone; nothing here knows of images.

- `fit(table, x, y, bounds=, lower_is_better=)` -> `Curve`: performance against size or duration,
  forms averaged, intervals, convergence.
- `verdict(cases, task=, metric=)` -> `Verdict`: does a larger budget help this task? One decision
  with an error bar.
- `compare(cases, arm_a, arm_b, metric=)` -> `Comparison`: paired contrast of two arms (pretrained
  against scratch).
- `extrapolate(table, x, y, train, by)` -> `Extrapolation`: learning curves fitted on their early
  part, the rest foretold.
- `outlook(runs, metric, bounds, lower_is_better)` -> `Outlook`: ten times the budget, where the
  `extrapolation_gate` opens, and the `frontier(curve, compute)`: the size and duration a compute
  is best spent on.
- `rank(table, model, metrics)`, `rank_cases(cases, metrics)` -> `Ranking`: places over several
  tasks, as FOMO25 gives them.
- `find(cases, smallest_effects)` -> `Findings`: the findings of FOMO25 on a study: pretraining
  against controls, objectives by task, ranks.
- `propose(...)` -> `Proposal`s: what a budget is best spent on; `self_test`: how the verdict
  behaves on studies like this one.

Each result has `to_dict()` (plain, JSON-safe); curves, verdicts, comparisons and gates also a
sentence in words.

How it works. Curves: `link` turns a metric into the logarithm of an error, `forms` (written with
`jets`) are the laws, `engine` fits one globally to all resamples at once (`objective`, `losses`),
`stacking` weighs the forms, `diagnostics` says what the data determine. Verdicts: `scores` turns
a table into an array runs x draws x cases, `crossed` gives the variance of a contrast on it,
`effects` the contrasts and the rule, `settling` what more would decide, `trend` a test of any
rise, `verdict` the sentence; `simulate` makes studies of known truth, `power` counts how often the
verdict on them is right. `tables` reads anybody's columns.
"""

from scaling.laws.curves.curve import Curve, FormFit
from scaling.laws.curves.extrapolation import Extrapolation, extrapolate
from scaling.laws.curves.fitting import fit
from scaling.laws.curves.frontier import Frontier, frontier, iso_compute
from scaling.laws.curves.gate import Gate, extrapolation_gate
from scaling.laws.curves.outlook import Outlook, outlook
from scaling.laws.verdicts.case_rankings import rank_cases
from scaling.laws.verdicts.comparison import Comparison, compare
from scaling.laws.verdicts.design import Proposal, propose
from scaling.laws.verdicts.effects import Decision, Effect
from scaling.laws.verdicts.findings import Findings, find
from scaling.laws.verdicts.rankings import Ranking, rank
from scaling.laws.verdicts.self_test import SelfTest, self_test
from scaling.laws.verdicts.verdict import Verdict, holm, verdict

__all__ = [
    "Comparison",
    "Curve",
    "Decision",
    "Effect",
    "Extrapolation",
    "Findings",
    "FormFit",
    "Frontier",
    "Gate",
    "Outlook",
    "Proposal",
    "Ranking",
    "SelfTest",
    "Verdict",
    "compare",
    "extrapolate",
    "extrapolation_gate",
    "find",
    "fit",
    "frontier",
    "holm",
    "iso_compute",
    "outlook",
    "propose",
    "rank",
    "rank_cases",
    "self_test",
    "verdict",
]
