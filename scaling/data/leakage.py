"""What a study has to say of its data: who is in pretraining and in a test set as well, and what could not be used."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from scaling.data.layout import select
from scaling.study.config import Source

SHOWN = 20  # reasons told in a study's report


def find_leakage(
    index: pd.DataFrame, pretraining: Sequence[Source], test: Sequence[Source]
) -> list[str]:
    """Sentences on people or identical scans that are in pretraining and in a test set, and on scans stored twice."""
    index = index[index["status"] == "ok"]
    seen = index[np.logical_or.reduce([select(index, source) for source in pretraining])]
    sentences = []
    for source in test:
        sentences += shared(
            seen,
            index[select(index, source)],
            "pretraining",
            f"the test source {source.path} ({source.part})",
        )
    again = index[index.duplicated("content_hash")]
    if len(again):
        twin = index.loc[index["content_hash"] == again["content_hash"].iloc[0], "path"].iloc[0]
        sentences.append(
            f"{len(again)} scans are stored more than once, first {again['path'].iloc[0]} = {twin}"
        )
    return sentences


def describe_skipped(index: pd.DataFrame) -> list[str]:
    """How many scans of each source could not be used, and why the first of them; one sentence per source."""
    sentences = []
    for source, scans in index.groupby("source"):
        odd = scans[scans["reason"] != ""]
        if len(odd):
            failed = int((odd["status"] == "failed").sum())
            masks = f", {len(odd) - failed} masks" if failed < len(odd) else ""
            sentences.append(
                f"{failed} of {len(scans)} scans of {source}{masks} could not be used: {'; '.join(odd['reason'][:SHOWN])}"
            )
            sentences[-1] += (
                f"; and {len(odd) - SHOWN} more (prepare/cache/index.parquet)"
                if len(odd) > SHOWN
                else ""
            )
    return sentences


def shared(seen: pd.DataFrame, tested: pd.DataFrame, seen_name: str, tested_name: str) -> list[str]:
    """Sentences on the people and scans of `tested` that are in `seen` too, by name, by origin and by content."""
    sentences = []
    people = persons(seen)
    common = tested[persons(tested).isin(people)]
    if len(common):
        subjects = common["subject"].drop_duplicates()
        sentences.append(
            f"{len(subjects)} subjects of {tested_name} are in {seen_name} too, first {subjects.iloc[0]}"
        )
    for column, what in (
        ("content_hash", "voxel for voxel in"),
        ("original_path", "made from the same original as scans of"),
    ):
        if column not in seen.columns:
            continue
        same = tested[
            tested[column].isin(seen[column])
            & (tested[column] != "")
            & ~tested["path"].isin(seen["path"])
        ]
        if len(same):
            twin = seen.loc[seen[column] == same[column].iloc[0], "path"].iloc[0]
            sentences.append(
                f"{len(same)} scans of {tested_name} are {what} {seen_name}, first {same['path'].iloc[0]} = {twin}"
            )
    return sentences


def persons(table: pd.DataFrame) -> pd.Series:
    """Who a scan is of, as text that compares across sources: the original id a table gives; else dataset and name, as in the
    published FOMO60K and what contains it; else source and name, as sub_1 of two sources are two people.
    """
    names = table["subject"].map(lambda subject: "/".join(Path(subject).parts[-2:]))
    alone = ~names.str.contains("/") | names.str.contains("preprocessed/")
    names = names.mask(alone, table["source"] + "|" + table["subject"])
    if "original_id" in table.columns:
        names = names.mask(table["original_id"] != "", "original|" + table["original_id"])
    return names
