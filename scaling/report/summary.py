"""The answer of a study in words."""

from pathlib import Path

from scaling.report.inputs import ReportInput
from scaling.report.style import DECISIONS

CLAIMS = {
    "improves": "improves {}",
    "improves, slightly": "improves {} slightly",
    "no worthwhile improvement": "brings no worthwhile improvement of {}",
    "harms": "harms {}",
    "undetermined": "leaves {} undetermined",
}


def answer(study: ReportInput) -> str:
    """Does a larger or longer-trained model help? One sentence over all tasks that have a verdict."""
    decided: dict[str, list[str]] = {}
    for verdict in study.verdicts:
        decided.setdefault(verdict.decision, []).append(verdict.task)
    claims = [
        claim.format(_listed(decided[decision]))
        for decision, claim in CLAIMS.items()
        if decision in decided
    ]
    if not claims:
        return "No task has a verdict yet: it takes finished results at two sizes or durations at least."
    open_tasks = [task for task in study.tasks if study.verdict(task) is None]
    rest = f" There is no verdict for {_listed(open_tasks)}." if open_tasks else ""
    return f"A larger model, pretrained for longer, {'; it '.join(claims)}.{rest}"


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
        lines.append(
            f"  {len(study.problems)} problem{'s' * (len(study.problems) > 1)}, listed in the report."
        )
    lines.append(f"Report: {path}")
    return "\n".join(lines)


def _listed(words: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
