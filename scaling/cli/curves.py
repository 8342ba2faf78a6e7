"""The verbs that fit curves to anybody's csv or parquet."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.cli.own_tables import axes_of, read_scores, score_column
from scaling.cli.table_options import (
    PANEL,
    By,
    Case,
    Cluster,
    Draw,
    Json,
    Lower,
    Metric,
    Run,
    Table,
    X,
    XOfFit,
    Y,
    emit,
    numbers,
    roles,
)

if TYPE_CHECKING:
    from scaling.laws import Curve

tables_app = typer.Typer()


@tables_app.command(rich_help_panel=PANEL)
def fit(
    table: Table,
    x: XOfFit = "",
    y: Y = "",
    by: By = None,
    run: Run = None,
    case: Case = None,
    draw: Draw = None,
    cluster: Cluster = None,
    metric: Metric = None,
    lower: Lower = None,
    forms: Annotated[str | None, typer.Option(help="Forms to use, e.g. power,floor.")] = None,
    huber: Annotated[
        float | None,
        typer.Option(help="Huber loss with this delta, in log units (default: Student-t)."),
    ] = None,
    prior: Annotated[
        float, typer.Option(help="How sharp the weak priors on exponents are; 0 for none.")
    ] = 1.0,
    at: Annotated[
        str | None, typer.Option(help="Also predict here, e.g. 1e8 or 1e8/2e6,1e9/2e6.")
    ] = None,
    json_: Json = False,
) -> None:
    """Fit curves: forms, parameters, intervals, and how the fits converged.

    With three columns: laws of repeated data, and when more data beat more epochs."""
    from scaling.cli.repeated import repeated_curves
    from scaling.laws.curves.fitting import fit as fit_curve
    from scaling.laws.curves.losses import huber as huber_loss
    from scaling.laws.tables import direction, shaped, tasks_of
    from scaling.laws.verdicts.scores import run_scores

    scores = read_scores(table)
    columns, y = x.split(",") if x else axes_of(scores), y or score_column(scores)
    if len(columns) == 3:
        if forms or huber or prior != 1.0:
            raise ValueError("--forms, --huber and --prior are for one or two columns of --x.")
        points = [numbers(point.replace("/", ",")) for point in at.split(",")] if at else []
        of_table = roles(by, run, case, draw, cluster)
        laws = repeated_curves(scores, columns, y, of_table, metric, lower, points)
        emit({"curves": laws[0]}, json_, laws[1])
        return
    data = shaped(scores, columns, y, roles(by, run, case, draw, cluster))
    names = ("size", "duration")[: len(columns)]
    documents, sentences = [], []
    for task, name, part in tasks_of(data, y, metric):
        rows = run_scores(part, name)
        is_lower, bounds, assumed = direction(name, rows["value"], lower)
        moving = tuple(c for c in names if (rows[c] != rows[c].iloc[0]).any()) or names
        curve = fit_curve(
            rows.rename(columns={"value": name}),
            moving if len(moving) > 1 else moving[0],
            name,
            bounds=bounds,
            lower_is_better=is_lower,
            cluster="cluster" if "cluster" in rows else None,
            forms=tuple(forms.split(",")) if forms else None,
            loss=huber_loss(huber) if huber else None,
            prior=prior,
        )
        document = {"task": task, "metric": name, "assumed": assumed, **curve.to_dict()}
        sentences += [f"{task} ({name}): {curve.summary}", f"  {assumed}"]
        sentences += _form_sentences(curve)
        sentences.append(
            f"  parameters hold for {' and '.join(moving)} in units of "
            f"{', '.join(f'{c:.4g}' for c in curve.centre)}"
        )
        if at:
            predictions = _predictions(curve, _points(at, moving))
            document["predictions"] = predictions
            sentences += [_prediction_sentence(prediction) for prediction in predictions]
        sentences += [f"  {note}" for note in curve.notes]
        documents.append(document)
    emit({"curves": documents}, json_, sentences)


def _form_sentences(curve: "Curve") -> list[str]:
    """A line for every form of a curve, the one of most weight first."""
    sentences = []
    for form in sorted(curve.forms, key=lambda form: -form.weight):
        values = ", ".join(
            f"{name} {value:.4g} ({_end(form.low[name])} to {_end(form.high[name])})"
            for name, value in form.parameters.items()
        )
        state = "converged" if form.converged else "did not converge"
        sentences.append(
            f"  {form.name:>10} {form.weight:4.0%}  {form.formula}: {values}; {state}, "
            f"{form.agree:.0%} of starts agree"
        )
    return sentences


def _points(at: str, axes: tuple[str, ...]) -> list[list[float]]:
    """The points of --at, a number for each axis. Raises ValueError for any other number."""
    points = [numbers(point.replace("/", ",")) for point in at.split(",")]
    if any(len(point) != len(axes) for point in points):
        raise ValueError(
            f"--at {at}: each point needs {len(axes)} numbers ({'/'.join(axes)}), "
            "points are separated by commas."
        )
    return points


def _predictions(curve: "Curve", points: list[list[float]]) -> list[dict[str, Any]]:
    """At every point the mean with its interval, and the interval of a new run."""
    mean, low, high = curve.predict(points)
    _, run_low, run_high = curve.predict(points, new_run=True)
    ends = zip(low.tolist(), high.tolist(), run_low.tolist(), run_high.tolist(), strict=True)
    return [
        {"x": x, "mean": m, "low": a, "high": b, "new_run_low": c, "new_run_high": d}
        for x, m, (a, b, c, d) in zip(points, mean.tolist(), ends, strict=True)
    ]


def _prediction_sentence(prediction: dict[str, Any]) -> str:
    where = " / ".join(f"{value:g}" for value in prediction["x"])
    return (
        f"  at {where}: {prediction['mean']:.4g} (mean of runs {prediction['low']:.4g} to "
        f"{prediction['high']:.4g}; a new run {prediction['new_run_low']:.4g} to "
        f"{prediction['new_run_high']:.4g}; 90 % intervals)"
    )


def _end(value: float | None) -> str:
    return "open" if value is None else f"{value:.4g}"


@tables_app.command(rich_help_panel=PANEL)
def extrapolate(
    table: Table,
    x: Annotated[str, typer.Option("--x", help="Column of sizes, durations or any budget.")],
    y: Y,
    train: Annotated[
        str, typer.Option(help="Column that is 1 where a row is fitted, 0 where predicted.")
    ],
    by: Annotated[
        str | None, typer.Option("--by", help="Columns that tell curves apart, e.g. task,model.")
    ] = None,
    forms: Annotated[str, typer.Option(help="Forms to average.")] = "floor,m4",
    confidence: Annotated[float, typer.Option(help="Of the prediction intervals.")] = 0.90,
    json_: Json = False,
) -> None:
    """Fit each curve where TRAIN is 1, predict the rest: root mean squared log error per curve,
    and interval coverage.

    With --json every predicted point too, with its interval."""
    from scaling.laws.curves.extrapolation import extrapolate as foretell
    from scaling.laws.tables import read_table

    result = foretell(
        read_table(table), x, y, train, by.split(",") if by else (), forms.split(","), confidence
    )
    sentences = [
        result.curves.round(5).to_string(index=False),
        f"mean RMSLE {result.rmsle:.5f} over {len(result.curves)} curves; {result.coverage:.0%} of "
        f"the predicted points lie within their {confidence:.0%} interval",
    ]
    emit(result.to_dict(), json_, sentences)


@tables_app.command(rich_help_panel=PANEL)
def frontier(
    table: Table,
    x: X = "size,duration",
    y: Annotated[str, typer.Option("--y", "--value", help="Column of scores.")] = "value",
    by: By = None,
    run: Run = None,
    case: Case = None,
    draw: Draw = None,
    cluster: Cluster = None,
    metric: Metric = None,
    lower: Lower = None,
    compute: Annotated[
        str | None,
        typer.Option(help="Budgets, e.g. 1e18,1e19 (default: five within what was run)."),
    ] = None,
    flops_per: Annotated[
        float,
        typer.Option(
            help="Compute per unit of size x duration; 6 for FLOPs of a dense transformer."
        ),
    ] = 1.0,
    json_: Json = False,
) -> None:
    """The size and duration each compute is best spent on, with intervals, from a surface fitted
    to both."""
    from scaling.laws.curves.fitting import fit as fit_curve
    from scaling.laws.curves.frontier import budgets_within
    from scaling.laws.curves.frontier import frontier as best_use
    from scaling.laws.tables import direction, shaped, tasks_of
    from scaling.laws.verdicts.scores import run_scores

    documents, sentences = [], []
    for task, name, part in tasks_of(
        shaped(read_scores(table), x.split(","), y, roles(by, run, case, draw, cluster)), y, metric
    ):
        rows = run_scores(part, name)
        is_lower, bounds, _ = direction(name, rows["value"], lower)
        axes = tuple(c for c in ("size", "duration") if c in rows and rows[c].nunique() > 1)
        if len(axes) < 2:
            raise ValueError(
                f"{task}: the best use of a compute needs two sizes and two durations at least."
            )
        grouped = "cluster" if "cluster" in rows else None
        curve = fit_curve(
            rows, axes, "value", bounds=bounds, lower_is_better=is_lower, cluster=grouped
        )
        found = best_use(
            curve, numbers(compute) if compute else budgets_within(curve, flops_per), flops_per
        )
        documents.append({"task": task, "metric": name, **found.to_dict()})
        if found.exponent is None:
            sentences.append(
                f"{task} ({name}): no best size, not even a hundred times beyond the sizes that "
                "were run"
            )
        else:
            ends_of = f"({found.exponent_low:.3f} to {found.exponent_high:.3f})"
            grows = f"the best size grows as compute to the power {found.exponent:.3f} {ends_of}"
            sentences.append(
                f"{task} ({name}): {grows}; low and high are ends of {found.confidence:.0%} "
                "intervals"
            )
            sentences.append(found.table.to_string(index=False, float_format=lambda v: f"{v:.4g}"))
    emit({"frontiers": documents}, json_, sentences)
