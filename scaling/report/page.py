"""The page: `page.html.j2` (with `page.css` and `page.js`) filled from tables, figures and verdicts.

Every figure goes into one embedded JSON, id -> view -> figure, and is drawn by the page's script when it is scrolled into view."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from scaling.files import write_text
from scaling.laws import Verdict
from scaling.laws.known_metrics import label_of
from scaling.report.beyond import equal_compute, self_test_rows
from scaling.report.curves import FITTED_TO
from scaling.report.figures import Axis, improvement, performance_of
from scaling.report.fomo25 import (
    CHOICES,
    against_rows,
    difference_rows,
    published_rows,
    ranking_rows,
)
from scaling.report.images import montage, window
from scaling.report.inputs import ReportInput
from scaling.report.overview import forest, pretraining_loss
from scaling.report.rows import cost_rows, fact_rows, pretraining_table, results_data, study_facts
from scaling.report.style import DECISIONS, change, heading, si
from scaling.report.summary import answer
from scaling.report.tuning import rate_sweep, schedules
from scaling.report.views import View, controls, run_points, views

FIELDS = {
    "metric": "Metric",
    "objective": "Objective",
    "domain": "Test sites",
    "protocol": "Transfer",
    "shots": "Labelled subjects",
}


@dataclass(frozen=True)
class Drawn:
    """A place on the page for a figure of one or several views, the first shown first; without figures, `sentence` stands there."""

    id: str
    figures: dict[str, go.Figure]
    sentence: str = ""

    @property
    def first(self) -> go.Figure:
        return next(iter(self.figures.values()))


def write_report(study: ReportInput, out: Path) -> Path:
    """Write `out`/report.html, one file that needs no network, whole or not at all; returns its path."""
    tasks = [_task(study, name, slug) for name, slug in slugs(study.tasks).items()]
    overall = Drawn(
        "figure-verdicts",
        {"": forest(study.verdicts)} if study.verdicts else {},
        "There is no verdict to draw.",
    )
    losses = _losses(study.pretraining)
    beyond = _beyond(study)
    asked = next(iter(study.findings.values()), None)
    rates = _rates(study.rates)
    shared = Drawn(
        "figure-schedules", {"": schedules(study.schedules)} if len(study.schedules) else {}
    )
    drawn = [
        overall,
        *(figure for task in tasks for figure in task["figures"].values()),
        *(part["figure"] for part in beyond if part["figure"]),
        *(figure for pair in [*losses.values(), *rates.values()] for figure in pair),
        shared,
    ]
    data = {
        "figures": {
            d.id: {key: _compact(figure) for key, figure in d.figures.items()} for d in drawn
        },
        "results": results_data(study.results),
    }
    page = _environment().get_template("page.html.j2").render(
        study=study,
        answer=answer(study),
        facts=study_facts(study.results),
        cards=[_card(study, task["name"], task["slug"]) for task in tasks],
        overall=overall,
        tasks=tasks,
        beyond=beyond,
        self_tests=self_test_rows(study.self_tests),
        against=against_rows(study.findings, by_objective=False),
        by_objective=against_rows(study.findings, by_objective=True),
        differences=difference_rows(asked) if asked else [],
        ranking=ranking_rows(asked) if asked else ([], []),
        published=published_rows(study.tasks) if asked else ([], []),
        fitted_to=FITTED_TO,
        reconstructions=_pictures(study),
        losses=losses,
        rates=rates,
        schedules=shared,
        pretraining=pretraining_table(study.pretraining),
        costs=cost_rows(study.steps),
        accelerator=", ".join(sorted(map(str, study.steps["accelerator"].dropna().unique()))),
        fixed=fact_rows(study.held_fixed),
        provenance=fact_rows(study.provenance),
        config=json.dumps(study.config, indent=2, default=str, ensure_ascii=False),
        data=json.dumps(data, separators=(",", ":"), allow_nan=False, default=str).replace("<", "\\u003c"),
        plotly=get_plotlyjs(),
    )  # fmt: skip
    path = out / "report.html"
    write_text(path, page)
    return path


def slugs(names: Iterable[str]) -> dict[str, str]:
    """Names -> what they are called in ids and links: lower-case letters, digits and hyphens, no two the same."""
    found: dict[str, str] = {}
    for name in names:
        slug = plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "unnamed"
        number = 2
        while slug in found.values():
            slug, number = f"{plain}-{number}", number + 1
        found[name] = slug
    return found


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("scaling.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _task(study: ReportInput, name: str, slug: str) -> dict[str, Any]:
    """What the template shows of a task: its selectors, the three figures in every view, what the fitted curves say."""
    found = views(study.results, name, study.protocol, study.domain)
    fitted = {
        view.metric: view for view in reversed(found)
    }  # the first view of each metric is the one curves are fitted to
    runs = study.results[(study.results["task"] == name) & (study.results["arm"] == "pretrained")]
    verdict = study.verdict(name)
    points = {view: run_points(study.results, name, view) for view in found}
    arms = {view: controls(study.results, name, view) for view in found}

    def curves(axis: Axis) -> Drawn:
        levels = sorted(runs["params" if axis == "size" else "duration"].unique())
        if len(levels) < 2:
            what = "parameters" if axis == "size" else "samples"
            sentence = (
                f"All results are of one {axis} ({si(levels[0])} {what})"
                if levels
                else "There are no finished results"
            )
            return Drawn(
                f"figure-{slug}-{axis}",
                {},
                f"{sentence}, so there is no curve of performance against {axis}.",
            )
        figures = {}
        for v in found:
            curve = study.curves.get((name, v.metric, axis)) if fitted[v.metric] == v else None
            figures[v.key] = performance_of(points[v], arms[v], name, v, axis, curve)
        return Drawn(f"figure-{slug}-{axis}", figures)

    gains = {
        v.key: improvement(study.results, name, v, _smallest(verdict, v.metric)) for v in found
    }
    none = "There are no finished results to compare with an untrained encoder."
    return {
        "name": name,
        "slug": slug,
        "selectors": _selectors(found),
        "figures": {
            "size": curves("size"),
            "duration": curves("duration"),
            "improvement": Drawn(f"figure-{slug}-improvement", gains, none),
        },
        "laws": [
            (heading(metric), axis, curve.summary) for (task, metric, axis), curve in study.curves.items() if task == name
        ],
    }  # fmt: skip


def _selectors(found: list[View]) -> list[dict[str, Any]]:
    """Per field of a view: its name, label and (value, label) options in the order of the views."""
    return [
        {
            "name": field.name,
            "label": FIELDS[field.name],
            "options": [
                (v, heading(v) if field.name == "metric" else CHOICES.get(v, v)) for v in values
            ],
        }
        for field in fields(View)
        if any(
            values := list(dict.fromkeys(getattr(view, field.name) for view in found))
        )  # a table of one's own may not tell
    ]


def _smallest(verdict: Verdict | None, metric: str) -> float | None:
    """The smallest effect of interest in the metric's units."""
    if verdict is None or verdict.metric != metric:
        return None
    return verdict.smallest_effect * (verdict.baseline if verdict.relative else 1.0)


