"""What the figures and tables show, against a separate computation with plain loops, pandas and
SciPy.
"""

import base64
import json
from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from PIL import Image
from scipy import stats
from synthetic_study import (
    DURATIONS,
    SIZES,
    brain,
    synthetic_arms,
    synthetic_pretraining,
    synthetic_rates,
    synthetic_results,
    synthetic_schedules,
    synthetic_steps,
    synthetic_training,
)

from scaling.laws import find
from scaling.report import (
    ReportInput,
    View,
    fit_curves,
    forest,
    improvement,
    performance,
    pretraining_loss,
    terminal_summary,
    views,
)
from scaling.report.cards import card
from scaling.report.curves import agreement
from scaling.report.forests import REACH, against_controls
from scaling.report.images import mid_slices, montage, window
from scaling.report.losses import loss_against_compute, training_figure
from scaling.report.rows import cost_rows, pretraining_table, results_data
from scaling.report.style import si
from scaling.report.tuning import best_rates, compared, rate_sweep, schedules
from scaling.report.words import answer

AGE = View("mae", "mae", "out", "finetune", 16)


def trace(figure: go.Figure, name: str) -> go.Scatter:
    (found,) = [t for t in figure.data if t.name == name and t.hoverinfo == "text"]
    return found


def means_of_draws(results: pd.DataFrame, run: str, view: View, task: str) -> list[float]:
    """Mean over sites of each draw of a run."""
    rows = [
        r
        for r in results.to_dict("records")
        if r["run"] == run and r["task"] == task and r["metric"] == view.metric
    ]
    rows = [r for r in rows if r["domain"] == view.domain and r["protocol"] == view.protocol]
    return [
        float(np.mean([r["value"] for r in rows if r["draw"] == draw]))
        for draw in sorted({r["draw"] for r in rows})
    ]


@pytest.mark.parametrize("axis", ["size", "duration"])
def test_performance_points_are_means_over_draws_with_t_intervals(axis: str) -> None:
    results = synthetic_results()
    figure = performance(results, "brain-age", AGE, axis)
    names = {
        "size": [f"{si(d)} samples" for d in DURATIONS],
        "duration": [f"{s}, {si(p)}" for s, p in SIZES.items()],
    }[axis]
    for i, name in enumerate(names):
        points = trace(figure, name)
        runs = (
            [f"mae-{s}-seed0-{DURATIONS[i]}" for s in SIZES]
            if axis == "size"
            else [f"mae-{list(SIZES)[i]}-seed0-{d}" for d in DURATIONS]
        )
        for run, y, half, text in zip(
            runs, points.y, points.error_y.array, points.hovertext, strict=True
        ):
            draws = means_of_draws(results, run, AGE, "brain-age")
            low, high = stats.t.interval(0.90, len(draws) - 1, np.mean(draws), stats.sem(draws))
            assert y == pytest.approx(np.mean(draws))
            assert (y - half, y + half) == pytest.approx((low, high))
            assert run in text
            assert f"{low:.2f} to {high:.2f}" in text


def test_performance_control_line_is_mean_of_its_draws_per_size() -> None:
    results = synthetic_results()
    line = trace(performance(results, "brain-age", AGE, "size"), "from scratch")
    expected = [
        np.mean(means_of_draws(results, f"scratch-{s}-seed0", AGE, "brain-age")) for s in SIZES
    ]
    assert line.x == pytest.approx(list(SIZES.values()))
    assert line.y == pytest.approx(expected)
    flat = trace(performance(results, "brain-age", AGE, "duration"), "from scratch (mean of sizes)")
    assert flat.y == pytest.approx([np.mean(expected)] * 2)


