"""What a study reports of its data: people and scans in pretraining and in a test set, and unusable
scans.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from scaling.data.layout import select
from scaling.study.config import Source

SHOWN = 20  # reasons listed in a study's report


def find_leakage(
    index: pd.DataFrame, pretraining: Sequence[Source], test: Sequence[Source]
) -> list[str]:
    """Sentences on people or identical scans in pretraining and in a test set, and on repeated
    scans.
    """
    index = index[index["status"] == "ok"]
    index = index.drop_duplicates("path")  # a scan may be prepared on several grids
    seen = pd.Series(False, index.index)
    for source in pretraining:
        seen |= select(index, source)
    pretrained = index[seen]
    sentences = []
    for source in test:
        tested = index[select(index, source)]
        test_name = f"the test source {source.path} ({source.part})"
        sentences += shared(pretrained, tested, "pretraining", test_name)
    repeated = index[index.duplicated("content_hash")]
    if len(repeated):
        same = index["content_hash"] == repeated["content_hash"].iloc[0]
        sentences.append(
            f"{len(repeated)} scans are stored more than once, first {repeated['path'].iloc[0]} = "
            f"{index.loc[same, 'path'].iloc[0]}"
        )
    return sentences


def describe_skipped(index: pd.DataFrame) -> list[str]:
    """Sentences per source: what could not be used, which masks lose, which backgrounds differ."""
    sentences = []
    for source, scans in index.groupby("source"):
        failed = scans["status"] == "failed"
        maskless = ~failed & (scans["mask"] != "") & (scans["mask_row"] < 0)
        unusable = scans[failed | maskless]
        if len(unusable):
            masks = f", {int(maskless.sum())} masks" if maskless.any() else ""
            sentences.append(
                f"{int(failed.sum())} of {len(scans)} scans of {source}{masks} could not be used: "
                f"{listed(unusable['reason'])}"
            )
        doubtful = scans[~failed & ~maskless & (scans["reason"] != "")]
        if len(doubtful):
            # The scans of a session share its mask, and what is doubtful in it.
            sentences.append(
                f"{len(doubtful)} scans of {source} are used, though in doubt: "
                f"{listed(doubtful['reason'].drop_duplicates())}"
            )
        if "background" in scans.columns:
            kinds = scans.loc[~failed, "background"]
            sentences += describe_backgrounds(str(source), kinds)
    return sentences


def listed(reasons: "pd.Series[str]") -> str:
    """The first reasons, and how many more there are."""
    text = "; ".join(reasons[:SHOWN])
    more = len(reasons) - SHOWN
    return f"{text}; and {more} more (prepare/cache/index.parquet)" if more > 0 else text


def describe_backgrounds(source: str, kinds: "pd.Series[str]") -> list[str]:
    """Sentences on whole heads, and on scans of one source that differ in what surrounds the
    head.
    """
    names = {
        "noise": "whole heads in air",
        "constant": "on a constant background (skull-stripped or masked)",
        "none": "without any background",
    }
    counts = kinds[kinds.isin(names)].value_counts()
    sentences = []
    if len(counts) > 1:
        parts = ", ".join(f"{count} {names[str(kind)]}" for kind, count in counts.items())
        sentences.append(
            f"scans of {source} differ in their background, and so in what is normalised: {parts}"
        )
    if counts.get("noise", 0):
        sentences.append(
            f"{counts['noise']} scans of {source} show whole heads: faces can be recognised in "
            "them unless they were defaced"
        )
    return sentences


def shared(
    pretrained: pd.DataFrame, tested: pd.DataFrame, pretraining_name: str, test_name: str
) -> list[str]:
    """Sentences on people and scans of `tested` that `pretrained` has too: by name, origin,
    content.
    """
    sentences = []
    common = tested[persons(tested).isin(persons(pretrained))]
    if len(common):
        subjects = common["subject"].drop_duplicates()
        sentences.append(
            f"{len(subjects)} subjects of {test_name} are in {pretraining_name} too, "
            f"first {subjects.iloc[0]}"
        )
    for column, what in (
        ("content_hash", "voxel for voxel in"),
        ("original_path", "made from the same original as scans of"),
    ):
        if column not in pretrained.columns:
            continue
        same = tested[
            tested[column].isin(pretrained[column])
            & (tested[column] != "")
            & ~tested["path"].isin(pretrained["path"])
        ]
        if len(same):
            twin = pretrained.loc[pretrained[column] == same[column].iloc[0], "path"].iloc[0]
            sentences.append(
                f"{len(same)} scans of {test_name} are {what} {pretraining_name}, "
                f"first {same['path'].iloc[0]} = {twin}"
            )
    return sentences


def persons(table: pd.DataFrame) -> pd.Series:
    """Who a scan is of, as text that compares across sources.

    The original id where a table gives one; else dataset and name, as in the published FOMO60K and
    what contains it; else source and name, as sub_1 of two sources are two people.
    """
    names = table["subject"].map(lambda subject: "/".join(Path(subject).parts[-2:]))
    alone = ~names.str.contains("/") | names.str.contains("preprocessed/")
    names = names.mask(alone, table["source"] + "|" + table["subject"])
    if "original_id" in table.columns:
        names = names.mask(table["original_id"] != "", "original|" + table["original_id"])
    if "person" in table.columns:  # one name of a person who has several, by the content of scans
        names = names.mask(table["person"] != "", "person|" + table["person"])
    return names
