"""Figures and one self-contained HTML page, from tables alone.

write_report(ReportInput(...), folder) -> folder/report.html     everything on one page, which opens without network
terminal_summary(ReportInput(...), path) -> str                  the verdicts in words
report_from_table(data, name, y) -> ReportInput                  everything of it from anybody's table
look_beyond(results, protocol, domain) -> {(task, metric): Outlook}    what ReportInput.outlooks wants
fit_curves(results, protocol, domain) -> {(task, metric, axis): Curve}    what ReportInput.curves wants
performance, improvement, forest, pretraining_loss               the figures, for notebooks; views(results, task) lists what they can show
scaling.report.tuning: best_rates, rate_sweep, schedules        what makes sizes and durations comparable

How it works: `views` aggregates the tidy table to one row per run, `figures` and `overview` draw, `page` fills `page.html.j2`.
"""

from scaling.report.curves import fit_curves, look_beyond
from scaling.report.figures import improvement, performance
from scaling.report.from_table import report_from_table
from scaling.report.inputs import ReportInput
from scaling.report.overview import forest, pretraining_loss
from scaling.report.page import write_report
from scaling.report.summary import terminal_summary
from scaling.report.views import View, views

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
