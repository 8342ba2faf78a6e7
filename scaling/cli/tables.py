"""The verbs on tables: curves, extrapolation, verdicts, rankings, designs and a page from anybody's csv or parquet."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from scaling.cli.terminal import console, errors

tables_app = typer.Typer()

Table = Annotated[Path, typer.Argument(help="A csv, tsv or parquet file.", show_default=False)]
X = Annotated[str, typer.Option("--x", help="Column of sizes or budgets; or two, SIZE,DURATION.")]
Y = Annotated[str, typer.Option("--y", help="Column of scores or errors.")]
By = Annotated[str | None, typer.Option("--by", help="Column that tells tasks apart (default: task, if there is one).")]
Run = Annotated[str | None, typer.Option("--run", help="Column that tells runs apart (default: run, or seed).")]
Case = Annotated[str | None, typer.Option("--case", help="Column of test cases (default: case).")]
Cluster = Annotated[str | None, typer.Option("--cluster", help="Column of what runs branched off (default: cluster).")]
Lower = Annotated[bool | None, typer.Option("--lower/--higher", help="Which way is better (default: from the metric's name).")]
Metric = Annotated[str | None, typer.Option("--metric", help="Name of the metric (default: a column metric, or the name of Y).")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]
Effect = Annotated[float | None, typer.Option("--effect", help="Smallest effect worth having (default: the metric's).")]
PANEL = "Tables"


def emit(document: Any, as_json: bool, sentences: list[str]) -> None:
    """Print a result: one JSON document, or sentences."""
    if as_json:
        typer.echo(json.dumps(document, allow_nan=False))
    else:
        for sentence in sentences:
            console.print(sentence, markup=False, highlight=False)


@tables_app.command(rich_help_panel=PANEL)
def fit(
    table: Table, x: X, y: Y, by: By = None, run: Run = None, case: Case = None, cluster: Cluster = None, metric: Metric = None,
    lower: Lower = None, forms: Annotated[str | None, typer.Option(help="Forms to use, e.g. power,floor.")] = None,
    at: Annotated[str | None, typer.Option(help="Also predict here, e.g. 1e8 or 1e8/2e6,1e9/2e6.")] = None, json_: Json = False,
) -> None:  # fmt: skip
    """Fit curves: forms, parameters, intervals, and how the fits converged."""
    from scaling.laws.curve import fit as fit_curve
    from scaling.laws.tables import direction, read_table, run_means, shaped, tasks_of

    columns = x.split(",")
    data = shaped(read_table(table), columns, y, {"task": by, "run": run, "case": case, "cluster": cluster})
    names = ("size", "duration")[: len(columns)]
    documents, sentences = [], []
    for task, name, part in tasks_of(data, y, metric):
        rows = run_means(part)
        is_lower, bounds, assumed = direction(name, rows["value"], lower)
        moving = tuple(c for c in names if (rows[c] != rows[c].iloc[0]).any()) or names
        curve = fit_curve(
            rows, moving if len(moving) > 1 else moving[0], "value", bounds=bounds, lower_is_better=is_lower,
            cluster="cluster" if "cluster" in rows else None, forms=tuple(forms.split(",")) if forms else None,
        )  # fmt: skip
        document = {"task": task, "metric": name, "assumed": assumed, **curve.to_dict()}
        sentences += [f"{task} ({name}): {curve.summary}", f"  {assumed}"]
        for form in sorted(curve.forms, key=lambda f: -f.weight):
            values = ", ".join(f"{k} {v:.4g} ({_end(form.low[k])} to {_end(form.high[k])})" for k, v in form.parameters.items())
            state = "converged" if form.converged else "did not converge"
            sentences.append(f"  {form.name:>10} {form.weight:4.0%}  {form.formula}: {values}; {state}, {form.agree:.0%} of starts agree")
        sentences.append(f"  parameters hold for {' and '.join(moving)} in units of {', '.join(f'{c:.4g}' for c in curve.centre)}")
        if at:
            points = [[float(v) for v in point.split("/")] for point in at.split(",")]
            mean, low, high = curve.predict(points)
            document["predictions"] = [
                {"x": p, "mean": m, "low": a, "high": b}
                for p, m, a, b in zip(points, mean.tolist(), low.tolist(), high.tolist(), strict=True)
            ]
            sentences += [f"  at {d['x']}: {d['mean']:.4g} ({d['low']:.4g} to {d['high']:.4g})" for d in document["predictions"]]
        sentences += [f"  {note}" for note in curve.notes]
        documents.append(document)
    emit({"curves": documents}, json_, sentences)


def _end(value: float | None) -> str:
    return "open" if value is None else f"{value:.4g}"


@tables_app.command(rich_help_panel=PANEL)
def extrapolate(
    table: Table, x: X, y: Y, train: Annotated[str, typer.Option(help="Column that is 1 where a row is fitted, 0 where predicted.")],
    by: Annotated[str | None, typer.Option("--by", help="Columns that tell curves apart, e.g. task,model.")] = None,
    confidence: Annotated[float, typer.Option(help="Of the prediction intervals.")] = 0.90, json_: Json = False,
) -> None:  # fmt: skip
    """Fit each curve where TRAIN is 1, predict the rest: root mean squared log error per curve, and interval coverage."""
    from scaling.laws.extrapolation import extrapolate as foretell
    from scaling.laws.tables import read_table

    result = foretell(read_table(table), x, y, train, by.split(",") if by else (), confidence=confidence)
    sentences = [
        result.curves.round(5).to_string(index=False),
        f"mean RMSLE {result.rmsle:.5f} over {len(result.curves)} curves; {result.coverage:.0%} of the predicted points lie within their "
        f"{confidence:.0%} interval",
    ]
    emit(result.to_dict(), json_, sentences)


@tables_app.command(rich_help_panel=PANEL)
def verdict(
    table: Table, x: X = "size,duration", y: Annotated[str, typer.Option("--y", "--value", help="Column of scores.")] = "value",
    by: By = None, run: Run = None, case: Case = None, cluster: Cluster = None, metric: Metric = None, lower: Lower = None,
    effect: Effect = None, relative: Annotated[bool | None, typer.Option(help="The smallest effect is a fraction of the baseline.")] = None,
    json_: Json = False,
) -> None:  # fmt: skip
    """Does more budget help each task? One decision with an error bar, for a stated smallest effect worth having."""
    from scaling.laws.tables import judged, read_table, shaped

    data = shaped(read_table(table), x.split(","), y, {"task": by, "run": run, "case": case, "cluster": cluster})
    verdicts, problems = judged(data, y, metric, lower, effect, relative)
    if not verdicts:
        raise ValueError(" ".join(problems))
    sentences = [s for v in verdicts for s in (v.sentence, *(f"  {note}" for note in v.notes))]
    document = {"verdicts": [v.to_dict() for v in verdicts], "problems": problems}
    emit(document, json_, [*sentences, *problems])
    if problems:
        raise typer.Exit(1)


@tables_app.command(rich_help_panel=PANEL)
def rank(
    table: Table, model: Annotated[str | None, typer.Option(help="Column of models (default: model or team).")] = None,
    task: Annotated[list[str] | None, typer.Option(help="TASK=COLUMN,COLUMN (a minus before a column: lower is better).")] = None,
    where: Annotated[str | None, typer.Option(help="Rank only rows with COLUMN=VALUE.")] = None,
    control: Annotated[list[str] | None, typer.Option(help="A row to compare with, not to rank.")] = None,
    objective: Annotated[str | None, typer.Option(help="Column of pretraining objectives (default: objective).")] = None,
    json_: Json = False,
) -> None:  # fmt: skip
    """Rank models over tasks as FOMO25 does. A table per model and metric, or per case (model, task, metric, case, value)."""
    from scaling.laws.columns import require_columns
    from scaling.laws.plain import plain
    from scaling.laws.rankings import RankedMetric, better_than, metrics_of, rank_cases, rank_differences
    from scaling.laws.rankings import rank as rank_models
    from scaling.laws.tables import direction, read_table

    data = read_table(table)
    name = model or next((c for c in ("model", "team") if c in data), "model")
    if {"task", "metric", "case"} <= set(data):
        pairs = data[["task", "metric"]].drop_duplicates()
        metrics = tuple(RankedMetric(t, m, direction(m, data.loc[data["metric"] == m, "value"], None)[0]) for t, m in pairs.values)
        ranking = rank_cases(data.rename(columns={name: "model"}), metrics)
        document: dict[str, Any] = {"ranking": ranking.table.to_dict("records"), "p": ranking.p}
        emit(plain(document), json_, [ranking.table.round(3).to_string(index=False)])
        return
    if task:
        columns = [(t, c) for t, _, listed in (entry.partition("=") for entry in task) for c in listed.split(",")]
        metrics = tuple(RankedMetric(t, c.removeprefix("-"), c.startswith("-")) for t, c in columns)
    else:
        metrics = metrics_of(data)
    ranked = data
    if where:
        column, _, value = where.partition("=")
        require_columns(data, [column])
        ranked = data[data[column].astype(str) == value]
    ranked = ranked[~ranked[name].isin(control or [])] if name in ranked else ranked
    ranking = rank_models(ranked, name, metrics)
    document = {"ranking": ranking.table.to_dict("records")}
    sentences = [ranking.table.round(3).to_string(index=False)]
    if control:
        compared = data[data[name].isin([*ranked[name], *control])]
        better = better_than(compared, name, metrics, control)
        document["better_than"] = better.to_dict("records")
        sentences += ["", "Better than the controls:", better.round(3).to_string(index=False)]
    objective = objective or ("objective" if "objective" in data else None)
    if objective:
        groups = dict(zip(data[name].astype(str), data[objective], strict=True))
        differences = rank_differences(ranking, groups)
        document["rank_differences"] = differences.to_dict("records")
        sentences += ["", "Rank on one task less rank on another, by objective:", differences.round(3).to_string(index=False)]
    emit(plain(document), json_, sentences)


def numbers(text: str) -> list[float]:
    """A comma-separated list of numbers."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"Found {text!r}: expected numbers separated by commas, like 1e6,4e6.") from None


