"""What the figures and tables show, against a separate computation with plain loops, pandas and SciPy."""

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
    synthetic_pretraining,
    synthetic_rates,
    synthetic_results,
    synthetic_schedules,
    synthetic_steps,
)

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
from scaling.report.images import mid_slices, montage, window
from scaling.report.rows import cost_rows, pretraining_table, results_data
from scaling.report.style import si
from scaling.report.tuning import best_rates, compared, rate_sweep, schedules

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
    other = results[results["size"] == "xs"].assign(size="unet-xs", params=50_000)
    other["objective"] = other["objective"].where(other["arm"] != "pretrained", "mae, unet")
    other["run"] += "-unet"
    both = pd.concat([results, other])
    line = trace(
        performance(both, "brain-age", replace(AGE, objective="mae, unet"), "size"), "from scratch"
    )
    ladder = trace(performance(both, "brain-age", AGE, "size"), "from scratch")
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
        for y, x, a, b in zip(t.y, t.x, t.error_x.arrayminus, t.error_x.array, strict=True)
    }
    assert len(drawn) == 9
    for verdict in study.verdicts:
        effect, unit = verdict.effects[0], verdict.smallest_effect
        x, below, above = drawn[f"{verdict.task}<br>size and duration"]
        assert (x, x - below, x + above) == pytest.approx(
            (effect.estimate / unit, effect.low / unit, effect.high / unit)
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
    (points,) = figure.data
    assert points.marker.symbol[0] == "triangle-right"
    assert points.x[0] - points.error_x.arrayminus[0] == pytest.approx(5)


def test_pretraining_loss_against_size_has_a_line_per_duration() -> None:
    figure = pretraining_loss(synthetic_pretraining(), "size", "mae")
    table = synthetic_pretraining().pivot_table("loss", "duration", "params")
    assert [t.name for t in figure.data] == [f"{si(d)} samples" for d in DURATIONS]
    for duration, line in zip(DURATIONS, figure.data, strict=True):
        assert line.x == pytest.approx(list(table.columns))
        assert line.y == pytest.approx(list(table.loc[duration]))


def test_best_rates_are_those_of_the_lowest_loss_and_the_base_belongs_to_both_parametrisations() -> (
    None
):
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
        "Cooldowns of one trunk end +0.5 to +0.5 % from cosine runs trained apart, each at its best rate, for 60 % of their samples."
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
        verdict.sentence in line for verdict, line in zip(study.verdicts, lines[1:4], strict=True)
    ] == [True] * 3
    assert lines[4] == "  1 problem, listed in the report."
    assert lines[5] == f"Report: {Path('out/report.html')}"


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
