"""Series: what sets pretrained runs apart beyond size, duration and seed, as one label.

A table of results keeps `objective`, `family` and `fraction` (of the pretraining subjects) in
columns of their own. Where curves or verdicts must hold all three fixed, they are one series.
"""

from fractions import Fraction

import pandas as pd

SERIES = ("objective", "family", "fraction")


def series_of(table: pd.DataFrame) -> pd.Series:
    """A label per row of what varies among objective, family and fraction: "mae, unet, 1/4 data".

    The objective is always named; a family and a share of the data only where the table has more
    than one. Rows without an objective (controls) keep an empty label.
    """
    objective = column_as_text(table, "objective").replace("none", "")
    label = objective
    family = column_as_text(table, "family")
    named = objective != ""
    if len(family[named].unique()) > 1:
        label = label + (", " + family).where(named, "")
    fraction = pd.to_numeric(table.get("fraction", pd.Series(1.0, table.index)), errors="coerce")
    if len(fraction[named].dropna().unique()) > 1:
        shares = {share: share_text(share) for share in fraction.dropna().unique()}
        label = label + (", " + fraction.map(shares).astype(str)).where(named, "")
    return label.rename("series")


def share_text(share: float) -> str:
    """A share of the pretraining subjects in words."""
    if share >= 1:
        return "all data"
    return f"{Fraction(share).limit_denominator(100)} of the data"


def column_as_text(table: pd.DataFrame, name: str) -> pd.Series:
    """A column as text, empty where it or an entry is missing."""
    if name not in table:
        return pd.Series("", table.index, dtype=str)
    return table[name].fillna("").astype(str)