@tables_app.command(rich_help_panel=PANEL)
def design(
    budget: Annotated[float, typer.Option(help="Accelerator-hours to spend on pretraining.")],
    sizes: Annotated[str, typer.Option(help="Sizes to choose from, e.g. 1e6,4e6,16e6.")],
    durations: Annotated[str, typer.Option(help="Durations to choose from.")],
    largest: Annotated[float, typer.Option(help="Hours of one run of the largest size and duration; others as size x duration.")],
    cases: Annotated[str, typer.Option(help="Numbers of test cases to choose from.")] = "100,300",
    effect: Annotated[float, typer.Option(help="Smallest effect worth having.")] = 0.02,
    gain: Annotated[float | None, typer.Option(help="Gain that is hoped for (default: twice the smallest effect).")] = None,
    pilot: Annotated[Path | None, typer.Option(help="Table of a pilot to take the noise from: size, duration, run, case, value.")] = None,
    run_sd: Annotated[float, typer.Option(help="Scatter between cooldowns.")] = 0.01,
    trunk_sd: Annotated[float, typer.Option(help="Scatter between trunks.")] = 0.01,
    case_effect_sd: Annotated[float, typer.Option(help="How differently cases answer to more budget.")] = 0.1,
    run_case_sd: Annotated[float, typer.Option(help="Scatter of a run on one case.")] = 0.15,
    shared_trunks: Annotated[bool, typer.Option(help="Durations branch off one trunk.")] = True,
    show: Annotated[int, typer.Option(help="Designs to simulate and show.")] = 3, json_: Json = False,
) -> None:  # fmt: skip
    """Which cells, seeds and test cases to spend a budget on; with power, error rate and interval coverage by simulation."""
    from scaling.laws.design import noise_of, proportional_hours, propose, simulated
    from scaling.laws.scores import scores
    from scaling.laws.simulate import Noise
    from scaling.laws.tables import read_table, shaped

    ladder, lengths = numbers(sizes), numbers(durations)
    noise = Noise(trunk=trunk_sd, run=run_sd, case=0.0, case_effect=case_effect_sd, run_case=run_case_sd)
    if pilot:
        table = read_table(pilot)
        axes = [c for c in ("size", "duration") if c in table]
        noise = noise_of(scores(shaped(table, axes, "value", {}).assign(**({} if len(axes) == 2 else {"duration": 1.0})), "value"))
    found = propose(ladder, lengths, [int(n) for n in numbers(cases)], proportional_hours(ladder, lengths, largest), budget, noise,
                    shared_trunks)  # fmt: skip
    hoped = 2 * effect if gain is None else gain
    best = [simulated(p, noise, hoped, effect) for p in found[:show]]
    sentences = [f"{len(found)} designs fit {budget:g} accelerator-hours. For a gain of {hoped:g} and a smallest effect of {effect:g}:"]
    for p in best:
        if p.null is None or p.real is None:
            continue
        g = p.grid
        settled = 1 - p.null.decisions.get("undetermined", 0.0)
        sentences.append(
            f"  sizes {', '.join(f'{s:.3g}' for s in g.sizes)}; durations {', '.join(f'{d:.3g}' for d in g.durations)}; {g.seeds} seeds; "
            f"{g.cases} cases; {p.hours:.3g} hours: interval +-{p.half_width:.3f}; improvement found in {p.real.claims:.0%}, "
            f"shown worthwhile in {p.real.decisions.get('improves', 0.0):.0%}; "
            f"without effect claimed in {p.null.claims:.1%}, settled in {settled:.0%}, "
            f"interval right in {p.null.coverage:.0%}"
        )
    emit({"noise": vars(noise), "designs": [p.to_dict() for p in best]}, json_, sentences)


