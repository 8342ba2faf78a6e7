"""A pretrained encoder as a feature extractor for other tools: any folder of scans -> a table with
one row per scan.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from scaling.data.cache import Cache, open_cache
from scaling.data.files import extension, folder_problem, name_problem, printable, walk
from scaling.data.folders import add_brain_masks, visits
from scaling.data.layout import COLUMNS, LISTINGS, scan_sources
from scaling.data.names import (
    ASIDE,
    BIDS_ASIDE,
    describe,
    is_label_map,
    stem,
    subject_place,
)
from scaling.data.prepare import prepare
from scaling.data.reading import EXTENSIONS
from scaling.files import write_table
from scaling.objectives.interface import Parameters
from scaling.runs.finished import finished_run
from scaling.study.config import Source, Split
from scaling.study.ladder import Encoder
from scaling.transfer.chunks import in_chunks
from scaling.transfer.features import cell_means, embedder
from scaling.transfer.run import load_encoder

Progress = Callable[[int, int], None]
SHOWN = 5  # files that a message names
DESCRIBED = ["path", "subject", "session", "sequence", "run"]


def embed(
    checkpoint: Path, folder: Path, out: Path, grid: int, workers: int, progress: Progress
) -> list[str]:
    """Write `out` (.parquet or .csv): path, subject, session, sequence, run and the features
    feature_0 ... of every scan below `folder`.

    Features are the encoder's tokens averaged in `grid` cells per axis, cell by cell. Scans are
    read as in the checkpoint's study, those of one session on one grid. Returns a sentence for
    every scan that cannot be used. Interrupted, the same call goes on. Raises ValueError when the
    checkpoint is no finished run or the folder has no usable scan.
    """
    if out.suffix not in (".parquet", ".csv"):
        raise ValueError(f"{out} should end in .parquet or .csv")
    _, config = finished_run(checkpoint)
    tokens = min(config.data.volumes.shape) // config.encoder.stride
    if not 1 <= grid <= tokens:
        raise ValueError(
            f"grid is {grid}; expected 1 to {tokens} cells per axis: the encoder has no more tokens"
        )
    prepared = out.with_name(f".{out.name}.volumes")
    root = folder if folder.is_dir() else folder.parent
    index = prepare(root, list_scans(folder), config.data.volumes, prepared, progress, workers)
    usable = index[index["status"] == "ok"]
    failed = index[index["status"] == "failed"]
    if usable.empty:
        shutil.rmtree(prepared)
        raise ValueError(
            f"none of the {len(index)} scans in {folder} can be used: "
            + "; ".join(failed["reason"].iloc[:SHOWN])
        )
    parameters = load_encoder(config.encoder, config.seed, checkpoint / "checkpoints")
    features = pooled_features(
        config.encoder, parameters, open_cache(prepared), usable.index.to_numpy(), grid
    )
    columns = [f"feature_{i}" for i in range(features.shape[1])]
    described = usable[DESCRIBED].assign(
        path=[os.path.relpath(path, root) for path in usable["path"]]
    )
    described["subject"] = described["subject"].where(described["subject"] != described["path"], "")
    table = pd.concat(
        [described.reset_index(drop=True), pd.DataFrame(features, columns=columns)], axis=1
    )
    table.attrs = {
        "checkpoint": checkpoint.resolve().name,
        "grid": grid,
        "spacing_mm": config.data.volumes.spacing_mm,
    }
    write_table(table, out)
    shutil.rmtree(prepared)
    return failed["reason"].to_list()


def list_scans(folder: Path) -> pd.DataFrame:
    """Every scan below a folder, or of a table of scans, in the columns of `scan_sources`.

    Masks, label maps and folders of other kinds are left out as `scaling data check` leaves them
    out; links to folders are not followed. A brain mask beside a scan is used as `prepare` uses it.
    Subject and session are known where the path tells them (FOMO60K, FOMO25 and BIDS layouts);
    another file stands for itself.

    Raises FileNotFoundError without a folder or table and ValueError without a scan.
    """
    if folder.name.endswith(LISTINGS):
        return scan_sources(folder.parent, [Source(folder.name)], Split())
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} does not exist or is no folder; name the folder that holds the scans, or a "
            "table of them"
        )
    rows = []
    label_maps = []
    for file in walk(folder):
        parts = file.relative_to(folder).parts
        if set(parts[:-1]) & {*ASIDE, *BIDS_ASIDE}:
            continue
        if file.is_dir():
            rows.append(alone(file, folder) | {"problem": folder_problem(file)})
        elif extension(file.name) and is_label_map(file.name):
            label_maps.append(file)
        elif extension(file.name):
            known = subject_place(parts[:-1]) is not None
            row = describe(file, folder) if known else alone(file, folder)
            rows.append(row | {"problem": name_problem(file)})
    if not rows:
        raise ValueError(
            f"{folder} holds no scans; expected files that end in {', '.join(EXTENSIONS)}"
        )
    add_brain_masks(rows, label_maps)
    table = pd.DataFrame(rows)
    table["session"] = visits(table, folder)
    table = table.assign(source=".", part="all", site="", age=np.nan, sex="", label="", mask="")
    table = table.sort_values(["subject", "session", "sequence", "run", "path"], ignore_index=True)
    return table[[*COLUMNS, *table.columns.difference(list(COLUMNS))]]


def alone(file: Path, folder: Path) -> dict[str, object]:
    """The row of a file that belongs to no subject."""
    return {
        "path": printable(str(file)),
        "subject": printable(str(file.relative_to(folder))),
        "session": "",
        "sequence": stem(printable(file.name)),
        "run": 1,
    }


def pooled_features(
    encoder: Encoder, parameters: Parameters, cache: Cache, rows: np.ndarray, grid: int
) -> np.ndarray:
    """Features float32 [n, grid^3 * E] of some rows of a cache, a chunk at a time."""
    program, shape = embedder(encoder, cache.volumes.shape), cache.volumes.shape
    chunks = []
    for places in in_chunks(len(rows)):
        images = np.stack([cache.volume(int(row)) for row in rows[places]])[:, None]
        chunks.append(cell_means(program(parameters, images)[:, 0], shape, encoder.stride, grid))
    return np.concatenate(chunks)[: len(rows)]
