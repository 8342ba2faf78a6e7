"""Experiment files and overrides: strict, and clear about what is wrong."""

import dataclasses
import json
from pathlib import Path

import pytest

from scaling.runs.experiment import freeze, load_study, override
from scaling.runs.plan import make_plan

MICRO = Path(__file__).parents[1] / "micro_study.py"


def test_override_replaces_nested_fields_with_their_types() -> None:
    study = load_study(
        MICRO,
        [
            "pretrain.batch=16",
            'sizes=["s","m"]',
            "data.root=/elsewhere",
            "tasks.0.draws=5",
            "durations=[320,640]",
        ],
    )
    assert (study.pretrain.batch, study.sizes, study.data.root, study.tasks[0].draws) == (
        16,
        ("s", "m"),
        "/elsewhere",
        5,
    )
    assert dataclasses.replace(study, sizes=("xxs",)).sizes == load_study(MICRO).sizes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pretrain.bach=16", ["pretrain.bach", "batch"]),
        ("pretrain.batch=many", ["pretrain.batch", "many"]),
        ("pretrain.batch", ["no '='"]),
        ("tasks.7.draws=2", ["tasks.7.draws", "0, 1, 2"]),
        ("pretrain.batch=10", ["duration 160", "multiples of pretrain.batch=10"]),
        ("pretrain.batch=8.5", ["pretrain.batch", "8.5"]),
        ("pretrain.warmup=200", ["warmup=200", "160"]),
        ("pretrain.crop=[32,24,24]", ["crop=32", "shape=24"]),
        ("name=a/b", ["name", "a/b"]),
        ("sizes=[]", ["sizes"]),
        ("fractions=[0.5,1.5]", ["fractions", "1.5"]),
        ("objectives.0.mask_ratio=1.5", ["mask_ratio", "1.5"]),
        ("transfer.finetune=null", ["estimand.protocol", "finetune"]),
    ],
)
def test_override_that_does_not_fit_is_refused_naming_the_field(
    text: str, words: list[str]
) -> None:
    with pytest.raises(ValueError) as caught:
        load_study(MICRO, [text])
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_unknown_size_is_refused_with_the_ladder() -> None:
    with pytest.raises(
        ValueError, match=r"'huge' is not on the vit ladder; expected one of xxs, xs"
    ):
        make_plan(override(load_study(MICRO), ['sizes=["huge"]']))


def test_missing_experiment_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no experiment file"):
        load_study(tmp_path / "nothing.py")


def test_file_without_a_study_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("x = 1\n")
    with pytest.raises(ValueError, match="does not define a study"):
        load_study(tmp_path / "empty.py")


def test_experiment_with_scales_asks_for_one_and_gives_it(tmp_path: Path) -> None:
    file = tmp_path / "many.py"
    file.write_text(
        f"import dataclasses, sys\nsys.path.insert(0, {str(Path(__file__).parents[1])!r})\nfrom "
        "micro_study import study as small\n"
        "scales = {'small': small, 'large': dataclasses.replace(small, name='large')}\n"
    )
    assert load_study(file, scale="large").name == "large"
    for scale in (None, "huge"):
        with pytest.raises(ValueError, match="comes at the scales small, large"):
            load_study(file, scale=scale)
    with pytest.raises(ValueError, match="has no scales; leave out --scale large"):
        load_study(Path(__file__).parents[1] / "micro_study.py", scale="large")


def test_study_of_a_later_format_is_refused_and_of_an_earlier_one_is_read(tmp_path: Path) -> None:
    study = load_study(MICRO)
    freeze(study, tmp_path)
    values = json.loads((tmp_path / "study.json").read_text())
    (tmp_path / "study.json").write_text(json.dumps({**values, "format": 99}))
    with pytest.raises(ValueError, match=r"study.json has format 99, and this version reads"):
        load_study(tmp_path)
    del values["format"]  # format 1 had no number
    (tmp_path / "study.json").write_text(json.dumps(values))
    assert load_study(tmp_path) == study
