"""The labelled cases of a task as arrays, and the few-shot subsets all models are compared on."""

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scaling.data.cache import Cache
from scaling.data.layout import select
from scaling.study.config import Data, Source, Task

SUFFIXES = {
    "classification": "0 or 1",
    "regression": "a number",
    "segmentation": "a mask (seg.nii.gz)",
}


@dataclass(frozen=True)
class Cases:
    """n labelled sessions: `images` float16 [n, S, D, H, W] (zeros where not `present` [n, S]), `labels` float32 [n] or
    uint8 masks [n, D, H, W]; `ids` are source/subject/session.
    """

    ids: list[str]
    sites: list[str]
    images: np.ndarray
    present: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class TaskArrays:
    """Training and test cases of one task. `in_domain` [n] marks the test cases of a training site; `dropped` says what
    is left out; `inside` are labelled cases of sites that are tested out of domain.
    """

    train: Cases
    test: Cases
    in_domain: np.ndarray
    dropped: tuple[str, ...]
    inside: Cases | None = None


def load_task(cache: Cache, task: Task, data: Data) -> TaskArrays:
    """Gather a task's cases. Raises ValueError, in one sentence, when labels are missing, unfit, of one class, or too
    few.
    """
    if cache.volumes != data.volumes:
        raise ValueError(
            f"{cache.path} holds {cache.volumes} and data.volumes is {data.volumes}; prepare another cache"
        )
    dropped: list[str] = []
    train = load_cases(cache, task, (task.train,), dropped)
    test = load_cases(cache, task, task.test, dropped)
    inside = (
        away_from(load_cases(cache, task, task.inside, dropped), train.sites, task)
        if task.inside
        else None
    )
    groups = {"training": train, "test": test} | ({"in-domain": inside} if inside else {})
    for name in groups.keys() - {"test"}:
        shared = set(groups[name].ids) & set(test.ids)
        if shared:
            raise ValueError(
                f"task {task.name!r} tests on {len(shared)} of its {name} cases, first {min(shared)}; give train, inside and test "
                "different parts"
            )
    if task.kind == "classification":
        for name, cases in groups.items():
            if len(np.unique(cases.labels)) < 2:
                raise ValueError(
                    f"task {task.name!r} has a single class in its {name} cases (all {len(cases.ids)} labels are "
                    f"{cases.labels[0]:g}); expected 0 and 1"
                )
    if len(train.ids) < max(task.shots):
        raise ValueError(
            f"task {task.name!r} has {len(train.ids)} training cases and wants shots={max(task.shots)}; lower shots or add cases"
        )
    return TaskArrays(train, test, np.isin(test.sites, train.sites), tuple(dropped), inside)


def away_from(cases: Cases, sites: list[str], task: Task) -> Cases:
    """The cases of all other sites. Raises ValueError if there are none."""
    kept = np.flatnonzero(~np.isin(cases.sites, sites))
    if not len(kept):
        raise ValueError(
            f"all in-domain cases of task {task.name!r} (inside) are of its training site {sites[0]!r}; name cases of the test sites"
        )
    ids, others = ([names[i] for i in kept] for names in (cases.ids, cases.sites))
    return Cases(ids, others, cases.images[kept], cases.present[kept], cases.labels[kept])


