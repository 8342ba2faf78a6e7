"""Predictions from elsewhere, joined to the test cases of a task, and scored as ours are.

    PATH/[TASK/][20shots/][draw_0/]CASE.txt      one number, or one of every class
    PATH/[TASK/][20shots/][draw_0/]CASE.nii.gz   a mask on the voxels of the case's scans
    PATH/[TASK/][20shots/][draw_0/]CASE.npy      the same on the study's grid, uint8 [D, H, W]
    PATH.csv, .tsv, .parquet                     columns case, prediction (of more than two classes
                                                 score_CLASS), and task, shots, draw

What names no task, shots or draw stands for all of them. CASE is source/subject/session, or less of
it where that is enough, such as sub_1.
"""

import math
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from scaling.data.cache import Cache
from scaling.data.delimited import decoded, read_table
from scaling.data.head import find_head
from scaling.data.masks import misplacement
from scaling.data.reading import read_mask, read_scan
from scaling.data.tasks import TaskArrays, label_numbers
from scaling.data.volume import mask_to_grid, session_grid
from scaling.study.classes import class_names, named
from scaling.study.config import Predictions, Task
from scaling.transfer.kinds import learner_of
from scaling.transfer.kinds.classification import SCORE
from scaling.transfer.predictions import Predicted
from scaling.transfer.references.features import TABLES
from scaling.transfer.references.joining import case_names, joined_once

NUMBERS, MASKS = (".txt",), (".nii.gz", ".nii", ".mgz", ".npy")
SHOTS, DRAW = re.compile(r"(\d+)[_-]?shots?"), re.compile(r"draw[_-]?(\d+)")


class Stated(NamedTuple):
    """One prediction: of which case, shots and draw (None: all), and the numbers or the file."""

    case: str
    shots: int | None
    draw: int | None
    value: np.ndarray | Path


def reference_predictions(
    reference: Predictions,
    stated: Sequence[Stated],
    cache: Cache,
    arrays: TaskArrays,
    task: Task,
) -> Iterator[Predicted]:
    """The predictions of all test cases after every draw, out of all that are `stated`.

    Raises ValueError, naming file or row, for a case that is missing, doubled, ambiguous or no
    valid prediction.
    """
    cases, masks = arrays.test.ids, learner_of(task).masks
    for shots in task.shots:
        for draw in range(arrays.first_draw, task.draws):
            chosen = of_draw(reference, stated, cases, shots, draw)
            if masks:
                pairs = zip(chosen, cases, strict=True)
                read = [mask_of(one, cache, task, case) for one, case in pairs]
            else:
                read = [numbers_of(one, task) for one in chosen]
            outputs = np.stack(read)  # [n, ...]
            yield Predicted("predictions", shots, draw, 0.0, outputs)


def of_draw(
    reference: Predictions, stated: Sequence[Stated], cases: Sequence[str], shots: int, draw: int
) -> list[Stated]:
    """What is stated of every case after one draw, in the order of the cases."""
    here = [one for one in stated if one.shots in (None, shots) and one.draw in (None, draw)]
    where = Path(reference.path)
    joined = joined_once(where, [one.case for one in here], case_names(cases))
    missing = [case for number, case in enumerate(cases) if number not in joined]
    if missing:
        raise ValueError(
            f"reference {reference.name!r}: {where} has no prediction of {missing[0]} "
            f"for {shots} shots, draw {draw} ({len(missing)} of {len(cases)} cases are missing)"
        )
    return [here[joined[number]] for number in range(len(cases))]


def all_stated(reference: Predictions, task: Task) -> list[Stated]:
    """All predictions of a task that a folder or table holds. Raises ValueError naming it."""
    path = Path(reference.path)
    if not path.exists():
        raise FileNotFoundError(
            f"reference {reference.name!r}: {path} does not exist; expected a folder or a table of "
            "predictions"
        )
    stated = list(of_folder(path, task) if path.is_dir() else of_table(path, task))
    if not stated:
        endings = ", ".join(MASKS if learner_of(task).masks else NUMBERS)
        raise ValueError(
            f"reference {reference.name!r}: {path} holds no predictions of task {task.name!r}; "
            f"expected {endings} files below it or below {path / task.name}, or rows of a table"
        )
    return stated


def of_folder(folder: Path, task: Task) -> Iterator[Stated]:
    """The predictions of a folder, of the task's own one where there is one."""
    endings = MASKS if learner_of(task).masks else NUMBERS
    root = folder / task.name
    if not root.is_dir():
        root = folder
    for file in sorted(root.rglob("*")):
        ending = next((ending for ending in endings if file.name.endswith(ending)), "")
        if not ending or not file.is_file():
            continue
        parts = [*file.relative_to(root).parent.parts, file.name.removesuffix(ending)]
        shots = draw = None
        if match := SHOTS.fullmatch(parts[0]):
            shots, parts = int(match[1]), parts[1:]
        if parts and (match := DRAW.fullmatch(parts[0])):
            draw, parts = int(match[1]), parts[1:]
        yield Stated("/".join(parts), shots, draw, file)