def _card(study: ReportInput, name: str, slug: str) -> dict[str, Any]:
    """A task's verdict in words."""
    verdict = study.verdict(name)
    decision = verdict.decision if verdict else "no verdict"
    symbol, tone = DECISIONS.get(decision, ("·", "none"))
    card: dict[str, Any] = {
        "name": name,
        "slug": slug,
        "decision": decision,
        "symbol": symbol,
        "tone": tone,
        "rows": [],
        "notes": (),
    }
    if verdict is None:
        some = (study.results["task"] == name).any()
        return card | {
            "sentence": "These results allow no verdict."
            if some
            else "There are no finished results."
        }
    sentence = verdict.sentence.removeprefix(f"{name}: ").replace(" %", "\N{NO-BREAK SPACE}%")
    budget = verdict.effects[0]
    counts = ((verdict.runs, "runs"), (verdict.draws, "draws"), (verdict.cases, "test cases"))
    rows = [
        (
            "Smallest effect of interest",
            f"{heading(verdict.metric)} {change(verdict.smallest_effect, verdict.relative)}",
        ),
        ("Effect", f"{change(budget.estimate, verdict.relative)} (positive is better)"),
        (
            f"{verdict.confidence:.0%} interval",
            f"{change(budget.low, verdict.relative)} to {change(budget.high, verdict.relative)}",
        ),
        ("Judged from", ", ".join(f"{n} {what}" for n, what in counts if n > 1)),
    ]
    if verdict.trend_p is not None:
        adjusted = (
            ""
            if verdict.trend_p_holm is None
            else f", {verdict.trend_p_holm:.2g} over all tasks (Holm)"
        )
        rows.append(
            (
                "Trend test (MCP-Mod)",
                f"p = {verdict.trend_p:.2g}{adjusted}; best shape: {verdict.trend_shape}",
            )
        )
    if budget.low is None:
        rows[2] = (rows[2][0], "none: nothing tells how much runs differ by chance")
    return card | {
        "sentence": sentence[:1].upper() + sentence[1:],
        "rows": rows,
        "notes": verdict.notes,
    }


