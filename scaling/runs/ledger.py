"""The ledger of evaluations: who has looked at which test cases, kept beside the data.

Choosing anything in sight of test cases spends them. So every study that evaluates on a test source
leaves a line in `.evaluations.jsonl` in the data's root, and every report counts the lines before
it.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from scaling.runs.registration import design_digest, now
from scaling.study.config import Study

LEDGER = ".evaluations.jsonl"


@dataclass(frozen=True)
class Evaluation:
    """One line: a study that has evaluated on test cases."""

    time: str
    """When, in UTC."""
    study: str
    """Name of the study."""
    design: str
    """Digest of its design (`scaling.runs.registration.design_digest`)."""
    task: str
    """Name of the task."""
    cases: tuple[str, ...]
    """The test cases, as source/subject/session."""


def record_evaluation(root: Path, study: Study, task: str, cases: Sequence[str]) -> str:
    """Add a line to the ledger in the data's root, once for each study, design and task.

    Returns "", or a sentence when the ledger cannot be written, as on read-only data.
    """
    entry = Evaluation(now(), study.name, design_digest(study), task, tuple(sorted(set(cases))))
    try:
        before = read_ledger(root)
        if any(same_evaluation(entry, other) for other in before):
            return ""
        line = json.dumps(asdict(entry)) + "\n"
        # One write of one line: lines of studies that run at the same time do not mix.
        descriptor = os.open(root / LEDGER, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, line.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        return (
            f"the evaluation on {task} is not recorded in {root / LEDGER} ({error}); "
            "later studies cannot count it"
        )
    return ""


def read_ledger(root: Path) -> list[Evaluation]:
    """All lines of the ledger. Raises ValueError naming the line that is not one."""
    file = root / LEDGER
    if not file.exists():
        return []
    entries = []
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        try:
            values = json.loads(line)
            entries.append(Evaluation(**{**values, "cases": tuple(values["cases"])}))
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{file} line {number} is not an evaluation; repair or remove that line"
            ) from error
    return entries


def same_evaluation(one: Evaluation, other: Evaluation) -> bool:
    """Whether two lines are of the same study, design and task on the same cases."""
    return (one.study, one.design, one.task, one.cases) == (
        other.study,
        other.design,
        other.task,
        other.cases,
    )


def seen_before(root: Path, study: Study, task: str, cases: Sequence[str]) -> str | None:
    """What the ledger says of earlier looks at these test cases, in one sentence; None where it
    names none.
    """
    wanted = set(cases)
    design = design_digest(study)
    ledger = read_ledger(root)
    ours = [entry.time for entry in ledger if (entry.study, entry.design) == (study.name, design)]
    begun = min(ours, default=now())
    earlier = []
    for entry in ledger:
        of_another = (entry.study, entry.design) != (study.name, design)
        if of_another and entry.time <= begun and wanted & set(entry.cases):
            earlier.append(entry)
    if not earlier:
        return None
    studies = {(entry.study, entry.design) for entry in earlier}
    designs = {entry.design for entry in earlier}
    overlap = wanted & {case for entry in earlier for case in entry.cases}
    return (
        f"{len(overlap)} of the {len(wanted)} test cases of {task} had been evaluated by "
        f"{len(studies)} earlier {plural(len(studies), 'study', 'studies')} of {len(designs)} "
        f"{plural(len(designs), 'design', 'designs')}: its result is exploratory."
    )


def plural(count: int, one: str, several: str) -> str:
    """The right form of a word for a count."""
    return one if count == 1 else several