def of_table(file: Path, task: Task) -> Iterator[Stated]:
    """The rows of a table of a task. Raises ValueError naming file and row."""
    if file.suffix not in TABLES:
        raise ValueError(f"{file} is neither a folder nor one of {', '.join(TABLES)}")
    table = read_table(file)
    columns = score_columns(task)
    absent = [name for name in ("case", *columns) if name not in table]
    if absent:
        raise ValueError(
            f"{file} has no column {absent[0]!r}; found {', '.join(table.columns[:8])}, expected "
            f"case, {', '.join(columns)}, and task, shots and draw where there are several"
        )
    if "task" in table:
        table = table[table["task"].isin(["", task.name])]
    for row in table.to_dict("records"):
        values = pd.to_numeric(pd.Series([row[name] for name in columns]), errors="coerce")
        if not np.isfinite(values).all():
            raise ValueError(f"{file} has no finite number as prediction of {row['case']}")
        shots, draw = (whole(file, row, name) for name in ("shots", "draw"))
        yield Stated(str(row["case"]), shots, draw, values.to_numpy(np.float64))


def score_columns(task: Task) -> list[str]:
    """Columns of the numbers that a prediction consists of."""
    learner = learner_of(task)
    if learner.masks:
        raise ValueError(
            f"task {task.name!r} is a segmentation; expected a folder of masks, not a table"
        )
    if learner.outputs == 1:
        return ["prediction"]
    return [f"{SCORE}{name}".lower() for name in class_names(task.classes)]


def whole(file: Path, row: Mapping[Hashable, Any], column: str) -> int | None:
    """A whole number in a row, None where the table does not state it."""
    text = str(row.get(column, ""))
    if text == "":
        return None
    if not text.removesuffix(".0").isdigit():
        raise ValueError(f"{file} has {column}={text!r} for {row['case']}; expected a number")
    return int(text.removesuffix(".0"))


def numbers_of(stated: Stated, task: Task) -> np.ndarray:
    """A score or number, float64 [], or one of every class [C]. Raises ValueError naming a file."""
    outputs = learner_of(task).outputs
    values = stated.value
    if isinstance(values, Path):
        texts = decoded(values, values.read_bytes()).split()
        numbers = [number(text) for text in texts]
        if len(numbers) != outputs or not all(map(math.isfinite, numbers)):
            raise ValueError(
                f"{stated.value} holds {' '.join(texts)[:40]!r}; expected "
                f"{'one finite number' if outputs == 1 else f'{outputs} finite numbers'}"
            )
        values = np.array(numbers)
    return values[0] if outputs == 1 else values


def number(text: str) -> float:
    """A number from text, not a number where it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def mask_of(stated: Stated, cache: Cache, task: Task, case: str) -> np.ndarray:
    """A predicted mask on the study's grid, uint8 [D, H, W] of label numbers.

    Raises ValueError naming the file.
    """
    file = stated.value
    assert isinstance(file, Path)
    if file.suffix == ".npy":
        values = mask_on_grid(file, cache)
    else:
        scan = scan_of_case(cache, case)
        if doubt := misplacement(file, scan):
            raise ValueError(f"{doubt}; expected a mask on the voxels of {scan}")
        values = mask_to_grid(read_mask(file), cache.volumes, grid_of_scan(scan, cache))
    declared = {value for _, value in named(task.classes)}
    undeclared = sorted(set(np.unique(values).tolist()) - declared - {0})
    if undeclared:
        raise ValueError(
            f"{file} holds the value {undeclared[0]}, which the task's classes do not declare; "
            f"expected 0 and {', '.join(map(str, sorted(declared)))}"
        )
    return label_numbers(values, task)


def mask_on_grid(file: Path, cache: Cache) -> np.ndarray:
    """A mask that is on the study's grid already, uint8 [D, H, W]. Raises ValueError naming it."""
    try:
        values = np.load(file, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{file} cannot be read ({error}); expected a mask [D, H, W]") from error
    if values.shape != cache.volumes.shape or values.dtype.kind not in "bui":
        raise ValueError(
            f"{file} holds {values.dtype} {values.shape}; expected whole numbers on the study's "
            f"grid {cache.volumes.shape}"
        )
    if values.min() < 0 or values.max() > np.iinfo(np.uint8).max:
        raise ValueError(f"{file} holds values outside of 0 to 255; expected labels of a mask")
    return values.astype(np.uint8)


def scan_of_case(cache: Cache, case: str) -> Path:
    """A case's first usable scan, whose grid is that of its session."""
    index = cache.index[cache.index["status"] == "ok"]
    cases = index["source"] + "/" + index["subject"] + "/" + index["session"]
    return Path(str(index.loc[cases == case, "path"].iloc[0]))


def grid_of_scan(file: Path, cache: Cache) -> np.ndarray:
    """Voxel-to-world matrix [4, 4] of the grid that `prepare` gave a session for this scan."""
    scan = read_scan(file)
    head = find_head(file, scan.voxels, scan.spacing)
    return session_grid(scan, cache.volumes, head.inside)
