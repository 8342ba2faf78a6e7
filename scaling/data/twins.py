"""Who is in a cache under two names: scans of two subjects that are nearly the same.

Beside equal voxels, which `content_hash` shows. Two scans are near-equal when the correlation of
their signatures (`scaling.data.signatures`), brought into register by a shift, is above NEAR_EQUAL.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from scaling.data.cache import Cache, open_cache
from scaling.data.signatures import Pattern, pattern_of, signature
from scaling.processes.parallel import cores, unordered_map

NEAR_EQUAL = 0.88  # correlation in register
CANDIDATE = 0.6  # correlation before a shift, above which a pair may be brought into register
NEAREST = 4  # scans of other subjects that each is brought into register with, at most
FEWEST_SCANS = 16  # of a sequence, whose mean signature is else not known
BLOCK, ROWS = 256, 512  # scans that a worker reads at once; rows of a block of correlations
SHIFTS_MM = (4.0, 2.0, 1.0)
FARTHEST_MM = 12.0
PEOPLE = "people.csv"  # in the cache: its scans, with one name for each person
PAIR = ["path", "twin", "correlation"]  # columns of a table of pairs
OTHERS = ""  # the sequence that rare and unknown ones are compared as


@dataclass(frozen=True)
class Twins:
    """`pairs`: path, twin, correlation; `people`: subject (source|subject) -> name of the person,
    for those who have several names.
    """

    pairs: pd.DataFrame
    people: dict[str, str]


def find_twins(cache: Path, workers: int = 0) -> Twins:
    """Near-equal scans of different subjects in a finished cache, sequence by sequence.

    A sequence with fewer than 16 scans is compared with the other rare ones, if these are 16.
    """
    opened = open_cache(cache)
    index = opened.index
    usable = np.flatnonzero(index["status"] == "ok")
    blocks = [(cache, usable[first : first + BLOCK]) for first in range(0, len(usable), BLOCK)]
    rows, signatures = [], []
    for block_rows, block in unordered_map(read_signatures, blocks, workers or cores()):
        if len(block_rows):
            rows.append(block_rows)
            signatures.append(block)
    if sum(map(len, rows)) < FEWEST_SCANS:
        return Twins(pd.DataFrame(columns=PAIR), {})
    order = np.argsort(np.concatenate(rows))
    places = np.concatenate(rows)[order]
    stacked = np.concatenate(signatures)[order]
    subjects = (index["source"] + "|" + index["subject"]).to_numpy()
    found = []
    for group in groups_of_sequences(index["sequence"].to_numpy()[places]):
        found += list(near_equal(opened, places[group], stacked[group], subjects))
    pairs = [
        (str(index["path"].iloc[one]), str(index["path"].iloc[other]), correlation)
        for one, other, correlation in sorted(found)
    ]
    people = one_name([(subjects[one], subjects[other]) for one, other, _ in found])
    return Twins(pd.DataFrame(pairs, columns=PAIR), people)


def read_signatures(block: tuple[Path, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a cache that have a signature [n], and their signatures float16 [n, K]."""
    path, rows = block
    cache = open_cache(path)
    patterns = [(row, pattern_at(cache, int(row))) for row in rows]
    with_one = [(row, signature(pattern)) for row, pattern in patterns if pattern is not None]
    if not with_one:
        return np.zeros(0, int), np.zeros((0, 0), np.float16)
    return (
        np.array([row for row, _ in with_one]),
        np.stack([values for _, values in with_one]).astype(np.float16),
    )


def pattern_at(cache: Cache, row: int) -> Pattern | None:
    """The pattern of a row of a cache."""
    spacing = [float(size) for size in str(cache.index["spacing"].iloc[row]).split(" x ")]
    return pattern_of(np.asarray(cache.volume(row)), np.array(spacing))


def groups_of_sequences(sequences: np.ndarray) -> Iterator[np.ndarray]:
    """Places of the scans of every sequence with enough of them, and of all rare ones together."""
    names, counts = np.unique(sequences, return_counts=True)
    common = set(names[counts >= FEWEST_SCANS])
    kinds = np.array([name if name in common else OTHERS for name in sequences], object)
    for kind in sorted(set(kinds)):
        places = np.flatnonzero(kinds == kind)
        if len(places) >= FEWEST_SCANS:
            yield places


