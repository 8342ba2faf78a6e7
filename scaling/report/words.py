"""The answer of a study in words that need no statistics."""

from pathlib import Path

from scaling.laws import Verdict
from scaling.report.inputs import ReportInput
from scaling.report.style import DECISIONS

CLAIMS = {
    "improves": "improves {}",
    "improves, slightly": "improves {} slightly",
    "no worthwhile improvement": "brings no worthwhile improvement of {}",
    "harms": "harms {}",
    "undetermined": "leaves {} undetermined",
}
# What a better score means to a reader of scans.
ABILITY = {
    "auroc": "telling patients with the finding from those without",
    "macro_auroc": "telling the groups of patients apart",
    "f1": "assigning patients to the right group",
    "dice": "outlining what is marked",
    "nsd": "outlining the border of what is marked",
    "mae": "estimating the value",
    "pearson": "ordering people by the value",
}


def ability(metric: str, task: str) -> str:
    """What a model does better when this metric is better."""
    if metric == "mae" and "age" in task.lower():
        return "estimating age"
    return ABILITY.get(metric, f"the task, by {metric}")


def lever(verdict: Verdict) -> str:
    """What was varied: size, duration, or both."""
    if verdict.sizes > 1 and verdict.durations > 1:
        return "a larger model, pretrained for longer,"
    if verdict.sizes > 1:
        return "a larger model"
    return "a model pretrained for longer"


def sentence_of(verdict: Verdict) -> str:
    """The decision of a task as a clinician would say it."""
    what, doing = lever(verdict), ability(verdict.metric, verdict.task)
    start = what[:1].upper() + what[1:]
    bare = what.rstrip(",")
    sentences = {
        "improves": f"{start} is clearly better at {doing}.",
        "improves, slightly": f"{start} is better at {doing}, but perhaps by less than matters.",
        "no worthwhile improvement": f"{start} is no better at {doing} by an amount that matters.",
        "harms": f"{start} is worse at {doing}.",
        "undetermined": f"It is open whether {bare} is better at {doing}.",
    }
    return sentences.get(verdict.decision, verdict.sentence)


def answer(study: ReportInput) -> str:
    """Does a larger or longer-trained model help? One sentence over all tasks with a verdict.

    Tasks that lack planned runs have no verdict yet.
    """
    decided: dict[str, list[str]] = {}
    complete = [verdict for verdict in study.verdicts if not study.missing_runs(verdict.task)]
    for verdict in complete:
        decided.setdefault(verdict.decision, []).append(verdict.task)
    claims = []
    for decision, claim in CLAIMS.items():
        if decision in decided:
            claims.append(claim.format(listed(decided[decision])))
    if not claims and study.verdicts:
        return "No task has a verdict yet: planned runs are still missing."
    if not claims:
        return (
            "No task has a verdict yet: it takes finished results at two sizes or durations at "
            "least."
        )
    judged = [verdict.task for verdict in complete]
    open_tasks = [task for task in study.tasks if task not in judged]
    rest = f" There is no verdict for {listed(open_tasks)} yet." if open_tasks else ""
    levers = {lever(verdict) for verdict in complete}
    what = levers.pop() if len(levers) == 1 else "a larger model, or one pretrained for longer,"
    return f"{what[:1].upper()}{what[1:]} {'; it '.join(claims)}.{rest}"


def terminal_summary(study: ReportInput, path: Path) -> str:
    """The verdict of each task, what went wrong, and where the report is; one line each."""
    lines = [f"{study.name}: does a larger or longer-trained model help?"]
    if study.interim:
        lines.append(f"  {interim_text(study)}")
    for task in study.tasks:
        verdict = study.verdict(task)
        if verdict is not None and study.missing_runs(task):
            lines.append(f"  … {task}: interim, from {runs_text(study, task)}; no verdict yet.")
        elif verdict is not None:
            lines.append(f"  {DECISIONS.get(verdict.decision, ('·', ''))[0]} {verdict.sentence}")
        elif (study.results["task"] == task).any():
            lines.append(f"  – {task}: no verdict from these results.")
        else:
            lines.append(f"  – {task}: no finished results.")
    if not study.tasks:
        lines.append("  No task has results yet.")
    lines += [f"  {sentence}" for sentence in study.standing]
    if study.problems:
        plural = "s" if len(study.problems) > 1 else ""
        lines.append(f"  {len(study.problems)} problem{plural}, listed in the report.")
    lines.append(f"Report: {path}")
    return "\n".join(lines)


def interim_text(study: ReportInput) -> str:
    """ "Interim: 32 of 60 steps are done"."""
    done, planned = study.progress
    return f"Interim: {done} of {planned} steps are done."


def runs_text(study: ReportInput, task: str) -> str:
    """ "3 of 9 runs"."""
    finished, planned = study.runs[task]
    return f"{finished} of {planned} runs"


def listed(words: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"
