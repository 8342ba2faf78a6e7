"""What an interrupted transfer keeps: each protocol that is done, and each candidate learning rate
that was tried. A transfer may take longer than a job may run.
"""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from scaling.files import read_parquet, write_table

DRAFTS = "parts"  # folder of a step in which they lie until the step is done
Keep = Callable[[str, Callable[[], np.ndarray]], np.ndarray]  # by name: kept, else computed


def computed(name: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """A `Keep` that keeps nothing."""
    return compute()


def drafted(file: Path, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The table of one protocol: that of an earlier attempt, where there is a readable one, else
    computed and kept.
    """
    if file.exists():
        try:
            return read_parquet(file)
        except ValueError:
            file.unlink()
    write_table(compute(), file)
    return read_parquet(file)


def drafted_losses(file: Path, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """As `drafted`, losses [R]."""
    table = drafted(file, lambda: pd.DataFrame({"loss": compute()}))
    return table["loss"].to_numpy()


def file_name(*words: str) -> str:
    """Words as a part of a file's name: "supervised in domain, 0 trials" has blanks and commas."""
    return re.sub(r"[^\w.-]+", "-", "-".join(words))