def test_performance_controls_are_of_the_networks_shown() -> None:
    results = synthetic_results()
    other = results[results["size"] == "xs"].assign(params=50_000, family="unet")
    other["run"] += "-unet"
    both = pd.concat([results.assign(family="vit"), other])
    unet, vit = replace(AGE, series="mae, unet"), replace(AGE, series="mae, vit")
    line = trace(performance(both, "brain-age", unet, "size"), "from scratch")
    ladder = trace(performance(both, "brain-age", vit, "size"), "from scratch")
    assert list(ladder.x) == list(SIZES.values())
    assert line.y == pytest.approx([ladder.y[0]] * 2)  # one network: a level line


def test_performance_two_seeds_are_two_points_and_one_line_through_their_mean() -> None:
    results = synthetic_results(seeds=2)
    figure = performance(results, "brain-age", AGE, "size")
    assert len(trace(figure, "80 k samples").y) == 6
    (line,) = [t for t in figure.data if t.name == "80 k samples" and t.mode == "lines"]
    expected = [
        np.mean(
            [
                np.mean(means_of_draws(results, f"mae-{s}-seed{k}-80000", AGE, "brain-age"))
                for k in (0, 1)
            ]
        )
        for s in SIZES
    ]
    assert line.y == pytest.approx(expected)


def test_improvement_is_paired_by_draw_and_positive_when_error_falls() -> None:
    results = synthetic_results()
    figure = improvement(results, "brain-age", AGE, smallest=0.5)
    (points,) = figure.data
    rows = dict(zip(points.y, zip(points.x, points.error_x.array, strict=True), strict=True))
    assert len(rows) == 9
    for size in SIZES:
        scratch = np.array(means_of_draws(results, f"scratch-{size}-seed0", AGE, "brain-age"))
        for duration in DURATIONS:
            gain = scratch - np.array(
                means_of_draws(results, f"mae-{size}-seed0-{duration}", AGE, "brain-age")
            )
            low, high = stats.t.interval(0.90, len(gain) - 1, gain.mean(), stats.sem(gain))
            x, half = rows[f"{size} · {si(duration)}"]
            assert (x, x - half, x + half) == pytest.approx((gain.mean(), low, high))
    band = [s for s in figure.layout.shapes if s.type == "rect"]
    assert [(s.x0, s.x1) for s in band] == [(-0.5, 0.5)]


def test_improvement_of_a_probe_is_over_the_random_encoder() -> None:
    figure = improvement(synthetic_results(), "infarct", View("auroc", "mae", "out", "probe", 16))
    assert "random encoder, probe" in figure.layout.xaxis.title.text
    assert len(figure.data[0].x) == 9


def test_single_draw_has_no_interval_and_says_so() -> None:
    points = trace(
        performance(synthetic_results().query("draw == 1"), "brain-age", AGE, "size"),
        "80 k samples",
    )
    assert list(points.error_y.array) == [0.0] * 3
    assert "(one draw: no interval)" in points.hovertext[0]


def test_control_without_size_from_a_file_is_a_level_line(tmp_path: Path) -> None:
    results = synthetic_results()
    nothing = results["arm"] == "classical"
    results = results.assign(
        size=results["size"].mask(nothing), objective=results["objective"].mask(nothing)
    )
    results = results.assign(params=results["params"].astype(float).mask(nothing))
    results.to_parquet(tmp_path / "results.parquet")
    read = pd.read_parquet(tmp_path / "results.parquet")
    line = trace(performance(read, "brain-age", AGE, "size"), "classical features")
    assert line.y == pytest.approx(
        [results[nothing].query("metric == 'mae' and domain == 'out'")["value"].mean()] * 2
    )


def test_competitor_is_a_labelled_point_where_its_place_is_stated_else_a_line() -> None:
    results = synthetic_results()
    guest = results[results["arm"] == "classical"].assign(arm="guest", run="reference-guest")
    stated = pd.concat([results, guest.assign(params=50_000_000)], ignore_index=True)
    mean = guest.query("task == 'brain-age' and metric == 'mae' and domain == 'out'")[
        "value"
    ].mean()
    figure = performance(stated, "brain-age", AGE, "size")
    point = trace(figure, "guest")
    assert list(point.x) == [50_000_000]
    assert list(point.y) == pytest.approx([mean])
    assert list(point.text) == ["guest"]
    assert 10 ** figure.layout.xaxis.range[1] > 50_000_000
    line = trace(performance(stated, "brain-age", AGE, "duration"), "guest")
    assert line.mode == "lines+text"
    assert line.text[0] == "guest"
    assert list(line.y) == pytest.approx([mean] * 2)


