"""The challenge's tracks: a study of the method track pretrains on FOMO60K alone, and a manifest proves it."""

from pathlib import Path

import numpy as np
import pandas as pd

from scaling.data.headers import describe_header
from scaling.data.layout import select
from scaling.data.participants import read_table
from scaling.processes.parallel import cores, unordered_map
from scaling.study.config import Data

FOMO60K_SCANS = 60_529  # https://fomo25.github.io/tasks; a manifest with more is of another collection, such as FOMO300K


def prove_track(table: pd.DataFrame, data: Data, workers: int = 0) -> None:
    """Nothing on the open track. On the method track, raises ValueError unless every pretraining scan of `table` is in FOMO60K.

    Against a manifest of `scaling data check` a scan is known by its content, and by name where it has none; against
    mapping.tsv by dataset, participant, session and file name.
    """
    if data.track == "open":
        return
    file = Path(data.root) / data.fomo60k
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} (data.fomo60k) does not exist; expected a manifest of FOMO60K that proves the method track"
        )
    known = read_table(file)
    if "role" in known.columns:
        known = known[known["role"] == "scan"]
    if len(known) > FOMO60K_SCANS:
        raise ValueError(
            f"{file} (data.fomo60k) lists {len(known):,} scans; FOMO60K has {FOMO60K_SCANS:,}, so it is of another collection"
        )
    used = table[
        np.logical_or.reduce([select(table, source) for source in data.pretraining])
        & (table["problem"] == "")
    ]
    if "content_hash" in known.columns:
        described = unordered_map(_hash, used["path"].tolist(), workers or cores())
        contents = set(known["content_hash"]) - {""}
        foreign = [path for path, content in described if content not in contents]
    elif {"dataset", "participant_id", "session_id", "filename"} <= set(known.columns):
        listed = set(
            known[["dataset", "participant_id", "session_id", "filename"]].agg("/".join, axis=1)
        )
        foreign = [path for path in used["path"] if "/".join(Path(path).parts[-4:]) not in listed]
    else:
        raise ValueError(
            f"{file} (data.fomo60k) has the columns {list(known.columns)}; expected content_hash, or those of mapping.tsv"
        )
    if foreign:
        raise ValueError(
            f"data.track is 'method', but {len(foreign):,} of {len(used):,} pretraining scans are not in FOMO60K by {file}, first "
            f"{min(foreign)}; "
            "take their source out of data.pretraining, or set data.track to 'open'"
        )


def _hash(path: str) -> tuple[str, str]:
    return path, str(describe_header(Path(path))["content_hash"])
