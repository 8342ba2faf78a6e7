"""Tracks of the challenge: a study of the method track pretrains on FOMO60K alone; a manifest
proves it.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from scaling.data.headers import describe_header
from scaling.data.layout import select
from scaling.data.participants import read_table
from scaling.processes.parallel import cores, unordered_map
from scaling.study.config import Data

# https://fomo25.github.io/tasks; a manifest with more scans is of another collection (FOMO300K)
FOMO60K_SCANS = 60_529


def prove_track(table: pd.DataFrame, data: Data, workers: int = 0) -> None:
    """Raise ValueError on the method track unless every pretraining scan of `table` is in FOMO60K.

    Scans are compared by content with a manifest of `scaling data check`, and by dataset,
    participant, session and file name with mapping.tsv. The open track needs no proof.
    """
    if data.track == "open":
        return
    file = Path(data.root) / data.fomo60k
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} (data.fomo60k) does not exist; expected a manifest of FOMO60K that proves the "
            "method track"
        )
    manifest = read_table(file)
    if "role" in manifest.columns:
        manifest = manifest[manifest["role"] == "scan"]
    if len(manifest) > FOMO60K_SCANS:
        raise ValueError(
            f"{file} (data.fomo60k) lists {len(manifest):,} scans; FOMO60K has {FOMO60K_SCANS:,}, "
            "so it is "
            "of another collection"
        )
    pretraining = np.logical_or.reduce([select(table, source) for source in data.pretraining])
    used = table[pretraining & (table["problem"] == "")]
    if "content_hash" in manifest.columns:
        described = unordered_map(_hash, used["path"].tolist(), workers or cores())
        contents = set(manifest["content_hash"]) - {""}
        foreign = [path for path, content in described if content not in contents]
    elif {"dataset", "participant_id", "session_id", "filename"} <= set(manifest.columns):
        listed = set(
            manifest[["dataset", "participant_id", "session_id", "filename"]].agg("/".join, axis=1)
        )
        foreign = [path for path in used["path"] if "/".join(Path(path).parts[-4:]) not in listed]
    else:
        raise ValueError(
            f"{file} (data.fomo60k) has the columns {list(manifest.columns)}; expected "
            "content_hash, or "
            "those of mapping.tsv"
        )
    if foreign:
        raise ValueError(
            f"data.track is 'method', but {len(foreign):,} of {len(used):,} pretraining scans are "
            "not "
            f"in FOMO60K by {file}, first {min(foreign)}; take their source out of "
            "data.pretraining, or set data.track to 'open'"
        )


def _hash(path: str) -> tuple[str, str]:
    return path, str(describe_header(Path(path))["content_hash"])
