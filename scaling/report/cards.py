"""The card of a task: the answer, what was tried, the effect, what to do next."""

import math
from dataclasses import dataclass

import pandas as pd

from scaling.laws import Effect, Verdict
from scaling.report.inputs import ReportInput
from scaling.report.style import DECISIONS, change, heading, metric_of, score, si, unit_of
from scaling.report.words import runs_text, sentence_of


@dataclass(frozen=True)
class Card:
    """What the head of the page says of a task; empty texts are left out."""

    name: str
    slug: str
    decision: str
    symbol: str
    tone: str
    answer: str
    tried: str = ""
    effect: str = ""
    advice: str = ""
    rows: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


def card(study: ReportInput, name: str, slug: str) -> Card:
    """The card of a task, with or without a verdict."""
    verdict = study.verdict(name)
    has_results = bool((study.results["task"] == name).any())
    if verdict is None:
        text = "There are no finished results."
        if has_results:
            text = "These results allow no verdict."
        symbol, tone = DECISIONS["no verdict"]
        return Card(name, slug, "no verdict", symbol, tone, text, tried=tried(study, name))
    if study.missing_runs(name):
        return interim_card(study, verdict, slug)
    symbol, tone = DECISIONS.get(verdict.decision, ("·", "none"))
    return Card(
        name,
        slug,
        verdict.decision,
        symbol,
        tone,
        sentence_of(verdict),
        tried=tried(study, name),
        effect=effect_in_units(verdict),
        advice=advice(verdict),
        rows=statistics(verdict),
        notes=(verdict.sentence, *verdict.notes),
    )


def interim_card(study: ReportInput, verdict: Verdict, slug: str) -> Card:
    """The card of a task that lacks planned runs: no verdict, and the leaning marked as interim."""
    return Card(
        verdict.task,
        slug,
        "interim",
        "…",
        "none",
        f"No verdict yet: {runs_text(study, verdict.task)} have finished.",
        tried=tried(study, verdict.task),
        effect=f"So far, to be judged when all runs are in: {effect_in_units(verdict)}",
        advice="Finish the study: the same `scaling run` command goes on where it stopped.",
        rows=statistics(verdict),
        notes=verdict.notes,
    )


def tried(study: ReportInput, task: str) -> str:
    """The range of compute, parameters and samples that the pretrained runs of a task span."""
    of_task = (study.results["task"] == task) & (study.results["arm"] == "pretrained")
    runs = study.results[of_task].drop_duplicates("run")
    if runs.empty:
        return ""
    smallest, largest = corner(runs, "min"), corner(runs, "max")
    models = "1 model" if len(runs) == 1 else f"{len(runs)} models"
    if smallest == largest:
        return f"{models} of {budget_text(*largest)}"
    ratio = largest[0] * largest[1] / max(smallest[0] * smallest[1], 1e-9)
    compute = runs["flops"].astype(float)
    if (compute > 0).all():
        ratio = compute.max() / compute.min()
    compute_text = f"{ratio:.3g} times the compute"
    if smallest[0] == largest[0]:
        samples = f"from {si(smallest[1])} to {si(largest[1])} samples"
        return f"{compute_text}: {samples} at {si(largest[0])} parameters; {models}"
    if smallest[1] == largest[1]:
        sizes = f"from {si(smallest[0])} to {si(largest[0])} parameters"
        return f"{compute_text}: {sizes} at {si(largest[1])} samples; {models}"
    ends = f"from {budget_text(*smallest)} to {budget_text(*largest)}"
    return f"{compute_text}: {ends}; {models}"


def corner(runs: pd.DataFrame, end: str) -> tuple[float, float]:
    """The smallest or the largest parameters and samples."""
    return float(runs["params"].agg(end)), float(runs["duration"].agg(end))


def budget_text(params: float, duration: float) -> str:
    """ "0.13 M parameters and 2.4 k samples"."""
    return f"{si(params)} parameters and {si(duration)} samples"


