"""Figures and one self-contained HTML page, from tables alone.

- `write_report(ReportInput(...), folder)`: folder/report.html, everything on one page, which opens
  without a network
- `terminal_summary(ReportInput(...), path)`: the verdicts in words
- `report_from_table(data, name, y)`: everything of it from anybody's table
- `look_beyond(results, protocol, domain)`: what `ReportInput.outlooks` wants
- `fit_curves(results, protocol, domain)`: what `ReportInput.curves` wants
- `performance`, `improvement`, `forest`, `pretraining_loss`: the figures, for notebooks;
  `views(results, task)` lists what they can show
- `scaling.report.tuning`: what makes sizes and durations comparable

How it works: `views` aggregates the tidy table to one row per run; `figures`, `gains`, `forests`
and `losses` draw; `words` and `cards` say it; `sections` and `page` fill `page.html.j2`.
"""

from scaling.report.curves import fit_curves, look_beyond
from scaling.report.figures import performance
from scaling.report.forests import forest
from scaling.report.from_table import report_from_table
from scaling.report.gains import improvement
from scaling.report.inputs import ReportInput
from scaling.report.losses import pretraining_loss
from scaling.report.page import write_report
from scaling.report.views import View, views
from scaling.report.words import terminal_summary

__all__ = [
    "ReportInput",
    "View",
    "fit_curves",
    "forest",
    "improvement",
    "look_beyond",
    "performance",
    "pretraining_loss",
    "report_from_table",
    "terminal_summary",
    "views",
    "write_report",
]