def test_views_put_the_studys_estimand_first() -> None:
    results = synthetic_results()
    assert views(results, "brain-age")[0] == AGE
    assert views(results, "brain-age", "probe", "in")[0] == View("mae", "mae", "in", "probe", 16)
    assert len(views(results, "brain-age")) == 8
    assert views(results, "no such task") == []


def test_fitted_curves_follow_the_largest_level_and_are_drawn_with_their_band(
    study: ReportInput,
) -> None:
    assert len(study.curves) == 10  # five metrics, two axes
    curve = study.curves["infarct", "auroc", "size"]
    figure = performance(
        study.results, "infarct", View("auroc", "mae", "out", "finetune", 16), "size", curve
    )
    line = trace(figure, "fitted curve")
    mean, low, high = curve.predict(np.array(line.x))
    assert line.y == pytest.approx(list(mean))
    runs = [
        np.mean(
            means_of_draws(
                study.results,
                f"mae-{s}-seed0-80000",
                View("auroc", "", "out", "finetune", 16),
                "infarct",
            )
        )
        for s in SIZES
    ]
    assert np.interp(np.log(list(SIZES.values())), np.log(line.x), line.y) == pytest.approx(
        runs, abs=0.02
    )
    (band,) = [t for t in figure.data if t.name == "fitted curve: interval"]
    assert list(band.y) == pytest.approx([*high, *low[::-1]])


def test_curves_need_two_levels() -> None:
    results = synthetic_results().query("task == 'infarct' and size in ('s', '')")
    assert set(fit_curves(results)) == {("infarct", "auroc", "duration")}


def test_forest_shows_each_effect_in_units_of_the_smallest(study: ReportInput) -> None:
    figure = forest(study.verdicts)
    drawn = {
        y: (x, a, b)
        for t in figure.data
        if t.name != "beyond the axis"
        for y, x, a, b in zip(t.y, t.x, t.error_x.arrayminus, t.error_x.array, strict=True)
    }
    assert len(drawn) == 9
    for verdict in study.verdicts:
        effect, unit = verdict.effects[0], verdict.smallest_effect
        x, below, above = drawn[f"{verdict.task}<br>size and duration"]
        assert (x, x - below, x + above) == pytest.approx(
            (effect.estimate / unit, effect.low / unit, min(effect.high / unit, REACH))
        )


def test_forest_beyond_its_axis_keeps_the_near_end_of_the_interval(study: ReportInput) -> None:
    verdict = study.verdicts[0]
    effect = verdict.effects[0]
    far = type(effect)(
        **{
            **vars(effect),
            "estimate": 12 * verdict.smallest_effect,
            "low": 5 * verdict.smallest_effect,
            "high": 19.0,
        }
    )
    figure = forest([type(verdict)(**{**vars(verdict), "effects": (far,)})])
    points, arrow = figure.data
    assert points.marker.symbol[0] == "triangle-right"
    assert list(arrow.marker.symbol) == ["triangle-right"]
    assert points.x[0] - points.error_x.arrayminus[0] == pytest.approx(5)


def test_pretraining_loss_against_size_has_a_line_per_duration() -> None:
    figure = pretraining_loss(synthetic_pretraining(), "size", "mae")
    table = synthetic_pretraining().pivot_table("loss", "duration", "params")
    assert [t.name for t in figure.data] == [f"{si(d)} samples" for d in DURATIONS]
    for duration, line in zip(DURATIONS, figure.data, strict=True):
        assert line.x == pytest.approx(list(table.columns))
        assert line.y == pytest.approx(list(table.loc[duration]))


