"""Features from elsewhere, joined to the cases of a task and read out as those of our encoders."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from scaling.data.cache import Cache
from scaling.data.delimited import read_table
from scaling.data.tasks import TaskArrays
from scaling.study.config import Probe, Task
from scaling.study.references import Features
from scaling.transfer.predictions import Predicted
from scaling.transfer.references.joining import (
    Slots,
    case_names,
    joined_once,
    slots_of_cases,
    tails,
)
from scaling.transfer.vectors import ridge_of_vectors

TABLES = (".parquet", ".csv", ".tsv")
KEYS = ("source", "subject", "session", "sequence", "run")


def reference_probe(
    features: Mapping[str, np.ndarray], arrays: TaskArrays, task: Task, recipe: Probe
) -> Iterator[Predicted]:
    """Fit ridge on every draw's features [S*F] of a case, and predict the test cases."""
    train, test = (of_cases(features, cases.ids) for cases in (arrays.train, arrays.test))
    return ridge_of_vectors("probe", train, test, arrays, task, recipe.penalties)


def of_cases(features: Mapping[str, np.ndarray], ids: Sequence[str]) -> np.ndarray:
    """Features of cases, float64 [n, 1, S*F]: one token a case."""
    return np.stack([features[case] for case in ids])[:, None]


def read_features(reference: Features, cache: Cache, task: Task) -> dict[str, np.ndarray]:
    """Case -> features [S*F] of all cases of a task, not a number where a sequence is absent.

    Raises ValueError, naming row, file or case, when one is missing, doubled, ambiguous or not
    finite, and FileNotFoundError when there is no such table or folder.
    """
    path = existing(reference)
    slots = slots_of_cases(cache, task)
    if path.is_dir():
        return case_vectors(path, list(slots))
    return side_by_side(slots, scan_vectors(path, cache.index.loc[rows_of(slots)]))


def existing(reference: Features) -> Path:
    """The folder or table of features. Raises ValueError, or FileNotFoundError without one."""
    path = Path(reference.path)
    if not path.exists():
        raise FileNotFoundError(
            f"reference {reference.name!r}: {path} does not exist; expected a table of features or "
            "a folder of .npy files"
        )
    if not path.is_dir() and path.suffix not in TABLES:
        raise ValueError(
            f"reference {reference.name!r}: {path} is neither a folder nor one of "
            f"{', '.join(TABLES)}"
        )
    return path


def rows_of(slots: Slots) -> list[int]:
    """Rows of the cache's index that cases need, each once."""
    return sorted({row for places in slots.values() for row in places if row is not None})


def side_by_side(slots: Slots, by_row: Mapping[int, np.ndarray]) -> dict[str, np.ndarray]:
    """Case -> features [S*F], its sequences side by side; absent ones are not a number."""
    length = len(next(iter(by_row.values())))
    features = {}
    for case, places in slots.items():
        vectors = [np.full(length, np.nan) if row is None else by_row[row] for row in places]
        features[case] = np.concatenate(vectors)
    return features


def scan_vectors(file: Path, scans: pd.DataFrame) -> dict[int, np.ndarray]:
    """Row of the cache's index -> features [F] of that scan, from a table with a row per scan."""
    table = read_table(file)
    names, candidates = scan_names(file, table, scans)
    joined = joined_once(file, names, candidates)
    missing = [str(scans.loc[row, "path"]) for row in scans.index if row not in joined]
    if missing:
        raise ValueError(
            f"{file} has no row of {missing[0]} ({len(missing)} of {len(scans)} scans are "
            "missing); expected a row of every scan of the task"
        )
    places = [joined[row] for row in scans.index]
    values = feature_values(file, table.iloc[places], [names[place] for place in places])
    return dict(zip(scans.index, values, strict=True))


def feature_values(file: Path, table: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """The features float64 [n, F] of rows that are called `names`. Raises ValueError naming one."""
    columns = [column for column in table if str(column).startswith("feature_")]
    if not columns:
        raise ValueError(
            f"{file} has no columns feature_0 ...; found {', '.join(table.columns[:8])}"
        )
    values = table[columns].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        name = names[int(np.argmin(finite))]
        raise ValueError(f"{file} has a feature that is no finite number in row {name}")
    return values


def scan_names(
    file: Path, table: pd.DataFrame, scans: pd.DataFrame
) -> tuple[list[str], dict[str, list[int]]]:
    """What every row of a table is called, and name -> the scans that it can stand for: by path (or
    its last parts) where the table has one, else by subject, session and sequence.
    """
    candidates: dict[str, list[int]] = {}
    if "path" in table:
        names = [PurePosixPath(path).as_posix() for path in table["path"]]
        for row, path in zip(scans.index, scans["path"], strict=True):
            for tail in tails(str(path)):
                candidates.setdefault(tail, []).append(int(row))
        return names, candidates
    if not {"subject", "sequence"} <= set(table):
        raise ValueError(
            f"{file} has the columns {', '.join(table.columns[:6])}; expected path, or subject, "
            "session and sequence, and feature_0 ..."
        )
    keys = [key for key in KEYS if key in table]
    names = ["/".join(values) for values in table[keys].itertuples(index=False)]
    for row, values in zip(scans.index, scans[keys].itertuples(index=False), strict=True):
        candidates.setdefault("/".join(map(str, values)), []).append(int(row))
    return names, candidates


def case_vectors(folder: Path, cases: Sequence[str]) -> dict[str, np.ndarray]:
    """Case -> features [F] from a folder with a .npy of every case.

    A file is named by source/subject/session, as folders, or by less where that is enough.
    """
    files = sorted(folder.rglob("*.npy"))
    names = [file.relative_to(folder).with_suffix("").as_posix() for file in files]
    joined = joined_once(folder, names, case_names(cases))
    missing = [case for number, case in enumerate(cases) if number not in joined]
    if missing:
        raise ValueError(
            f"{folder} has no features of {missing[0]} ({len(missing)} of {len(cases)} cases are "
            f"missing); expected {folder / missing[0]}.npy"
        )
    vectors = {case: read_vector(files[joined[n]]) for n, case in enumerate(cases)}
    length = len(vectors[cases[0]])
    for number, case in enumerate(cases):
        if len(vectors[case]) != length:
            raise ValueError(
                f"{files[joined[number]]} holds {len(vectors[case])} features; expected {length} "
                f"as in {files[joined[0]]}"
            )
    return vectors


def read_vector(file: Path) -> np.ndarray:
    """The features float64 [F] in a .npy of shape [F] or [1, F]. Raises ValueError naming it."""
    try:
        values = np.load(file, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{file} cannot be read ({error}); expected features [F]") from error
    if (
        values.ndim not in (1, 2)
        or values.size != values.shape[-1]
        or values.dtype.kind not in "fiu"
    ):
        raise ValueError(f"{file} holds {values.dtype} {values.shape}; expected features [F]")
    vector = values.reshape(-1).astype(np.float64)  # [1, F] -> [F]
    if not np.isfinite(vector).all():
        raise ValueError(f"{file} holds a feature that is no finite number")
    return vector