def effect_in_units(verdict: Verdict) -> str:
    """The budget's effect and its interval in the metric's own unit, and where it starts."""
    effect, unit = verdict.effects[0], unit_of(verdict.metric, verdict.task)
    scale = abs(verdict.baseline) if verdict.relative else 1.0
    sign = -1.0 if verdict.lower_is_better else 1.0
    end = verdict.baseline + sign * scale * effect.estimate
    suffix = f" {unit}" if unit else ""
    start_text, end_text = score(verdict.baseline, verdict.metric), score(end, verdict.metric)
    text = f"{heading(verdict.metric)} from {start_text} to {end_text}{suffix}: "
    text += f"{signed(sign * scale * effect.estimate, verdict)}{suffix}"
    bounds = interval_in_units(effect, sign * scale)
    if bounds is None:
        return f"{text}, no interval: nothing tells how much runs differ by chance."
    low, high = bounds
    text += f", {verdict.confidence:.0%} interval {signed(low, verdict)} to {signed(high, verdict)}"
    worth = score(verdict.smallest_effect * scale, verdict.metric)
    return f"{text}. A change below {worth}{suffix} was declared not worth having."


def interval_in_units(effect: Effect, scale: float) -> tuple[float, float] | None:
    """The interval of an effect times `scale`, its lower end first."""
    if effect.low is None or effect.high is None:
        return None
    ends = sorted((effect.low * scale, effect.high * scale))
    return ends[0], ends[1]


def signed(x: float, verdict: Verdict) -> str:
    """A change of a score with its sign."""
    decimals = 3 if metric_of(verdict.metric).bounds else 2
    return change(x, relative=False, decimals=decimals) if math.isfinite(x) else "–"


def advice(verdict: Verdict) -> str:
    """What to do next, from the decision and what the design engine says would settle it."""
    budget = verdict.effects[0]
    match verdict.decision:
        case "improves":
            return f"Go on {direction_of_gain(verdict)}: nothing shows that the gain has ended."
        case "improves, slightly":
            return f"{needed(budget)} to know whether the gain is worth its cost."
        case "no worthwhile improvement":
            return (
                "Stop scaling for this task: at this range, more compute is not where a gain is. "
                "More labels, other data or another objective may be."
            )
        case "harms":
            return "Stop, and look for the cause: check the training curves and the readout."
        case "undetermined":
            return f"{needed(budget)} to settle it."
        case _:
            return ""


def needed(effect: Effect) -> str:
    """The seeds or test cases that would narrow an interval enough."""
    if effect.low is None:
        return "Repeat every run with two more seeds at least"
    ways = []
    if effect.seeds_needed:
        ways.append(f"about {effect.seeds_needed} seeds per cell")
    if effect.cases_needed:
        ways.append(f"about {effect.cases_needed:,} test cases")
    if ways:
        return f"Run {' or '.join(ways)}"
    return "Widen the range (a larger model or a longer run) rather than repeat this one"


def direction_of_gain(verdict: Verdict) -> str:
    """Which axis carried the gain."""
    parts = {effect.name: effect.estimate for effect in verdict.effects[1:]}
    if len(parts) < 2:
        return "with a larger model" if verdict.sizes > 1 else "with a longer run"
    if parts["duration"] > 2 * parts["size"]:
        return "with a longer run rather than a larger model"
    if parts["size"] > 2 * parts["duration"]:
        return "with a larger model rather than a longer run"
    return "with both a larger model and a longer run"


def statistics(verdict: Verdict) -> tuple[tuple[str, str], ...]:
    """Names and numbers for a statistician."""
    budget, relative = verdict.effects[0], verdict.relative
    smallest = f"{heading(verdict.metric)} {change(verdict.smallest_effect, relative)}"
    interval = "none: nothing tells how much runs differ by chance"
    if budget.low is not None:
        interval = f"{change(budget.low, relative)} to {change(budget.high, relative)}"
    counts = ((verdict.runs, "runs"), (verdict.draws, "draws"), (verdict.cases, "test cases"))
    basis = ", ".join(f"{count} {what}" for count, what in counts if count > 1)
    rows = [
        ("Smallest effect of interest", smallest),
        ("Effect", f"{change(budget.estimate, relative)} (positive is better)"),
        (f"{verdict.confidence:.0%} interval", interval),
        ("Judged from", basis),
    ]
    if verdict.trend_p is not None:
        text = f"p = {verdict.trend_p:.2g}"
        if verdict.trend_p_holm is not None:
            text += f", {verdict.trend_p_holm:.2g} over all tasks (Holm)"
        rows.append(("Trend test (MCP-Mod)", f"{text}; best shape: {verdict.trend_shape}"))
    return tuple(rows)
