"""A whole study from the command line: finished, rerun, killed, changed, and fed wrong input."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

from scaling.runs.experiment import load_study
from scaling.runs.plan import make_plan
from scaling.runs.steps import PretrainStep
from scaling.training.checkpoint import restore
from scaling.training.mesh import make_mesh
from scaling.training.program import pretraining_program
from tests.conftest import EXPERIMENT, environment, scaling

STUDY = Path("runs/micro")


def table(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(folder / STUDY / name)


def test_finished_study_has_a_row_for_every_run_draw_site_and_metric(finished: Path) -> None:
    results = table(finished, "results.parquet")
    assert list(results.columns) == [
        "study",
        "run",
        "arm",
        "objective",
        "family",
        "size",
        "params",
        "fraction",
        "duration",
        "flops",
        "seed",
        "trunk",
        "task",
        "protocol",
        "shots",
        "draw",
        "rate",
        "site",
        "domain",
        "metric",
        "value",
        "cases",
    ]
    keys = ["run", "arm", "task", "protocol", "shots", "draw", "site", "metric"]
    assert not results.duplicated(keys).any()
    pretrained = results[results["arm"] == "pretrained"]
    assert set(pretrained["run"]) == {"mae-xxs-seed0-160", "mae-xxs-seed0-320"}
    assert set(results["arm"]) == {"pretrained", "scratch", "random", "classical", "histogram"}
    assert set(results["domain"]) == {"in", "out"}
    metrics = results.groupby("task")["metric"].unique().map(sorted).to_dict()
    assert metrics == {
        "infarct": ["auroc"],
        "meningioma": ["dice", "nsd"],
        "brain-age": ["mae", "pearson"],
    }
    as_csv = pd.read_csv(finished / STUDY / "results.csv").fillna({"size": "", "family": ""})
    pd.testing.assert_frame_equal(results, as_csv, check_dtype=False)


def test_results_are_the_metrics_of_the_predictions(finished: Path) -> None:
    results, predictions = (
        table(finished, "results.parquet"),
        table(finished, "predictions.parquet"),
    )
    keys = ["run", "protocol", "draw", "site"]
    ages = predictions[predictions["task"] == "brain-age"]
    expected = (
        (ages["prediction"] - ages["label"]).abs().groupby([ages[key] for key in keys]).mean()
    )
    found = results[(results["task"] == "brain-age") & (results["metric"] == "mae")].set_index(
        keys
    )["value"]
    np.testing.assert_allclose(found.sort_index(), expected.sort_index())


def test_arms_share_their_test_cases(finished: Path) -> None:
    for _, cases in table(finished, "predictions.parquet").groupby("task"):
        tested = cases.groupby(["run", "protocol", "draw"])["case"].agg(
            lambda ids: tuple(sorted(ids))
        )
        assert len(set(tested)) == 1


def test_finished_study_has_its_page_and_says_its_verdicts(finished: Path) -> None:
    page = (finished / STUDY / "report.html").read_text()
    summary = (finished / STUDY / "summary.txt").read_text()
    for task in ("infarct", "meningioma", "brain-age"):
        assert task in page
        assert f"{task}: " in summary
    assert "report.html" in summary


def test_every_step_says_what_it_ran_with(finished: Path) -> None:
    for marker in (finished / STUDY).rglob("DONE"):
        provenance = json.loads((marker.parent / "provenance.json").read_text())
        assert provenance["jax"]
        assert "cpu" in provenance["devices"]
        assert json.loads((marker.parent / "config.json").read_text())["kind"]


def test_metrics_are_logged_once_per_step_and_sample_count(finished: Path) -> None:
    rows = [
        json.loads(line)
        for line in (finished / STUDY / "pretrain/mae-xxs-seed0-trunk-256/metrics.jsonl")
        .read_text()
        .splitlines()
    ]
    assert [row["step"] for row in rows] == list(range(16, 32))
    assert [row["samples"] for row in rows] == [8 * (row["step"] + 1) for row in rows]
    assert all(0 <= row["input_wait"] <= 1 and row["samples_per_second"] > 0 for row in rows)
    assert all(
        row["utilisation"]
        == pytest.approx(row["samples_per_second"] * row["flops"] / row["samples"] / 2e11)
        for row in rows
    )


def test_rerun_of_a_finished_study_does_nothing_and_prints_the_verdicts(finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (finished / STUDY).rglob("*")}
    done = scaling("run", EXPERIMENT, folder=finished)
    assert done.returncode == 0
    assert "steps are done" in done.stdout
    assert "brain-age" in done.stdout
    assert "edited" not in done.stdout
    scan = next((finished / "cohort").rglob("t1.nii.gz"))
    stamp = scan.stat()
    os.utime(scan, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))
    edited = scaling("run", EXPERIMENT, folder=finished)
    os.utime(scan, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert edited.returncode == 0
    assert "1 scans or their masks were edited since they were prepared" in edited.stdout
    assert {path: path.stat().st_mtime_ns for path in (finished / STUDY).rglob("*")} == before


def test_status_and_plan_show_a_finished_study(finished: Path) -> None:
    status = scaling("status", EXPERIMENT, folder=finished)
    assert status.returncode == 0
    assert "report.html" in status.stdout
    plan = scaling("plan", EXPERIMENT, folder=finished)
    rows = [
        line
        for line in plan.stdout.splitlines()
        if line.startswith(("phantom", "prepare", "pretrain/", "transfer/", "collect", "report"))
    ]
    assert len(rows) == 20
    assert "times the pretraining" in plan.stdout


def test_changed_config_is_refused_and_nothing_is_touched(finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (finished / STUDY).rglob("*")}
    refused = scaling("run", EXPERIMENT, "--set", "pretrain.learning_rate=0.01", folder=finished)
    assert refused.returncode == 2
    assert "pretrain.learning_rate was 0.0015, is 0.01" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert {path: path.stat().st_mtime_ns for path in (finished / STUDY).rglob("*")} == before


def wait_and_kill(folder: Path, ready: Callable[[Path], bool]) -> None:
    """Start the study, wait until `ready(study folder)`, and kill it the hard way."""
    command = [sys.executable, "-m", "scaling", "run", str(EXPERIMENT)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(
        command, cwd=folder, env=environment(), start_new_session=True, **quiet
    )
    deadline = time.monotonic() + 240
    while not ready(folder / STUDY):
        assert process.poll() is None, "the study ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def logged(run: Path) -> list[tuple[float, ...]]:
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [(row["step"], row["loss"], row["learning_rate"], row["gradient_norm"]) for row in rows]


def final_state(folder: Path, name: str) -> list[np.ndarray]:
    step = next(step for step in make_plan(load_study(EXPERIMENT)).steps if step.name == name)
    assert isinstance(step.config, PretrainStep)
    program = pretraining_program(
        step.config.objective,
        step.config.encoder,
        step.config.decoder,
        step.config.pretrain,
        make_mesh(1, 1),
    )
    return [
        np.asarray(leaf)
        for leaf in jax.tree.leaves(
            restore(folder / STUDY / name / "checkpoints", program.abstract)
        )
    ]


def test_study_killed_at_any_moment_ends_with_the_same_bits(finished: Path, tmp_path: Path) -> None:
    moments: list[Callable[[Path], bool]] = [
        lambda study: len(list(study.parents[1].glob("cohort/**/*.nii.gz"))) > 20,
        lambda study: (study / "prepare/cache").exists(),
        lambda study: lines(study / "pretrain/mae-xxs-seed0-trunk-128/metrics.jsonl") >= 7,
        lambda study: lines(study / "pretrain/mae-xxs-seed0-320/metrics.jsonl") >= 3,
        lambda study: (study / "transfer/mae-xxs-seed0-160-meningioma/config.json").exists(),
        lambda study: (study / "results.parquet").exists(),
    ]
    for ready in moments:
        wait_and_kill(tmp_path, ready)
    done = scaling("run", EXPERIMENT, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr

    for name in ("results.parquet", "predictions.parquet"):
        pd.testing.assert_frame_equal(
            table(tmp_path, name), table(finished, name), check_exact=True
        )
    timings = ["seconds", "samples_per_second", "input_wait"]
    first, second = (
        table(folder, "pretraining.parquet").drop(columns=timings)
        for folder in (tmp_path, finished)
    )
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    for path in sorted((finished / STUDY / "pretrain").iterdir()):
        assert logged(path) == logged(tmp_path / STUDY / "pretrain" / path.name)
    states = [final_state(folder, "pretrain/mae-xxs-seed0-320") for folder in (finished, tmp_path)]
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(*states, strict=True))


def test_interrupted_study_says_how_to_go_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scaling", "run", str(EXPERIMENT)]
    # Where the tests run in the background, Ctrl-C is ignored and a child would inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    signal.signal(signal.SIGINT, before)
    while len(list(tmp_path.glob("cohort/**/*.nii.gz"))) < 5:
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on from here" in said
    assert "Traceback" not in said


def test_one_class_ends_a_run_after_prepare_and_a_corrupt_scan_is_listed(
    finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished / "cohort", tmp_path / "cohort")
    scans = sorted((tmp_path / "cohort/fomo60k").rglob("*.nii.gz"))
    scans[0].write_bytes(scans[0].read_bytes()[:200])
    labels = {file: file.read_text() for file in tmp_path.glob("cohort/fomo-task1/**/label.txt")}
    for file in labels:
        file.write_text("1\n")
    small = ["--set", "durations=[160]", "--set", "data.phantom=null"]
    refused = scaling("run", EXPERIMENT, *small, folder=tmp_path)
    assert refused.returncode == 1
    assert "task 'infarct' has a single class in its training cases" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / STUDY / "pretrain").exists()

    for file, label in labels.items():
        file.write_text(label)
    done = scaling("run", EXPERIMENT, *small, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    skipped = json.loads((tmp_path / STUDY / "prepare/skipped.json").read_text())
    (corrupt,) = [sentence for sentence in skipped if "could not be used" in sentence]
    assert scans[0].name in corrupt
    assert set(table(tmp_path, "results.parquet")["task"]) == {"infarct", "meningioma", "brain-age"}
    assert scans[0].name in (tmp_path / STUDY / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "data.root=nowhere", "--set", "data.phantom=null"], ["nowhere"]),
        (["--set", 'sizes=["huge"]'], ["'huge' is not on the vit ladder"]),
        (
            [
                "--set",
                "execution.mesh=[64,1]",
                "--set",
                "pretrain.batch=64",
                "--set",
                "durations=[320]",
            ],
            ["64"],
        ),
        (["--set", "nonsense"], ["no '='"]),
    ],
)
def test_wrong_input_ends_in_one_sentence_and_a_code(
    tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    done = scaling("run", EXPERIMENT, *arguments, folder=tmp_path)
    assert done.returncode in (1, 2)
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "cohort").exists()  # told before anything was written


def test_unknown_experiment_ends_with_code_two(tmp_path: Path) -> None:
    done = scaling("run", "nothing.py", folder=tmp_path)
    assert done.returncode == 2
    assert "no experiment file nothing.py" in done.stderr


def test_empty_cohort_is_named(tmp_path: Path) -> None:
    (tmp_path / "cohort/fomo60k").mkdir(parents=True)
    done = scaling("run", EXPERIMENT, "--set", "data.phantom=null", folder=tmp_path)
    assert done.returncode == 1
    assert "fomo60k" in done.stderr
    assert "Traceback" not in done.stderr
