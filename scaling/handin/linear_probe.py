"""How challenges divide embeddings for their linear probe (`scaling.transfer.linear_probe`), and
the groups they compare (after fomo26/fomo-lp on GitHub; splits are seeded here, not copied).
"""

import re

import numpy as np
import pandas as pd

from scaling.transfer.linear_probe import ProbeResult, fit_probe

__all__ = ["ProbeResult", "fit_probe", "group_of", "parse_group", "split_cases"]

SEED = 42
TEST, TRAIN, VALIDATION = "test", "train", "validation"


def split_cases(classes: np.ndarray, stratum: np.ndarray) -> np.ndarray:
    """Part of every case [n]: half of a class is "test", 4 of 10 "train", 1 of 10 "validation".

    Within a class the parts are balanced over `stratum` (such as the decade of age).
    """
    rng = np.random.default_rng(SEED)
    parts = np.empty(len(classes), dtype=object)
    # Ten neighbours in the order of the stratum: five tested, four trained on, one to choose by.
    pattern = np.array([TEST, TRAIN] * 4 + [TEST, VALIDATION], dtype=object)
    for name in sorted(set(classes)):
        members = np.flatnonzero(classes == name)
        order = members[np.lexsort((rng.random(len(members)), stratum[members]))]
        start = int(rng.integers(len(pattern)))
        if len(order) < len(pattern):
            start = 9 - len(order) // 2  # so that every part of a small class has a case
        parts[order] = pattern[(start + np.arange(len(order))) % len(pattern)]
    return parts


def group_of(values: pd.Series, bounds: tuple[float, ...]) -> list[str | None]:
    """Group of every case: the lower-cased text, or the bin of a number.

    `bounds` are ascending inclusive upper bounds of the bins; numbers that are missing or not
    positive have no group.
    """
    if not bounds:
        return [text.strip().lower() or None for text in values.fillna("").astype(str)]
    groups: list[str | None] = []
    for number in pd.to_numeric(values, errors="coerce"):
        if not number > 0:
            groups.append(None)
            continue
        index = int(np.searchsorted(bounds, number))
        groups.append(f"up to {bounds[index]:g}" if index < len(bounds) else f"> {bounds[-1]:g}")
    return groups


def parse_group(text: str) -> tuple[str, tuple[float, ...]]:
    """Column and bounds of a group such as "sex" or "age:45,65". Raises ValueError."""
    match = re.fullmatch(r"([\w ]+?)(?::([\d.,\s]+))?", text)
    if match is None:
        raise ValueError(f"group {text!r} is not understood; expected such as sex or age:45,65")
    bounds = tuple(float(bound) for bound in (match[2] or "").split(",") if bound.strip())
    if list(bounds) != sorted(bounds):
        raise ValueError(f"group {text!r} has bounds {bounds}; expected them ascending")
    return match[1], bounds