def _beyond(study: ReportInput) -> list[dict[str, Any]]:
    """Per task and metric with an outlook: its sentences, and the curves of equal compute where size and duration both vary."""
    names = slugs(f"{task} {metric}" for task, metric in study.outlooks)
    return [
        {
            "title": f"{task}: {label_of(metric)}",
            "sentences": found.sentences,
            "figure": Drawn(f"figure-beyond-{slug}", {"": equal_compute(found, task, metric)})
            if found.frontier
            else None,
        }
        for ((task, metric), found), slug in zip(
            study.outlooks.items(), names.values(), strict=True
        )
    ]


def _losses(pretraining: pd.DataFrame) -> dict[str, tuple[Drawn, Drawn]]:
    """Objective -> the figures of its held-out loss against size and against duration."""
    objectives = sorted(map(str, pretraining["objective"].dropna().unique()))
    return {
        objective: (
            Drawn(
                f"figure-{slug}-loss-size", {"": pretraining_loss(pretraining, "size", objective)}
            ),
            Drawn(
                f"figure-{slug}-loss-duration",
                {"": pretraining_loss(pretraining, "duration", objective)},
            ),
        )
        for objective, slug in slugs(objectives).items()
    }


def _rates(sweeps: pd.DataFrame) -> dict[str, tuple[Drawn, Drawn]]:
    """Family -> the figures of its sweep of learning rates under muP and under the standard parametrisation."""
    return {
        str(family): (
            Drawn(f"figure-rates-{family}-mup", {"": rate_sweep(sweep, "mup")}),
            Drawn(f"figure-rates-{family}-standard", {"": rate_sweep(sweep, "standard")}),
        )
        for family, sweep in sweeps.groupby("family")
    }


def _pictures(study: ReportInput) -> list[tuple[str, list[tuple[str, str]]]]:
    """(label, [(caption, picture as data URI)]) of each model; the pictures of one brain share its grey window."""
    pictures = []
    for label, original, masked, reconstructed in study.reconstructions:
        volumes = {"original": original, "masked": masked, "reconstructed": reconstructed}
        grey = window(original)
        pictures.append(
            (label, [(caption, montage(volume, *grey)) for caption, volume in volumes.items()])
        )
    return pictures


def _compact(figure: go.Figure) -> dict[str, Any]:
    """A figure as plain data, numbers to six digits."""
    return json.loads(figure.to_json(), parse_float=lambda number: float(f"{float(number):.6g}"))