def test_best_rates_are_those_of_the_lowest_loss_under_either_parametrisation() -> None:
    found = best_rates(synthetic_rates())
    assert found.loc[("vit", "muP")].tolist() == [4e-3, 4e-3, 4e-3]
    assert found.loc[("vit", "standard parametrisation")].tolist() == [4e-3, 2e-3, 1e-3]


def test_rate_sweep_marks_the_best_rate_of_each_width() -> None:
    figure = rate_sweep(synthetic_rates(), "standard")
    assert [trace.name for trace in figure.data] == ["width 32", "width 64", "width 128"]
    assert [trace.x[int(np.argmax(trace.marker.size))] for trace in figure.data] == [
        4e-3,
        2e-3,
        1e-3,
    ]


def test_schedules_are_compared_in_loss_and_in_samples() -> None:
    assert compared(synthetic_schedules()) == (
        "Cooldowns of one trunk end +0.5 to +0.5 % from cosine runs trained apart, each at its "
        "best rate, for 60 % of their samples."
    )
    assert [len(trace.x) for trace in schedules(synthetic_schedules()).data] == [len(DURATIONS)] * 2


def test_cost_rows_add_up_to_all_steps() -> None:
    steps = synthetic_steps()
    rows = {row[0]: row[1:] for row in cost_rows(steps)}
    assert rows["all steps"][:3] == ["13", "12", "1"]
    assert rows["transfer"] == ["3", "2", "1", "1.5 min", "3 T", "0.03"]
    assert rows["all steps"][5] == f"{steps['estimated_hours'].sum():.3g}"
    assert cost_rows(steps.iloc[:0]) == []


def test_pretraining_table_shows_further_columns_last() -> None:
    headings, rows = pretraining_table(synthetic_pretraining().assign(peak_memory=1.5))
    assert headings[-1] == "Peak memory"
    assert rows[0][0] == "mae-xs-seed0-5000"
    assert {len(row) for row in rows} == {len(headings)}


def test_results_data_is_json_safe_and_complete() -> None:
    results = (
        synthetic_results()
        .head(4)
        .assign(value=[np.nan, np.inf, 0.123456789, 1.0], size=["a", None, "b", "c"])
    )
    data = json.loads(json.dumps(results_data(results), allow_nan=False))
    table = pd.DataFrame(dict(zip(data["columns"], data["data"], strict=True)))
    assert data["data"][data["columns"].index("value")] == [None, None, 0.123457, 1.0]
    assert list(table["run"]) == list(results["run"])


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (0, "0"),
        (7, "7"),
        (999.4, "999"),
        (999.6, "1 k"),
        (120_000, "120 k"),
        (6.8e6, "6.8 M"),
        (3.26e12, "3.26 T"),
        (float("nan"), "–"),
        (None, "–"),
    ],
)
def test_si_prefixes(x: float | None, text: str) -> None:
    assert si(x) == text


def test_mid_slices_face_front_and_crown_up() -> None:
    volume = np.zeros((5, 7, 9), np.float32)  # left-right, back-front, foot-head
    volume[2, 6, 4] = 1  # in front
    volume[2, 3, 8] = 2  # at the crown
    axial, coronal, sagittal = mid_slices(volume)
    assert (axial.shape, coronal.shape, sagittal.shape) == ((7, 5), (9, 5), (9, 7))
    assert axial[0, 2] == 1
    assert coronal[0, 2] == 2
    assert sagittal[0, 3] == 2
    assert sagittal[4, 6] == 1