def near_equal(
    cache: Cache, rows: np.ndarray, signatures: np.ndarray, subjects: np.ndarray
) -> Iterator[tuple[int, int, float]]:
    """Pairs of rows of different subjects that are near-equal, and their correlation."""
    shown = signatures != 0
    mean = signatures.sum(0, dtype=np.float32) / np.maximum(shown.sum(0), 1)  # [K]
    values = less_mean(signatures, mean)  # [n, K]
    people = np.unique(subjects[rows], return_inverse=True)[1]
    for one, other in candidates(values, people):
        pattern = pattern_at(cache, int(rows[other]))
        assert pattern is not None, rows[other]
        highest = in_register(values[one], pattern, mean)
        if highest > NEAR_EQUAL:
            yield int(rows[one]), int(rows[other]), round(highest, 3)


def candidates(values: np.ndarray, people: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of scans of different people [n] of which one is among the nearest of the other, by
    the correlation of their values [n, K].
    """
    pairs: set[tuple[int, int]] = set()
    for first in range(0, len(values), ROWS):
        correlations = correlation(values[first : first + ROWS], values)  # [rows, n]
        correlations[people[first : first + ROWS, None] == people] = -1
        nearest = np.argpartition(-correlations, NEAREST, axis=1)[:, :NEAREST]  # [rows, NEAREST]
        for row, others in enumerate(nearest):
            near = others[correlations[row, others] > CANDIDATE]
            pairs |= {(min(first + row, int(o)), max(first + row, int(o))) for o in near}
    return sorted(pairs)


def less_mean(signatures: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """float32 signatures [n, K] less the mean [K] where they show tissue; 0 elsewhere."""
    values = signatures.astype(np.float32)
    return np.where(values != 0, values - mean, 0)


def correlation(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Correlations [n, m] of values [n, K] and [m, K] over the places where both are not 0; -1
    where these are fewer than half of either's.
    """
    shown, others_shown = (values != 0 for values in (ones, others))
    first, second = shown.astype(np.float32), others_shown.astype(np.float32)
    both = first @ second.T  # [n, m]
    squares = (ones**2 @ second.T) * (first @ (others**2).T)
    fewest = np.maximum(shown.sum(1)[:, None], others_shown.sum(1)) / 2
    known = (both >= fewest) & (squares > 0)
    return np.where(known, ones @ others.T / np.sqrt(np.where(known, squares, 1)), -1)


def in_register(values: np.ndarray, pattern: Pattern, mean: np.ndarray) -> float:
    """The highest correlation of a signature's values [K] with a pattern, over shifts up to 12 mm:
    a descent along the axes by 4, 2 and 1 mm.
    """

    def at(shift: np.ndarray) -> float:
        moved = less_mean(signature(pattern, shift)[None], mean)  # [1, K]
        return float(correlation(values[None], moved)[0, 0])

    shift = np.zeros(3)
    highest = at(shift)
    for step in SHIFTS_MM:
        improved = True
        while improved:
            improved = False
            for move in (*(np.eye(3) * step), *(np.eye(3) * -step)):
                tried = shift + move
                if np.abs(tried).max() > FARTHEST_MM:
                    continue
                found = at(tried)
                if found > highest + 1e-4:
                    highest, shift, improved = found, tried, True
    return highest


def one_name(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """Subject -> the first name, in alphabetical order, of all that are joined by pairs."""
    names: dict[str, str] = {}
    for pair in pairs:
        joined = {names.get(subject, subject) for subject in pair}
        first = min(joined)
        members = [subject for subject, name in names.items() if name in joined]
        names |= dict.fromkeys([*members, *pair], first)
    return names


def people_table(index: pd.DataFrame, twins: Twins) -> pd.DataFrame:
    """A table of scans in which `person` is one name for each person: as a source of a study, its
    parts and its leakage are those of people.
    """
    subjects = index["source"] + "|" + index["subject"]
    columns = ["path", "session", "sequence", "run", "site", "age", "sex", "label", "mask"]
    table = index.loc[index["status"] == "ok", columns]
    subjects = subjects[table.index]
    table = table.assign(
        subject=subjects, person=[twins.people.get(str(name), str(name)) for name in subjects]
    )
    return table[["path", "subject", "person", *columns[1:]]]


def describe_twins(twins: Twins) -> list[str]:
    """A sentence on scans that are nearly equal to one of another subject."""
    pairs = twins.pairs
    if pairs.empty:
        return []
    first = pairs.sort_values("correlation", ascending=False).iloc[0]
    return [
        f"{len(pairs)} pairs of scans of {len(twins.people)} subjects are nearly equal (defaced, "
        f"moved or normalised anew; or one person twice), first {first['path']} = "
        f"{first['twin']} (correlation {first['correlation']:.2f})"
    ]
