"""The collections within sources: how many scans of how many people, and under which licence."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

NAMES = ("LICENSE", "LICENCE", "COPYING", "DATA_USE_AGREEMENT")
COLLECTIONS = "collections.json"
MOST = 80  # characters of a licence's first line


def collections_of(table: pd.DataFrame) -> "pd.Series[str]":
    """The collection of each scan: its source, or a folder of subjects within it."""
    within = table["subject"].str.rpartition("/")[0]
    return (table["source"] + "/" + within).where(within != "", table["source"])


def with_licences(root: Path, table: pd.DataFrame) -> pd.DataFrame:
    """A table of scans with a column `licence`: its own, or what the collection's folder says."""
    of_collection = collections_of(table)
    said = {name: licence_of(root / name) for name in of_collection.unique()}
    licences = of_collection.map(said)
    if "licence" in table:
        licences = table["licence"].fillna("").astype(str).where(table["licence"] != "", licences)
    return table.assign(licence=licences)


def licence_of(folder: Path) -> str:
    """The licence of a collection, "" where none is stated.

    `License` in the dataset_description.json of BIDS, else the first line of a file LICENSE.
    """
    for place in (folder, folder / "rawdata"):
        try:
            described = json.loads((place / "dataset_description.json").read_text())
        except (OSError, ValueError):
            described = None
        if isinstance(described, dict) and str(described.get("License") or "").strip():
            return str(described["License"]).strip()[:MOST]
        for name in NAMES:
            for file in sorted(place.glob(f"{name}*")) if place.is_dir() else []:
                line = first_line(file)
                if line:
                    return line
    return ""


def first_line(file: Path) -> str:
    """The first line of a text that holds anything."""
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip()[:MOST] for line in lines if line.strip()), "")


def describe_collections(root: Path, table: pd.DataFrame) -> list[dict[str, Any]]:
    """Per collection: its scans, subjects and licence."""
    table = with_licences(root, table).assign(collection=collections_of(table))
    rows = []
    for name, scans in table.groupby("collection"):
        licences = sorted(set(scans["licence"]) - {""})
        rows.append(
            {
                "collection": str(name),
                "scans": len(scans),
                "subjects": int(scans["subject"].nunique()),
                "licence": "; ".join(licences),
            }
        )
    return rows
