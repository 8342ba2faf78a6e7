"""How much of a collection is left out by objectives that pair the sequences of a session."""

import re
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from scaling.data.layout import SESSION, select
from scaling.study.config import Source
from scaling.study.objectives import ObjectiveConfig

UNNAMED = re.compile(r"(scan|unknown|image|volume)?[-_]?\d*")  # names that tell no sequence


def without_partner(scans: pd.DataFrame) -> "pd.Series[bool]":
    """Scans whose session has no scan of another sequence."""
    return scans.groupby(SESSION)["sequence"].transform("nunique") < 2


def unnamed(scans: pd.DataFrame) -> "pd.Series[bool]":
    """Scans whose file tells no sequence."""
    return scans["sequence"].str.fullmatch(UNNAMED.pattern)


def describe_pairs(scans: pd.DataFrame) -> str:
    """What of some scans has no partner, and what has no known sequence, in words."""
    alone, nameless, n = int(without_partner(scans).sum()), int(unnamed(scans).sum()), len(scans)
    text = f"{alone:,} of {n:,} scans ({alone / n:.0%}) have no other sequence in their session"
    if nameless:
        text += (
            f", and of {nameless:,} ({nameless / n:.0%}) no sequence is known, so that a pair may "
            "be of one sequence"
        )
    return text


def left_out_of_pairs(
    scans: pd.DataFrame, sources: Sequence[Source], objectives: Iterable[ObjectiveConfig]
) -> list[str]:
    """A sentence for every objective that pairs sequences: how much of the pretraining sources it
    leaves out.
    """
    paired = [objective.label for objective in objectives if objective.pairs == "sequences"]
    chosen = scans[np.logical_or.reduce([select(scans, source) for source in sources])]
    if not paired or chosen.empty:
        return []
    return [
        f"objective {label!r} pairs the sequences of a session and leaves the others out: "
        f"{describe_pairs(chosen)}"
        for label in paired
    ]
