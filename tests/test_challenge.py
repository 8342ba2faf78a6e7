"""The challenge record: published ones, and a user's own from TOML or Python."""

import ast
from pathlib import Path

import pytest

import scaling
from scaling.study.challenge import load_challenge
from scaling.study.challenges import built_in_challenges

OWN = """
name = "own"
title = "Own"
source = "here"
[[tasks]]
id = "a"
name = "tumour"
kind = "segmentation"
classes = ["background", "core", "rim"]
sequences = ["t1c", "t2|flair"]
output = ".nii.gz"
mask_file = "mask.nii.gz"
metrics = [{ metric = "dice" }, { metric = "nsd", tolerance_mm = 1.5 }]
"""


def test_published_challenges_have_the_published_weights_and_flags() -> None:
    assert built_in_challenges() == ["fomo25", "fomo26"]
    challenge = load_challenge("fomo26")
    weights = {task.id: task.weight for task in challenge.tasks}
    assert weights == {"1": 0.1, "2": 0.25, "3": 0.1, "4": 0.25, "5": 0.1, "6": 0.1, "7": 0.1}
    assert sum(weights.values()) == pytest.approx(1)
    assert challenge.task("1").flag("dwi_b1000") == "dwi"
    assert challenge.task("1").file("dwi_b1000") == "dwi_b1000"
    assert (challenge.task("3").file("t1"), challenge.task("5").file("t1")) == ("t1w", "t1")
    assert load_challenge("fomo25").task("infarct").flag("dwi_b1000") == "dwi_b1000"


def test_own_challenge_is_read_from_toml_and_python(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(OWN)
    assert load_challenge(tmp_path / "own.toml").task("a").labels == 2
    (tmp_path / "own.py").write_text(
        "from scaling.study.challenge import load_challenge\n"
        f"challenge = load_challenge({str(tmp_path / 'own.toml')!r})\n"
    )
    assert load_challenge(str(tmp_path / "own.py")) == load_challenge(tmp_path / "own.toml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("id =", "colour = 1\nid ="),
            r"no challenge: tasks.0.colour: Unexpected keyword argument",
        ),
        (
            ('kind = "segmentation"', 'kind = "guess"'),
            r"no challenge: tasks.0.kind: Input should be",
        ),
        (('name = "own"', "name = "), "not valid TOML"),
        ((", tolerance_mm = 1.5", ""), r"no challenge: .*expected a tolerance for nsd"),
        (
            ("[[tasks]]", "flags = 3\n[[tasks]]"),
            r"no challenge: .*flags: Unexpected keyword argument",
        ),
    ],
)
def test_mistake_in_an_own_challenge_names_file_and_field(
    change: tuple[str, str], message: str, tmp_path: Path
) -> None:
    (tmp_path / "own.toml").write_text(OWN.replace(*change, 1))
    with pytest.raises(ValueError, match=rf"own\.toml is {message}"):
        load_challenge(tmp_path / "own.toml")


def test_no_module_outside_of_the_table_names_a_challenge() -> None:
    package = Path(scaling.__file__).parent
    names = built_in_challenges()
    naming = []
    for file in package.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            documentation = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            for part in ast.iter_child_nodes(node) if not documentation else ():
                text = part.value if isinstance(part, ast.Constant) else ""
                if isinstance(text, str) and any(name in text.lower() for name in names):
                    naming.append(f"{file.relative_to(package)}: {text}")
    assert naming == []


def test_leaderboard_that_is_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('leaderboard = "absent.csv"\n' + OWN)
    with pytest.raises(ValueError, match=r"own\.toml names the leaderboard .*absent\.csv"):
        load_challenge(tmp_path / "own.toml")


def test_unknown_challenge_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected one of fomo25, fomo26, or the path"):
        load_challenge("fomo99")
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(ValueError, match="defines no challenge"):
        load_challenge(tmp_path / "empty.py")
