"""The verbs that decide from anybody's csv or parquet: verdicts and designs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.cli.own_study import folder_of_study, print_verdict_of_study, standing_of
from scaling.cli.own_tables import read_scores
from scaling.cli.table_options import (
    PANEL,
    Block,
    By,
    Case,
    Cluster,
    Draw,
    Effect,
    Independent,
    Json,
    Lower,
    Metric,
    Patient,
    Run,
    Site,
    Table,
    X,
    emit,
    numbers,
    roles,
)

if TYPE_CHECKING:
    import pandas as pd

    from scaling.laws.verdicts.design import Proposal
    from scaling.laws.verdicts.power import OperatingCharacteristics
    from scaling.laws.verdicts.simulate import Noise

verdicts_app = typer.Typer()


@verdicts_app.command(rich_help_panel=PANEL)
def verdict(
    table: Table,
    x: X = "size,duration",
    y: Annotated[str, typer.Option("--y", "--value", help="Column of scores.")] = "value",
    by: By = None,
    run: Run = None,
    case: Case = None,
    draw: Draw = None,
    cluster: Cluster = None,
    block: Block = None,
    metric: Metric = None,
    site: Site = None,
    patient: Patient = None,
    independent: Independent = False,
    lower: Lower = None,
    effect: Effect = None,
    relative: Annotated[
        bool | None, typer.Option(help="The smallest effect is a fraction of the baseline.")
    ] = None,
    json_: Json = False,
) -> None:
    """Does more budget help each task? One decision with an error bar, for a stated smallest
    effect worth having. Of a study's folder: its own question, after who had seen the test
    cases."""
    from scaling.laws.per_task import judged
    from scaling.laws.tables import shaped
    from scaling.laws.verdicts.published import (
        axes_of_published,
        is_published,
        published_verdict,
    )

    folder = folder_of_study(table)
    if folder is not None and not table.name.startswith("results"):
        print_verdict_of_study(folder, json_)
        return
    first = standing_of(folder) if folder else []
    scores = read_scores(table)
    if is_published(scores):
        result = published_verdict(scores, axes_of_published(scores, tuple(x.split(","))))
        emit(result.to_dict(), json_, list(result.sentences))
        return
    names = roles(by, run, case, draw, cluster, block, site, patient)
    data = shaped(scores, x.split(","), y, names, independent)
    verdicts, problems = judged(data, y, metric, lower, effect, relative)
    if not verdicts:
        raise ValueError("; ".join(problems))
    sentences = [*first, _budgets(data)] + [
        s for v in verdicts for s in (v.sentence, *(f"  {note}" for note in v.notes))
    ]
    document = {
        "standing": first,
        "verdicts": [v.to_dict() for v in verdicts],
        "problems": problems,
    }
    emit(document, json_, [*sentences, *problems])
    if problems:
        raise typer.Exit(1)


def _budgets(data: "pd.DataFrame") -> str:
    """What "more budget" means in a table."""
    ends = [
        f"{axis} {data[axis].min():.4g} to {data[axis].max():.4g}"
        for axis in ("size", "duration")
        if axis in data
    ]
    return f"More budget: from the smallest to the largest, {', '.join(ends)}."


@verdicts_app.command(rich_help_panel=PANEL)
def design(
    budget: Annotated[float, typer.Option(help="Accelerator-hours to spend on pretraining.")],
    sizes: Annotated[str, typer.Option(help="Sizes to choose from, e.g. 1e6,4e6,16e6.")] = "",
    durations: Annotated[str, typer.Option(help="Durations to choose from.")] = "",
    *,
    largest: Annotated[
        float,
        typer.Option(
            help="Hours of one run of the largest size and duration; others as size x duration."
        ),
    ],
    cases: Annotated[str, typer.Option(help="Numbers of test cases to choose from.")] = "100,300",
    effect: Annotated[float, typer.Option(help="Smallest effect worth having.")] = 0.02,
    gain: Annotated[
        float | None,
        typer.Option(help="Gain that is hoped for (default: twice the smallest effect)."),
    ] = None,
    pilot: Annotated[
        Path | None,
        typer.Option(
            help="Table of a pilot to take the noise from: size, duration, run, case, value."
        ),
    ] = None,
    run_sd: Annotated[float, typer.Option(help="Scatter between cooldowns.")] = 0.01,
    trunk_sd: Annotated[float, typer.Option(help="Scatter between trunks.")] = 0.01,
    case_effect_sd: Annotated[
        float, typer.Option(help="How differently cases answer to more budget.")
    ] = 0.1,
    run_case_sd: Annotated[float, typer.Option(help="Scatter of a run on one case.")] = 0.15,
    shared_trunks: Annotated[bool, typer.Option(help="Durations branch off one trunk.")] = True,
    sites: Annotated[
        str | None, typer.Option(help="Numbers of test sites to compare, e.g. 3,5,10.")
    ] = None,
    site_sd: Annotated[
        float, typer.Option(help="How much the gain differs between sites (usual of AUROC: .055).")
    ] = 0.055,
    show: Annotated[int, typer.Option(help="Designs to simulate and show.")] = 3,
    given: Annotated[
        Path | None,
        typer.Option(help="Results of a study: what to add to its runs, instead of a new study."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="With --given: narrow the forecast at SIZE/DURATION, not the verdict."),
    ] = None,
    json_: Json = False,
) -> None:
    """Which cells, seeds and test cases to spend a budget on; with power, error rate and interval
    coverage by simulation. With --given: what to run next."""
    from scaling.cli.next_runs import added_to
    from scaling.laws.plain import plain
    from scaling.laws.verdicts.design import (
        half_width_over_sites,
        proportional_hours,
        propose,
        simulated,
    )
    from scaling.laws.verdicts.simulate import Noise, study_runs

    site_numbers = [int(number) for number in numbers(sites)] if sites else []
    if given:
        point = numbers(target.replace("/", ",")) if target else None
        document, sentences = added_to(
            read_scores(given), largest, budget, point, site_numbers, site_sd
        )
        emit(document, json_, sentences)
        return
    if not sizes or not durations:
        raise ValueError("Give --sizes and --durations to choose from, or --given RESULTS.")
    ladder, lengths = numbers(sizes), numbers(durations)
    noise = Noise(
        trunk=trunk_sd, run=run_sd, case=0.0, case_effect=case_effect_sd, run_case=run_case_sd
    )
    if pilot:
        noise = _noise_of_pilot(pilot)
    proposals = propose(
        ladder,
        lengths,
        [int(n) for n in numbers(cases)],
        proportional_hours(ladder, lengths, largest),
        budget,
        noise,
        shared_trunks,
    )
    hoped = 2 * effect if gain is None else gain
    sentences = [
        f"{len(proposals)} designs fit {budget:g} accelerator-hours. For a gain of {hoped:g} and a "
        f"smallest effect of {effect:g}:"
    ]
    documents: list[dict[str, Any]] = []
    for proposal in [simulated(p, noise, hoped, effect) for p in proposals[:show]]:
        if proposal.null is None or proposal.real is None:
            continue
        runs = study_runs(proposal.grid)
        over_sites = {
            number: half_width_over_sites(runs, noise, proposal.grid.cases, number, site_sd)
            for number in site_numbers
        }
        documents.append({**proposal.to_dict(), "half_width_over_sites": plain(over_sites)})
        sentences.append(_design_sentence(proposal, proposal.null, proposal.real))
        for number, half in over_sites.items():
            if half is not None:
                sentences.append(f"    over sites like {number} of them: +-{half:.3f}")
    emit({"noise": vars(noise), "designs": documents}, json_, sentences)


def _noise_of_pilot(pilot: Path) -> "Noise":
    """The scatter in a table of a pilot. Raises ValueError where it holds several tasks."""
    from scaling.laws.tables import read_table, shaped
    from scaling.laws.verdicts.design import noise_of
    from scaling.laws.verdicts.scores import scores_on_axes

    table = read_table(pilot)
    axes = [column for column in ("size", "duration") if column in table]
    tasks = table["task"].nunique(dropna=False) if "task" in table else 1
    if tasks > 1:
        raise ValueError(f"{pilot} holds {tasks} tasks, whose noise differs: give a table of one.")
    return noise_of(scores_on_axes(shaped(table, axes, "value", {}), "value"))


def _design_sentence(
    proposal: "Proposal", null: "OperatingCharacteristics", real: "OperatingCharacteristics"
) -> str:
    """A simulated design, and how its verdict behaves without an effect and with the real one."""
    grid = proposal.grid
    settled = 1 - null.decisions.get("undetermined", 0.0)
    return (
        f"  sizes {', '.join(f'{size:.3g}' for size in grid.sizes)}; durations "
        f"{', '.join(f'{duration:.3g}' for duration in grid.durations)}; {grid.seeds} seeds; "
        f"{grid.cases} cases; {proposal.hours:.3g} hours: interval +-{proposal.half_width:.3f}; "
        f"improvement found in {real.claims:.0%}, "
        f"shown worthwhile in {real.decisions.get('improves', 0.0):.0%}; "
        f"without effect claimed in {null.claims:.1%}, settled in {settled:.0%}, "
        f"interval right in {null.coverage:.0%}"
    )
