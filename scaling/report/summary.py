"""The last lines a study prints."""

from pathlib import Path

from scaling.report.inputs import ReportInput
from scaling.report.style import DECISIONS


def terminal_summary(study: ReportInput, path: Path) -> str:
    """The verdict of each task in words, what went wrong, and where the report is; plain text, one line each."""
    lines = [f"{study.name}: does a larger or longer-trained model help?"]
    for task in study.tasks:
        verdict = study.verdict(task)
        if verdict is not None:
            lines.append(f"  {DECISIONS.get(verdict.decision, ('·', ''))[0]} {verdict.sentence}")
        elif (study.results["task"] == task).any():
            lines.append(f"  – {task}: no verdict from these results.")
        else:
            lines.append(f"  – {task}: no finished results.")
    if not study.tasks:
        lines.append("  No task has results yet.")
    if study.problems:
        lines.append(f"  {len(study.problems)} problem{'s' * (len(study.problems) > 1)}, listed in the report.")
    lines.append(f"Report: {path}")
    return "\n".join(lines)