@tables_app.command(rich_help_panel=PANEL)
def page(
    table: Table, x: X = "size,duration", y: Annotated[str, typer.Option("--y", "--value", help="Column of scores.")] = "value",
    by: By = None, run: Run = None, case: Case = None, cluster: Cluster = None, metric: Metric = None, lower: Lower = None,
    effect: Effect = None, out: Annotated[Path, typer.Option("--out", "-o", help="Folder for report.html.")] = Path(),
) -> None:  # fmt: skip
    """Curves, verdicts and one self-contained page from a table with columns size, duration, task, case, value."""
    from scaling.laws.tables import curves_of, judged, read_table, results_table, shaped
    from scaling.report import ReportInput, terminal_summary, write_report

    data = shaped(read_table(table), x.split(","), y, {"task": by, "run": run, "case": case, "cluster": cluster})
    verdicts, problems = judged(data, y, metric, lower, effect, None)
    results = results_table(data, table.stem, y, metric)
    report = ReportInput(name=table.stem, results=results, verdicts=verdicts, curves=curves_of(results, lower), problems=problems)
    out.mkdir(parents=True, exist_ok=True)
    written = write_report(report, out)
    console.print(terminal_summary(report, written), markup=False, highlight=False)
    for problem in problems:
        errors.print(problem, markup=False)