def test_reconstruction_pictures_share_the_grey_window_of_the_original() -> None:
    low, high = window(brain(0.02))
    assert low == pytest.approx(np.percentile(brain(0.02), 1))
    assert high == pytest.approx(np.percentile(brain(0.02), 99.7))
    half = montage(np.full((40, 48, 40), (low + high) / 2), low, high)
    picture = np.asarray(
        Image.open(BytesIO(base64.b64decode(half.removeprefix("data:image/png;base64,"))))
    )
    assert picture.shape == (216 * 48 // 40 + 216 + 216 * 40 // 48, 216)  # axial, coronal, sagittal
    assert set(np.unique(picture)) <= {127, 128}


def test_terminal_summary_has_a_line_per_task_and_the_path(study: ReportInput) -> None:
    lines = terminal_summary(study, Path("out/report.html")).splitlines()
    assert [
        verdict.sentence in line for verdict, line in zip(study.verdicts, lines[2:5], strict=True)
    ] == [True] * 3
    assert lines[1] == "  Interim: 12 of 13 steps are done."
    assert lines[5] == "  1 problem, listed in the report."
    assert lines[6] == f"Report: {Path('out/report.html')}"


def test_report_input_without_a_column_names_it() -> None:
    with pytest.raises(
        ValueError, match="The table of results lacks domain; a report needs the columns study, run"
    ):
        ReportInput("x", synthetic_results().drop(columns="domain"))


def test_ramp_of_figures_gets_darker() -> None:
    figure = performance(
        synthetic_results(), "infarct", View("auroc", "mae", "out", "finetune", 16), "size"
    )
    colours = [t.marker.color for t in figure.data if t.mode == "markers"]
    light = [sum(float(c) for c in colour[4:-1].split(",")) for colour in colours]
    assert all(a > b for a, b in pairwise(light))


def test_series_of_several_objectives_are_one_figure_each_at_its_largest_budget() -> None:
    results = synthetic_results()
    other = results[results["arm"] == "pretrained"].assign(objective="contrastive")
    other["run"] = other["run"].str.replace("mae", "contrastive")
    both = pd.concat([results, other])
    everything = views(both, "brain-age")[0]
    assert everything == replace(AGE, series="all")
    against_size = performance(both, "brain-age", everything, "size")
    for name in ("mae", "contrastive"):
        expected = [
            np.mean(means_of_draws(both, f"{name}-{s}-seed0-80000", AGE, "brain-age"))
            for s in SIZES
        ]
        assert trace(against_size, name).y == pytest.approx(expected)
    against_compute = performance(both, "brain-age", everything, "compute")
    assert len(trace(against_compute, "mae").x) == 9
    lines = [t for t in against_compute.data if t.name == "mae" and t.mode == "lines"]
    assert [len(line.x) for line in lines] == [3, 3, 3]  # a line per network joins its durations


def test_compute_axis_shows_the_flops_of_each_run() -> None:
    results = synthetic_results()
    figure = performance(results, "brain-age", AGE, "compute")
    shown = sorted(x for t in figure.data if t.mode == "markers" for x in t.x)
    assert shown == pytest.approx(sorted(6.0 * p * d for p in SIZES.values() for d in DURATIONS))


def test_compute_axis_without_flops_is_parameters_times_samples() -> None:
    figure = performance(synthetic_results().assign(flops=np.nan), "brain-age", AGE, "compute")
    assert "parameters × samples" in figure.layout.xaxis.title.text
    shown = sorted(x for t in figure.data if t.mode == "markers" for x in t.x)
    assert shown == pytest.approx(sorted(float(p * d) for p in SIZES.values() for d in DURATIONS))


def test_card_states_the_effect_in_the_metrics_unit(study: ReportInput) -> None:
    age = card(study, "brain-age", "brain-age")
    verdict = study.verdict("brain-age")
    budget = verdict.effects[0]
    start, end = verdict.baseline, verdict.baseline * (1 - budget.estimate)
    assert f"Mean absolute error from {start:.2f} to {end:.2f} years" in age.effect
    assert f"−{budget.high * start:.2f} to −{budget.low * start:.2f}" in age.effect
    ratio = 6_800_000 * 80_000 / (120_000 * 5_000)
    assert age.tried.startswith(f"{ratio:.3g} times the compute: from 120 k parameters")
    assert "estimating age" in age.answer


def test_card_of_a_task_with_missing_runs_is_interim_and_gives_no_verdict(
    study: ReportInput,
) -> None:
    partial = replace(study, runs={"infarct": (3, 9), "meningioma": (9, 9), "brain-age": (9, 9)})
    infarct = card(partial, "infarct", "infarct")
    assert infarct.decision == "interim"
    assert infarct.answer == "No verdict yet: 3 of 9 runs have finished."
    assert "improves meningioma" in answer(partial)
    assert answer(partial).endswith("There is no verdict for infarct yet.")
    assert "infarct: interim, from 3 of 9 runs; no verdict yet." in terminal_summary(
        partial, Path("report.html")
    )


def test_answer_speaks_only_of_what_was_varied(study: ReportInput) -> None:
    one_size = [replace(v, sizes=1, durations=3) for v in study.verdicts]
    assert answer(replace(study, verdicts=one_size)).startswith("A model pretrained for longer")
    one_duration = [replace(v, sizes=3, durations=1) for v in study.verdicts]
    assert answer(replace(study, verdicts=one_duration)).startswith("A larger model improves")


def test_curve_and_card_that_disagree_say_why(study: ReportInput) -> None:
    verdict, curve = study.verdict("infarct"), study.curves["infarct", "auroc", "size"]
    low, high = float(SIZES["xs"]), float(SIZES["m"])
    assert "lies within the card's interval" in agreement(curve, verdict, "size", low, high)
    size = replace(verdict.effect("size"), low=0.5, high=0.6)
    far = replace(verdict, effects=(verdict.effects[0], size))
    assert "lies outside of the card's interval" in agreement(curve, far, "size", low, high)


def test_loss_frontier_is_the_lowest_loss_of_no_more_compute() -> None:
    runs = synthetic_pretraining().sort_values("flops")
    (frontier,) = [
        t for t in loss_against_compute(synthetic_pretraining(), "mae").data if t.name == "frontier"
    ]
    expected = [runs["loss"].iloc[: place + 1].min() for place in range(len(runs))]
    assert frontier.y == pytest.approx(expected)


def test_training_figure_draws_trunk_and_cooldowns_of_a_run_in_one_colour() -> None:
    figure = training_figure(synthetic_training(), "mae")
    assert len({t.legendgroup for t in figure.data}) == len(SIZES)
    assert sum(bool(t.showlegend) for t in figure.data) == len(SIZES)
    for size in SIZES:
        of_run = [t for t in figure.data if t.legendgroup == f"mae-{size}-seed0"]
        assert {t.line.dash for t in of_run} == {"solid", "dot"}
        assert len({t.line.color for t in of_run}) == 1
        (cooldowns,) = [t for t in of_run if t.line.dash == "dot"]
        assert list(cooldowns.x).count(None) == len(DURATIONS) - 1


def test_forest_of_controls_is_in_units_of_the_smallest_effect() -> None:
    cases = synthetic_arms()
    findings = find({("infarct", "dice"): cases}, {"dice": 0.01})
    (one,) = [a for a in findings.against if a.objective == "all"]
    figure = against_controls(findings)
    assert figure.data[0].x[0] == pytest.approx(one.comparison.effect.estimate / 0.01)
    (row,) = figure.layout.meta["table"]["rows"]
    assert row[4] == one.comparison.effect.decision


def test_card_of_one_size_says_so_and_asks_for_seeds_where_nothing_tells_the_scatter(
    study: ReportInput,
) -> None:
    of_one_size = study.results.query("size in ('s', '')")
    verdict = study.verdict("infarct")
    budget = replace(verdict.effects[0], low=None, high=None)
    unknown = replace(verdict, decision="undetermined", effects=(budget,), sizes=1)
    infarct = card(replace(study, results=of_one_size, verdicts=[unknown]), "infarct", "infarct")
    assert infarct.tried.endswith("from 5 k to 80 k samples at 900 k parameters; 3 models")
    assert infarct.advice == "Repeat every run with two more seeds at least to settle it."
    assert "no interval" in infarct.effect
