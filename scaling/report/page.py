"""The page: `page.html.j2` (with `page.css`, `page.js`) filled from tables, figures and verdicts.

The figures go into the page once, as data (id -> view -> figure), and are drawn by its script when
they are scrolled into view. The figures and the plotting library are compressed; the browser
unpacks both, so that the page stays small.
"""

import base64
import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from scaling.files import write_text
from scaling.report.beyond import self_test_rows
from scaling.report.cards import card
from scaling.report.curves import FITTED_TO
from scaling.report.findings import (
    against_rows,
    difference_rows,
    published_rows,
    ranking_rows,
)
from scaling.report.forests import forest
from scaling.report.images import montage, window
from scaling.report.inputs import ReportInput
from scaling.report.rows import (
    collection_rows,
    cost_rows,
    fact_rows,
    pretraining_table,
    results_data,
    study_facts,
)
from scaling.report.sections import (
    Drawn,
    beyond_sections,
    control_forests,
    loss_sections,
    rate_sections,
    slugs,
    task_section,
)
from scaling.report.tuning import schedules
from scaling.report.views import with_series
from scaling.report.words import answer, interim_text


def write_report(study: ReportInput, out: Path) -> Path:
    """Write `out`/report.html, one file that needs no network, whole or not at all.

    Returns its path.
    """
    results = with_series(study.results)
    names = slugs(study.tasks)
    tasks = [task_section(study, results, name, slug) for name, slug in names.items()]
    effects = {"": forest(study.verdicts)} if study.verdicts else {}
    overall = Drawn("figure-verdicts", effects, "There is no verdict to draw.")
    forests, losses = control_forests(study), loss_sections(study)
    beyond, rates = beyond_sections(study), rate_sections(study.rates)
    swept = {"": schedules(study.schedules)} if len(study.schedules) else {}
    schedule = Drawn("figure-schedules", swept)

    drawn = [overall, schedule, *(figure for _, figure in forests)]
    for task in tasks:
        drawn += task["figures"].values()
    for pairs in losses.values():
        drawn += [figure for figure, _ in pairs]
    for pair in rates.values():
        drawn += pair
    drawn += [section["figure"] for section in beyond if section["figure"]]

    first = next(iter(study.findings.values()), None)
    accelerators = sorted({str(name) for name in study.steps["accelerator"].dropna()})
    page = (
        environment()
        .get_template("page.html.j2")
        .render(
            study=study,
            answer=answer(study),
            interim=interim_text(study) if study.interim else "",
            facts=study_facts(results),
            cards=[card(study, name, slug) for name, slug in names.items()],
            overall=overall,
            tasks=tasks,
            forests=forests,
            by_objective=against_rows(study.findings, by_objective=True),
            differences=difference_rows(first) if first else [],
            ranking=ranking_rows(first) if first else ([], []),
            published=published_rows(study.leaderboard),
            beyond=beyond,
            self_tests=self_test_rows(study.self_tests),
            fitted_to=FITTED_TO,
            reconstructions=pictures(study),
            losses=losses,
            rates=rates,
            schedules=schedule,
            pretraining=pretraining_table(study.pretraining),
            costs=cost_rows(study.steps),
            accelerator=", ".join(accelerators),
            fixed=fact_rows(study.held_fixed),
            collections=collection_rows(study.collections),
            provenance=fact_rows(study.provenance),
            config=json.dumps(study.config, indent=2, default=str, ensure_ascii=False),
            data=packed(page_data(study, drawn)),
            plotly=packed_library(),
        )
    )
    path = out / "report.html"
    write_text(path, page)
    return path


def environment() -> Environment:
    """The templates of this package; an unknown name in one is an error."""
    return Environment(
        loader=PackageLoader("scaling.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page_data(study: ReportInput, drawn: list[Drawn]) -> str:
    """All figures and the table of results as JSON."""
    figures: dict[str, dict[str, Any]] = {}
    for place in drawn:
        figures[place.id] = {key: compact(figure) for key, figure in place.figures.items()}
    data = {"figures": figures, "results": results_data(study.results)}
    return json.dumps(data, separators=(",", ":"), allow_nan=False, default=str)


def compact(figure: go.Figure) -> dict[str, Any]:
    """A figure as plain data, numbers to six digits."""
    return json.loads(figure.to_json(), parse_float=lambda number: float(f"{float(number):.6g}"))


def packed(text: str) -> str:
    """Text compressed and in base64: the page's script unpacks it."""
    # Without a time stamp the same text gives the same bytes.
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


@cache
def packed_library() -> str:
    """The plotting library of the installed plotly package."""
    return packed(get_plotlyjs())


def pictures(study: ReportInput) -> list[tuple[str, list[tuple[str, str]]]]:
    """(label, [(caption, picture as data URI)]) of each model.

    The pictures of one brain share its grey window.
    """
    labelled = []
    for label, original, masked, reconstructed in study.reconstructions:
        grey = window(original)
        volumes = {"original": original, "masked": masked, "reconstructed": reconstructed}
        images = [(caption, montage(volume, *grey)) for caption, volume in volumes.items()]
        labelled.append((label, images))
    return labelled
