"""What an interrupted transfer keeps: the protocols that are done."""

from pathlib import Path

import pandas as pd
import pytest

from scaling.transfer.run import drafted

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
