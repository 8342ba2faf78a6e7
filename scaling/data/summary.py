"""A checked collection in words, and as JSON."""

from pathlib import Path
from typing import Any

import pandas as pd

from scaling.data.check import Checked
from scaling.data.pairing import describe_pairs

SHOWN = 5  # files named per finding
MANY = 12  # values of labels that are listed one by one


def describe_sources(manifest: pd.DataFrame) -> list[dict[str, Any]]:
    """Per source: scans, subjects, sessions, sites, labelled sessions, sessions with age, share of
    sessions with each sequence, what objectives that pair sequences leave out, licences, how often
    each label and value of a mask was seen.
    """
    out = []
    masks = manifest[manifest["role"] == "mask"]
    for source, scans in manifest[manifest["role"] == "scan"].groupby("source"):
        sessions = scans.groupby(["subject", "session"])
        sequences = scans.drop_duplicates(["subject", "session", "sequence"])[
            "sequence"
        ].value_counts()
        first = sessions[["label", "mask", "age"]].first()
        out.append(
            {
                "source": source,
                "scans": len(scans),
                "subjects": int(scans["subject"].nunique()),
                "sessions": int(sessions.ngroups),
                "sites": int(scans["site"].nunique()),
                "labelled": int(((first["label"] != "") | (first["mask"] != "")).sum()),
                "with_age": int(first["age"].notna().sum()),
                "sequences": {
                    str(name): round(count / sessions.ngroups, 3)
                    for name, count in sequences.items()
                },
                "pairs": describe_pairs(scans),
                "licences": sorted(set(scans["licence"]) - {""}),
                "labels": counted(first["label"]),
                "mask_values": counted(masks.loc[masks["source"] == source, "values"].str.split()),
            }
        )
    return out


def counted(texts: "pd.Series[Any]") -> dict[str, int]:
    """How often each value stands in a column of texts, or of lists of texts; numbers in order."""
    values = texts.explode().dropna()
    counts = values[values != ""].value_counts()
    numbers = pd.to_numeric(counts.index.to_series(), errors="coerce")
    order = (
        counts.index.to_frame(name="text").assign(number=numbers).sort_values(["number", "text"])
    )
    return {str(value): int(counts[value]) for value in order.index}


def describe_labels(source: dict[str, Any]) -> list[str]:
    """Lines on the labels of a source and on the values of its masks."""
    lines = []
    labels = source["labels"]
    if len(labels) > MANY:
        lines.append(f"  labels: {len(labels)} values, {next(iter(labels))} to {list(labels)[-1]}")
    elif labels:
        counts = ", ".join(f"{value} ({count:,})" for value, count in labels.items())
        lines.append(f"  labels (sessions): {counts}")
    values = {value: count for value, count in source["mask_values"].items() if value != "0"}
    if values:
        counts = ", ".join(f"{value} ({count:,})" for value, count in list(values.items())[:MANY])
        several = "; a task tells them apart by Task.classes" if len(values) > 1 else ""
        lines.append(f"  values of masks (masks): {counts}{several}")
    return lines


def as_json(root: Path, checked: Checked) -> dict[str, Any]:
    """Sources, verdicts and findings with the files they concern."""
    verdicts = checked.manifest["verdict"].value_counts()
    return {
        "root": str(root),
        "files": len(checked.manifest),
        "verdicts": {name: int(verdicts.get(name, 0)) for name in ("ok", "warning", "bad")},
        "sources": describe_sources(checked.manifest),
        "findings": [
            {"kind": finding.kind, "sentence": finding.sentence, "files": finding.files}
            for finding in checked.findings
        ],
    }


def summarise(root: Path, checked: Checked) -> str:
    """What is there, and what was found, with a few files of each finding."""
    lines = []
    for source in describe_sources(checked.manifest):
        name = root.resolve().name if source["source"] == "." else source["source"]
        shares = sorted(source["sequences"].items(), key=lambda pair: -pair[1])
        sequences = ", ".join(f"{sequence} {share:.0%}" for sequence, share in shares[:12]) + (
            ", ..." if len(shares) > 12 else ""
        )
        counts = (
            ("scan", "scans"),
            ("subject", "subjects"),
            ("session", "sessions"),
            ("site", "sites"),
        )
        numbers = ", ".join(
            f"{source[many]:,} {one if source[many] == 1 else many}" for one, many in counts
        )
        lines += [
            f"{name}: {numbers}, {source['labelled']:,} labelled, {source['with_age']:,} with age",
            f"  {sequences}",
            f"  for objectives that pair sequences: {source['pairs']}",
            f"  licence: {'; '.join(source['licences']) or 'not stated'}",
            *describe_labels(source),
        ]
    verdicts = checked.manifest["verdict"].value_counts()
    parts = ", ".join(
        f"{verdicts.get(key, 0):,} {word}"
        for key, word in (("ok", "ok"), ("warning", "to look at"), ("bad", "not usable"))
    )
    lines.append(f"{len(checked.manifest):,} files: {parts}")
    for finding in checked.findings:
        lines.append(f"! {finding.sentence}")
        for path, reason in list(finding.files.items())[:SHOWN]:
            lines.append(
                "    "
                f"{reason if reason.startswith(path) else f'{path}: {reason}' if reason else path}"
            )
        if len(finding.files) > SHOWN:
            lines.append(f"    ... and {len(finding.files) - SHOWN:,} more")
    return "\n".join(lines)
