"""The verbs on tables, from a user's own csv, right and wrong."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from scaling.cli import app
from scaling.study.challenge import load_challenge

RUNNER = CliRunner()


def _own(seeds: int = 2, gain: float = 0.1) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    level = 0.1 * rng.normal(size=20)
    rows = [
        (
            size,
            duration,
            seed,
            task,
            case,
            0.5 + g * (i + j) / 4 + level[case] + run + 0.03 * rng.normal(),
        )
        for task, g in (("infarct", gain), ("meningioma", 0.0))
        for i, size in enumerate((1e6, 4e6, 16e6))
        for j, duration in enumerate((1e4, 2e4, 4e4))
        for seed in range(seeds)
        for run in [0.003 * rng.normal()]
        for case in range(20)
    ]
    return pd.DataFrame(rows, columns=["size", "duration", "seed", "task", "case", "value"])


def _run(tmp_path, table: pd.DataFrame, *arguments: str):
    table.to_csv(tmp_path / "own.csv", index=False)
    verb, *rest = arguments
    return RUNNER.invoke(app, [verb, str(tmp_path / "own.csv"), *rest], catch_exceptions=True)


def _json(result) -> dict:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_fit_own_table_gives_a_curve_per_task(tmp_path) -> None:
    curves = _json(
        _run(tmp_path, _own(), "fit", "--x", "size", "--y", "value", "--at", "6.4e7", "--json")
    )["curves"]
    assert [c["task"] for c in curves] == ["infarct", "meningioma"]
    assert curves[0]["rows"] == 18
    assert all(f["converged"] for f in curves[0]["forms"] if f["weight"] > 0.2)
    at = curves[0]["predictions"][0]
    assert at["low"] < at["mean"] < at["high"]
    text = _run(
        tmp_path, _own(), "fit", "--x", "size,duration", "--y", "value", "--forms", "additive_logs"
    ).stdout
    assert "additive_logs" in text


def test_frontier_own_losses_name_the_best_size_of_each_compute(tmp_path) -> None:
    size, duration = (
        v.ravel()
        for v in np.meshgrid(np.geomspace(1e6, 1e8, 6), np.geomspace(1e8, 1e10, 6), indexing="ij")
    )
    table = pd.DataFrame(
        {
            "size": size,
            "duration": duration,
            "loss": 1.5 + 400 * size**-0.35 + 500 * duration**-0.30,
        }
    )
    arguments = ("frontier", "--y", "loss", "--compute", "1e16,1e17", "--flops-per", "6")
    found = _json(_run(tmp_path, table, *arguments, "--json"))["frontiers"][0]
    ratio = (0.35 * 400 / (0.30 * 500)) ** (1 / 0.65)  # Hoffmann et al. 2022, equation 4
    assert [row["size"] for row in found["table"]] == [
        pytest.approx(ratio * (c / 6) ** (0.30 / 0.65), rel=0.2) for c in (1e16, 1e17)
    ]
    assert "compute to the power 0.4" in _run(tmp_path, table, *arguments).stdout


def test_fit_options_of_loss_prior_and_forms_reach_the_fit(tmp_path) -> None:
    table = pd.DataFrame({"size": np.geomspace(1e6, 1e9, 8)}).assign(
        loss=lambda t: 3 * (t["size"] / 1e6) ** -0.1
    )
    table.loc[3, "loss"] *= 2
    arguments = ("fit", "--x", "size", "--y", "loss", "--forms", "power", "--prior", "0", "--json")
    plain, robust = (
        _json(_run(tmp_path, table, *arguments, *more))["curves"][0]["forms"][0]
        for more in ((), ("--huber", "0.001"))
    )
    assert robust["parameters"]["alpha"] == pytest.approx(0.1, rel=1e-3)
    assert abs(plain["parameters"]["alpha"] - 0.1) > abs(robust["parameters"]["alpha"] - 0.1)
    wrong = _run(tmp_path, table, "fit", "--x", "size", "--y", "loss", "--forms", "cubic")
    assert "No form is called cubic" in str(wrong.exception)


def test_verdict_own_table_decides_per_task(tmp_path) -> None:
    verdicts = _json(_run(tmp_path, _own(), "verdict", "--effect", "0.03", "--json"))["verdicts"]
    assert [v["decision"] for v in verdicts] == ["improves", "no worthwhile improvement"]
    assert verdicts[0]["trend_p_holm"] < 0.01 < verdicts[1]["trend_p_holm"]
    assert verdicts[0]["runs"] == 18


def test_verdict_semicolons_and_decimal_commas_are_read(tmp_path) -> None:
    expected = _json(_run(tmp_path, _own(), "verdict", "--json"))
    _own().to_csv(tmp_path / "excel.csv", index=False, sep=";", decimal=",", encoding="utf-8-sig")
    result = RUNNER.invoke(app, ["verdict", str(tmp_path / "excel.csv"), "--json"])
    assert json.loads(result.stdout) == expected


def test_verdict_labels_and_predictions_are_judged_by_auroc(tmp_path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        (size, seed, case, case % 2, (case % 2) * i + rng.normal())
        for i, size in enumerate((1e6, 4e6, 16e6))
        for seed in range(3)
        for case in range(60)
    ]
    table = pd.DataFrame(rows, columns=["size", "seed", "case", "label", "prediction"])
    found = _json(_run(tmp_path, table, "verdict", "--x", "size", "--json"))["verdicts"][0]
    gain = [
        np.mean([roc_auc_score(run["label"], run["prediction"]) for _, run in part.groupby("seed")])
        for _, part in table.groupby("size")
    ]
    assert found["metric"] == "auroc"
    assert found["effects"][0]["estimate"] == pytest.approx(gain[2] - gain[0])


def test_verdict_objectives_of_a_table_are_blocks(tmp_path) -> None:
    table = pd.concat([_own().assign(objective="mae"), _own(gain=0.0).assign(objective="hybrid")])
    found = _json(_run(tmp_path, table, "verdict", "--effect", "0.03", "--json"))["verdicts"][0]
    assert "Averaged over hybrid, mae." in found["notes"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"value": lambda t: 100 * t["value"]},
            "nothing is known of value, and it is not within 0 and 1",
        ),
        ({"metric": "dice", "value": lambda t: 100 * t["value"]}, "dice lies between 0 and 1"),
        (
            {"size": lambda t: (t["size"] / 1e6).map("{:.0f}M".format)},
            "Column size holds .* entries that are not positive numbers, .*'1M'",
        ),
        ({"size": 0}, "Column size holds .* entries that are not positive numbers"),
    ],
)
def test_verdict_table_that_would_mislead_is_refused(tmp_path, change, message) -> None:
    table = _own().assign(**change)
    result = _run(tmp_path, table, "verdict")
    assert result.exit_code != 0
    assert re.search(message, str(result.exception))


def test_verdict_table_with_columns_of_other_names_is_read(tmp_path) -> None:
    table = (
        _own()
        .rename(columns={"size": "params", "task": "organ", "value": "dice", "case": "scan"})
        .drop(columns="duration")
    )
    result = _run(
        tmp_path,
        table.drop_duplicates(["params", "seed", "organ", "scan"]),
        "verdict",
        "--x",
        "params",
        "--value",
        "dice",
        "--by",
        "organ",
        "--case",
        "scan",
        "--json",
    )
    assert [v["task"] for v in _json(result)["verdicts"]] == ["infarct", "meningioma"]


def test_verdict_one_seed_and_no_case_column_say_what_is_lost(tmp_path) -> None:
    bare = _own(seeds=1).groupby(["size", "duration", "task"], as_index=False)["value"].mean()
    result = _run(tmp_path, bare, "verdict", "--effect", "0.02")
    assert result.exit_code == 0
    assert "No case column" in result.stdout
    assert "No run column" in result.stdout


def test_page_own_table_holds_curves_and_verdicts(tmp_path) -> None:
    result = _run(tmp_path, _own(), "report", "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    html = (tmp_path / "out" / "own" / "report.html").read_text()
    assert "infarct" in html
    assert "meningioma" in html
    assert "out of domain" not in html, "a table does not tell where its cases come from"


def test_rank_table_of_models_and_control(tmp_path) -> None:
    table = pd.DataFrame(
        {
            "team": list("abcs"),
            "t1_auroc": [0.9, 0.8, 0.7, 0.75],
            "t3_mae": [9.0, 12, 11, 11.5],
            "objective": ["mae", "mae", "hybrid", ""],
        }
    )
    result = _json(_run(tmp_path, table, "rank", "--control", "s", "--json"))
    assert [r["model"] for r in result["ranking"]] == ["a", "b", "c"]
    assert result["better_than"][0] | {"share": 0} == {
        "control": "s",
        "task": "t1",
        "metric": "t1_auroc",
        "better": 2,
        "of": 3,
        "share": 0,
    }
    assert {r["objective"] for r in result["rank_differences"]} == {"mae", "hybrid"}


def test_rank_where_compares_controls_with_the_chosen_rows_only(tmp_path) -> None:
    # Team a entered both tracks; its row on the open track is no row of the method track.
    table = pd.DataFrame(
        {
            "team": ["a", "b", "a", "d", "baseline"],
            "track": ["method", "method", "open", "open", "organisers"],
            "t1_auroc": [0.6, 0.8, 0.9, 0.9, 0.7],
        }
    )
    options = ("rank", "--where", "track=method", "--control", "baseline", "--json")
    (row,) = _json(_run(tmp_path, table, *options))["better_than"]
    assert (row["better"], row["of"]) == (1, 2)


def test_rank_where_of_the_published_method_track_compares_with_twelve_models(tmp_path) -> None:
    # The site lists both baselines on the method track; three teams are on both tracks, and their
    # rows on the open one made 15 models of 12.
    published = pd.read_csv(load_challenge("fomo25").leaderboard, comment="#")
    published["track"] = published["track"].replace("method(organisers)", "method")
    options = ("rank", "--where", "track=method", "--control", "baseline_unet_b", "--json")
    rows = _json(_run(tmp_path, published, *options))["better_than"]
    (row,) = [row for row in rows if row["metric"] == "infarct_auroc"]
    assert (row["better"], row["of"]) == (10, 12)


def test_rank_by_a_challenge_takes_its_weights_and_says_what_has_no_column(tmp_path) -> None:
    table = pd.DataFrame(
        {
            "team": list("ab"),
            "t1_auroc": [0.9, 0.8],
            "t4_dice": [0.1, 0.3],
            "brain-age_mae": [9.0, 12],
        }
    )
    run = _run(tmp_path, table, "rank", "--challenge", "fomo26", "--json")
    ranking = {row["model"]: row["overall"] for row in _json(run)["ranking"]}
    weights = np.array([0.1, 0.25, 0.1]) / 0.45
    assert ranking["b"] == pytest.approx(weights @ [2, 1, 2])
    assert ranking["a"] == pytest.approx(weights @ [1, 2, 1])


def test_rank_per_case_table_gives_tiers(tmp_path) -> None:
    rng = np.random.default_rng(0)
    rows = [(m, "seg", "dice", c, i + rng.normal()) for i, m in enumerate("abc") for c in range(30)]
    table = pd.DataFrame(rows, columns=["model", "task", "metric", "case", "value"])
    ranking = _json(_run(tmp_path, table, "rank", "--json"))["ranking"]
    assert [r["model"] for r in ranking] == ["c", "b", "a"]
    assert ranking[-1]["tier"] > 1


def test_extrapolate_prints_error_and_coverage(tmp_path) -> None:
    x = np.geomspace(1e6, 1e8, 30)
    table = pd.DataFrame({"x": x, "loss": 0.2 + (x / 1e6) ** -0.4, "train": (x < 5e7).astype(int)})
    result = _json(
        _run(
            tmp_path, table, "extrapolate", "--x", "x", "--y", "loss", "--train", "train", "--json"
        )
    )
    assert result["rmsle"] < 0.01
    assert result["coverage"] == 1.0


def _copied(table: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([table, table.groupby("task").head(3)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="value"), "no column value"),
        (lambda t: t.drop(columns="size"), "no column size"),
        (lambda t: t.assign(value=t["value"].where(t["case"] != 3)), "missing entries"),
        (lambda t: t[(t["size"] == 1e6) & (t["duration"] == 1e4)], "at least two"),
        (_copied, "repeat a run, draw and case"),
        (lambda t: _copied(t.drop(columns="seed")), "exact copies"),
        (lambda t: t.iloc[:0], "no rows"),
    ],
)
def test_verdict_wrong_table_ends_in_one_clear_sentence(tmp_path, change, message: str) -> None:
    result = _run(tmp_path, change(_own()), "verdict", "--effect", "0.02")
    assert isinstance(result.exception, ValueError)
    assert message in str(result.exception)


def test_verdict_one_task_that_cannot_be_judged_leaves_the_others(tmp_path) -> None:
    table = _own()
    result = _run(tmp_path, pd.concat([table, table.iloc[:1]]), "verdict", "--effect", "0.03")
    assert result.exit_code == 1
    assert "no verdict on infarct: 1 rows repeat" in result.stdout
    assert "meningioma: more budget brings no improvement" in result.stdout


def test_verdict_constant_metric_says_that_it_does_not_move(tmp_path) -> None:
    result = _run(tmp_path, _own().assign(value=0.0), "verdict", "--effect", "0.02")
    assert "does not move" in result.stdout


def test_fit_one_size_only_says_that_two_are_needed(tmp_path) -> None:
    result = _run(tmp_path, _own().query("size == 1e6"), "fit", "--x", "size", "--y", "value")
    assert "needs at least two" in str(result.exception)


def test_verdict_file_that_is_no_table_is_refused(tmp_path) -> None:
    (tmp_path / "own.xlsx").write_text("")
    result = RUNNER.invoke(app, ["verdict", str(tmp_path / "own.xlsx")])
    assert "is not a table" in str(result.exception)