def load_cases(cache: Cache, task: Task, sources: tuple[Source, ...], dropped: list[str]) -> Cases:
    """The labelled sessions of some sources, sorted by id. What is left out is told in `dropped`."""
    chosen = np.logical_or.reduce([select(cache.index, source) for source in sources])
    names = ", ".join(f"{source.path} ({source.part})" for source in sources)
    if not chosen.any():
        raise ValueError(
            f"task {task.name!r}: the cache {cache.path} has no scans of {names}; prepare it with that source"
        )
    rows = cache.index[chosen].reset_index(names="i")
    ids, sites, labels, found = [], [], [], []
    unlabelled = 0
    for (source, subject, session), scans in rows.groupby(["source", "subject", "session"]):
        usable = scans[scans["status"] == "ok"].sort_values("run")
        slots = [_first_present(usable, slot) for slot in task.sequences]
        if all(slot is None for slot in slots):
            dropped.append(
                f"{source}/{subject}/{session} has no usable scan of {', '.join(task.sequences)}"
            )
            continue
        label = read_label(cache, task, usable)
        if label is None:
            unlabelled += 1
            continue
        ids.append(f"{source}/{subject}/{session}")
        sites.append(str(usable["site"].iloc[0]))
        labels.append(label)
        found.append(slots)
    if not ids:
        raise ValueError(
            f"task {task.name!r} has no labels in {names}: expected {SUFFIXES[task.kind]} in labels/SUBJECT/ses_1/, "
            "or a column of "
            "participants.tsv named by the task's label field"
        )
    if unlabelled:
        dropped.append(f"{unlabelled} sessions of {names} have no label")
    images = np.zeros((len(ids), len(task.sequences), *cache.volumes.shape), np.float16)
    for n, slots in enumerate(found):
        for s, slot in enumerate(slots):
            if slot is not None:
                images[n, s] = cache.volume(slot)
    present = np.array([[slot is not None for slot in slots] for slots in found])
    return Cases(ids, sites, images, present, np.stack(labels))


def _first_present(scans: pd.DataFrame, slot: str) -> int | None:
    """Row of the index that fills a slot such as "t2s|swi": its first sequence that is there."""
    for sequence in slot.split("|"):
        match = scans.loc[scans["sequence"] == sequence, "i"]
        if len(match):
            return int(match.iloc[0])
    return None


def read_label(cache: Cache, task: Task, scans: pd.DataFrame) -> np.ndarray | None:
    """A session's label: float32 scalar or uint8 mask [D, H, W]; None if it has none. Raises ValueError if it does not
    fit.
    """
    if task.kind == "segmentation":
        row = scans[scans["mask_row"] >= 0].head(1)
        return np.asarray(cache.mask(int(row["i"].iloc[0]))) if len(row) else None
    text = str(scans["label"].iloc[0])
    if not text and task.label:
        if task.label not in scans.columns:
            raise ValueError(
                f"task {task.name!r} wants label={task.label!r}, which participants.tsv does not have"
            )
        value = scans[task.label].iloc[0]
        text = "" if pd.isna(value) else str(value)
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not np.isfinite(number) or (task.kind == "classification" and number not in (0.0, 1.0)):
        raise ValueError(
            f"task {task.name!r} is {task.kind} and the label of {scans['path'].iloc[0]} is {text!r}; expected {SUFFIXES[task.kind]}"
        )
    return np.asarray(number, np.float32)


def few_shot_draws(task: Task, cases: Cases, shots: int) -> np.ndarray:
    """int64 [R, shots]: `task.draws` random subsets of the cases, the same for every model; a class keeps its share (at
    least one case).

    Each draw is seeded by the task's name, the number of shots and the draw's number, nothing else.
    """
    n = len(cases.ids)
    if shots > n:
        raise ValueError(
            f"task {task.name!r} has {n} training cases and wants {shots} shots; lower shots or add cases"
        )
    draws = []
    for draw in range(task.draws):
        seed = hashlib.blake2b(f"{task.name}/{shots}/{draw}".encode(), digest_size=16).digest()
        order = np.random.default_rng(int.from_bytes(seed, "big")).permutation(n)
        if task.kind == "classification":
            positive = order[cases.labels[order] == 1]
            negative = order[cases.labels[order] == 0]
            fewest, most = max(1, shots - len(negative)), min(len(positive), shots - 1)
            take = int(np.clip(round(shots * len(positive) / n), fewest, most))
            order = np.concatenate([positive[:take], negative[: shots - take]])
        draws.append(order[:shots])
    return np.stack(draws)
