"""What an interrupted transfer keeps: the protocols that are done, the rates that were tried."""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

from scaling.data.tasks import Cases, TaskArrays
from scaling.models.backbone import build_encoder
from scaling.study.config import Finetune, Source, Task, ViT
from scaling.study.ladder import resolve_encoder
from scaling.transfer.drafts import Keep, computed, drafted, drafted_losses, file_name
from scaling.transfer.finetune import few_shot_protocols
from scaling.transfer.predictions import Predicted

TABLE = pd.DataFrame(
    {"protocol": ["probe", "probe"], "draw": [0, 1], "case": ["a", "b"], "prediction": [0.1, 1e-30]}
)


def never() -> pd.DataFrame:
    raise AssertionError("computed though it was kept")


def test_finished_protocol_is_not_computed_again(tmp_path: Path) -> None:
    first = drafted(tmp_path / "drafts/0-probe.parquet", lambda: TABLE)
    again = drafted(tmp_path / "drafts/0-probe.parquet", never)
    for table in (first, again):
        pd.testing.assert_frame_equal(table, TABLE, check_exact=True)


@pytest.mark.parametrize("content", [b"", b"PAR1 and no more"])
def test_protocol_whose_table_cannot_be_read_is_computed_again(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "0-probe.parquet").write_bytes(content)
    table = drafted(tmp_path / "0-probe.parquet", lambda: TABLE)
    pd.testing.assert_frame_equal(table, TABLE, check_exact=True)


def test_protocol_that_is_interrupted_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> pd.DataFrame:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drafted(tmp_path / "0-probe.parquet", interrupted)
    assert list(tmp_path.iterdir()) == []


def random_arrays() -> TaskArrays:
    """Six cases to learn from and three to test, of noise."""
    rng = np.random.default_rng(0)
    parts = []
    for n in (6, 3):
        images = rng.normal(size=(n, 1, 16, 16, 16)).astype(np.float16)
        ids = [f"case{number}" for number in range(n)]
        labels = rng.uniform(20, 80, n).astype(np.float32)
        parts.append(Cases(ids, ["site"] * n, images, np.ones((n, 1), bool), labels))
    return TaskArrays(*parts, np.ones(3, bool), ())


def fine_tuned(keep: Keep) -> list[Predicted]:
    """What two rates, and the first of them alone, predict after two draws of four shots."""
    encoder = resolve_encoder(ViT(), "xxs", "standard")
    parameters = jax.jit(build_encoder(encoder).init)(jax.random.key(0))
    task = Task("age", "regression", ("t1",), Source("a"), (Source("b"),), shots=(4,), draws=2)
    recipe = Finetune(steps=3, batch=2, learning_rates=(1e-3, 3e-3), tuning=(0,), augment="none")
    predicted = []
    for _, of_protocol in few_shot_protocols(
        encoder, parameters, random_arrays(), task, recipe, keep
    ):
        predicted += of_protocol
    return predicted


def test_interrupted_tuning_goes_on_from_the_rates_that_were_tried(tmp_path: Path) -> None:
    tried: list[str] = []

    def kept(name: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
        def compute_and_note() -> np.ndarray:
            tried.append(name)
            return compute()

        return drafted_losses(tmp_path / f"{file_name(name)}.parquet", compute_and_note)

    def interrupted(name: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
        if tried:
            raise KeyboardInterrupt
        return kept(name, compute)

    with pytest.raises(KeyboardInterrupt):
        fine_tuned(interrupted)
    resumed = fine_tuned(kept)
    assert tried == ["finetune, losses 0", "finetune, losses 1"]
    for one, other in zip(resumed, fine_tuned(computed), strict=True):
        assert (one.protocol, one.shots, one.draw, one.rate) == (
            other.protocol,
            other.shots,
            other.draw,
            other.rate,
        )
        np.testing.assert_array_equal(one.outputs, other.outputs)
