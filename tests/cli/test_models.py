"""The list of the ladders, as a table and as JSON."""

import json
from pathlib import Path

from scaling.study.config import ResEnc, UNet, ViT
from scaling.study.ladder import rungs
from tests.conftest import scaling


def test_models_lists_every_rung_from_small_to_large(tmp_path: Path) -> None:
    done = scaling("models", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    listed = json.loads(done.stdout)
    for family, span in (
        (ViT(), (0.2e6, 320e6)),
        (UNet(), (0.25e6, 220e6)),
        (ResEnc(), (0.25e6, 340e6)),
    ):
        rows = [row for row in listed if row["family"] == family.kind]
        assert [row["size"] for row in rows] == list(rungs(family))
        for column in ("encoder_parameters", "total_parameters", "flops_per_sample"):
            values = [row[column] for row in rows]
            assert values == sorted(values), column
        sizes = [row["encoder_parameters"] for row in rows]
        assert sizes[0] <= span[0]
        assert sizes[-1] >= span[1]
        assert all(row["total_parameters"] > row["encoder_parameters"] for row in rows)
        assert all(row["activation_bytes_per_sample"] > 0 for row in rows)
    table = scaling("models", "--family", "resenc", folder=tmp_path).stdout
    assert "90.3 M" in table
    assert "345 M" in table


def test_models_refuses_a_crop_that_a_ladder_cannot_halve(tmp_path: Path) -> None:
    done = scaling("models", "--family", "unet", "--crop", "40", "48", "40", folder=tmp_path)
    assert done.returncode == 2
    assert "expected multiples of 16" in done.stderr
