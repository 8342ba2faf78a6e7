"""The picture of what a model is trained on."""

from pathlib import Path

import numpy as np
from PIL import Image

from scaling.cli.sheet import CELL, HEADING, draw_sheet
from tests.conftest import EXPERIMENT, scaling


def test_sheet_shows_middle_slices_with_the_front_above_and_left_on_the_left() -> None:
    volume = np.full((8, 10, 6), -2.5)
    volume[:2, 8:, 3] = 2.5  # left and front, in the middle slice
    sheet = np.asarray(
        draw_sheet(["name"], ["heading", "other"], [volume[None], volume[None, ::-1]])
    )
    tall = round(CELL * 10 / 8)
    assert sheet.shape == (2 * HEADING + tall, 2 * CELL)
    for corner, expected in [
        ((0, 5), 255),
        ((0, CELL - 6), 0),
        ((0, CELL + 5), 0),
        ((0, 2 * CELL - 6), 255),
        ((tall - 10, 5), 0),
    ]:
        assert abs(int(sheet[HEADING + 5 + corner[0], corner[1]]) - expected) < 10


def test_show_writes_a_row_per_crop_and_a_column_per_preset(finished: Path) -> None:
    done = scaling(
        "data",
        "show",
        EXPERIMENT,
        "--scans",
        3,
        "--step",
        2,
        "--picture",
        "seen.png",
        folder=finished,
    )
    assert done.returncode == 0, done.stderr
    with Image.open(finished / "seen.png") as picture:
        assert picture.size == (5 * CELL, HEADING + 3 * (CELL + HEADING))


def test_show_before_anything_is_prepared_says_what_to_run(tmp_path: Path) -> None:
    done = scaling("data", "show", EXPERIMENT, folder=tmp_path)
    assert done.returncode == 2
    assert f"run `scaling step {EXPERIMENT} prepare` first" in done.stderr
