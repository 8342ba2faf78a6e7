"""The parts of the page that hold figures: per task, across tasks, of pretraining."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from scaling.laws import Verdict
from scaling.laws.known_metrics import label_of
from scaling.report.beyond import equal_compute
from scaling.report.curves import agreement, fitted_views
from scaling.report.figures import COLUMNS, Axis, performance_of
from scaling.report.findings import CHOICES
from scaling.report.forests import against_controls
from scaling.report.gains import improvement_of
from scaling.report.groups import confusion_tables, fairness_table, group_tables
from scaling.report.inputs import ReportInput
from scaling.report.losses import loss_against_compute, pretraining_loss, training_figure
from scaling.report.measured import Measured, measured
from scaling.report.style import heading, si
from scaling.report.tuning import rate_sweep
from scaling.report.views import ALL, View, views

FIELDS = {
    "metric": "Metric",
    "series": "Pretrained by",
    "domain": "Test sites",
    "protocol": "Transfer",
    "shots": "Labelled subjects",
}
UNITS: dict[Axis, str] = {"compute": "compute", "size": "parameters", "duration": "samples"}


@dataclass(frozen=True)
class Drawn:
    """A place on the page for a figure of one or several views, the first shown first.

    Without figures, `sentence` stands there.
    """

    id: str
    figures: dict[str, go.Figure]
    sentence: str = ""

    @property
    def first(self) -> go.Figure:
        """The figure that is shown first."""
        return next(iter(self.figures.values()))


def slugs(names: Iterable[str]) -> dict[str, str]:
    """Names -> what they are called in ids and links, no two the same.

    A slug has lower-case letters, digits and hyphens.
    """
    chosen: dict[str, str] = {}
    for name in names:
        slug = plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "unnamed"
        number = 2
        while slug in chosen.values():
            slug, number = f"{plain}-{number}", number + 1
        chosen[name] = slug
    return chosen


def task_section(study: ReportInput, results: pd.DataFrame, name: str, slug: str) -> dict[str, Any]:
    """What the template shows of a task: its selectors, its figures in every view, its curves.

    `results` are those of the study with their series (`with_series`).
    """
    results = results[results["task"] == name]
    listed = views(results, name, study.protocol, study.domain)
    verdict = study.verdict(name)
    shown = {view: measured(results, name, view) for view in listed}
    drawn: dict[str, Drawn] = {}
    for axis in COLUMNS:
        drawn[axis] = curves(study, results, name, slug, shown, axis)
    gains = {}
    for view, of_view in shown.items():
        smallest = smallest_effect(verdict, view.metric)
        gains[view.key] = improvement_of(of_view, name, view, smallest)
    nothing = "There are no finished results to compare with an untrained encoder."
    drawn["improvement"] = Drawn(f"figure-{slug}-improvement", gains, nothing)
    return {
        "name": name,
        "slug": slug,
        "selectors": selectors(listed),
        "figures": drawn,
        "laws": law_rows(study, results, name),
        "confusions": confusion_tables(study.confusions, name),
        "groups": group_tables(study.groups, name),
        "fairness": fairness_table(study.groups, name),
    }


def curves(
    study: ReportInput,
    results: pd.DataFrame,
    name: str,
    slug: str,
    shown: dict[View, Measured],
    axis: Axis,
) -> Drawn:
    """A task's performance against one axis in every view."""
    place = f"figure-{slug}-{axis}"
    runs = results[results["arm"] == "pretrained"].drop_duplicates("run")
    column = "params" if axis == "size" else "duration"
    levels = sorted(runs[column].unique())
    if axis == "compute" and len(runs) < 2:
        return Drawn(place, {}, "A curve of performance against compute takes two models at least.")
    if axis != "compute" and len(levels) < 2:
        start = "There are no finished results"
        if levels:
            start = f"All results are of one {axis} ({si(levels[0])} {UNITS[axis]})"
        missing = f"{start}, so there is no curve of performance against {axis}."
        return Drawn(place, {}, missing)
    fitted = fitted_views(list(shown))
    figures = {}
    for view, of_view in shown.items():
        curve = None
        if fitted.get(view.metric) == view:
            curve = study.curves.get((name, view.metric, axis))
        figures[view.key] = performance_of(of_view, name, view, axis, curve)
    return Drawn(place, figures)


def law_rows(study: ReportInput, results: pd.DataFrame, name: str) -> list[tuple[str, str, str]]:
    """Metric, axis and words of every fitted curve of a task, and whether the card agrees."""
    rows = []
    runs = results[results["arm"] == "pretrained"]
    verdict = study.verdict(name)
    for (task, metric, axis), curve in study.curves.items():
        if task != name:
            continue
        text = curve.summary
        column = "params" if axis == "size" else "duration"
        if verdict is not None and verdict.metric == metric:
            ends = float(runs[column].min()), float(runs[column].max())
            text = f"{text} {agreement(curve, verdict, axis, *ends)}"
        rows.append((heading(metric), axis, text))
    return rows


def selectors(listed: list[View]) -> list[dict[str, Any]]:
    """Per field of a view: its name, label and (value, label) options in the order of the views."""
    chosen = []
    for field in fields(View):
        values = list(dict.fromkeys(getattr(view, field.name) for view in listed))
        if not any(values):  # a table of one's own may not say
            continue
        options = [(value, option_label(field.name, value)) for value in values]
        chosen.append({"name": field.name, "label": FIELDS[field.name], "options": options})
    return chosen


def option_label(field: str, value: Any) -> str:
    """How a value of a view is called in its selector."""
    if field == "metric":
        return heading(value)
    if field == "series" and value == ALL:
        return "all, side by side"
    return str(CHOICES.get(value, value))


def smallest_effect(verdict: Verdict | None, metric: str) -> float | None:
    """The smallest effect of interest in the metric's units."""
    if verdict is None or verdict.metric != metric:
        return None
    return verdict.smallest_effect * (verdict.baseline if verdict.relative else 1.0)


def control_forests(study: ReportInput) -> list[tuple[str, Drawn]]:
    """Per protocol: its name and the forest of pretrained models against every control."""
    forests = []
    for protocol, slug in slugs(study.findings).items():
        figure = against_controls(study.findings[protocol])
        label = str(CHOICES.get(protocol, protocol))
        forests.append((label, Drawn(f"figure-controls-{slug}", {"": figure})))
    return forests


def beyond_sections(study: ReportInput) -> list[dict[str, Any]]:
    """Per task and metric with an outlook: its sentences, and the curves of equal compute."""
    names = slugs(f"{task} {metric}" for task, metric in study.outlooks)
    sections = []
    for ((task, metric), outlook), slug in zip(study.outlooks.items(), names.values(), strict=True):
        figure = None
        if outlook.frontier:
            drawn = {"": equal_compute(outlook, task, metric)}
            figure = Drawn(f"figure-beyond-{slug}", drawn)
        title = f"{task}: {label_of(metric)}"
        sections.append({"title": title, "sentences": outlook.sentences, "figure": figure})
    return sections


def loss_sections(study: ReportInput) -> dict[str, list[tuple[Drawn, str]]]:
    """Objective -> figures of its loss with their captions."""
    objectives = study.pretraining["objective"].dropna().unique().tolist()
    objectives += study.training["objective"].dropna().unique().tolist()
    sections = {}
    for objective, slug in slugs(sorted({str(name) for name in objectives})).items():
        drawn = []
        if (study.training["objective"] == objective).any():
            figure = training_figure(study.training, objective)
            caption = (
                "Training loss along every run: the trunk, and dotted the cooldowns that branch "
                "off it. Circles are held-out losses, where they were logged."
            )
            drawn.append((Drawn(f"figure-{slug}-training", {"": figure}), caption))
        if (study.pretraining["objective"] == objective).any():
            drawn += final_losses(study.pretraining, objective, slug)
        sections[objective] = drawn
    return sections


def final_losses(pretraining: pd.DataFrame, objective: str, slug: str) -> list[tuple[Drawn, str]]:
    """The figures of the held-out loss at the end of every run, with their captions."""
    start = f"figure-{slug}-loss"
    compute = Drawn(f"{start}-compute", {"": loss_against_compute(pretraining, objective)})
    size = Drawn(f"{start}-size", {"": pretraining_loss(pretraining, "size", objective)})
    duration = Drawn(
        f"{start}-duration", {"": pretraining_loss(pretraining, "duration", objective)}
    )
    return [
        (compute, "Held-out loss of every run against its compute, and the lowest so far."),
        (size, "Held-out loss against size, a line per duration."),
        (duration, "Held-out loss against duration, a line per size."),
    ]


def rate_sections(sweeps: pd.DataFrame) -> dict[str, tuple[Drawn, Drawn]]:
    """Family -> its sweep of learning rates under muP and under the standard parametrisation."""
    sections = {}
    for family, sweep in sweeps.groupby("family"):
        mup = Drawn(f"figure-rates-{family}-mup", {"": rate_sweep(sweep, "mup")})
        standard = Drawn(f"figure-rates-{family}-standard", {"": rate_sweep(sweep, "standard")})
        sections[str(family)] = (mup, standard)
    return sections
