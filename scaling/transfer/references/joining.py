"""Which scan or case of a task a name in somebody else's table or folder stands for."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from scaling.data.cache import Cache
from scaling.data.tasks import task_sessions
from scaling.study.config import Task

Slots = dict[str, tuple[int | None, ...]]  # case -> row of the index per sequence, None: absent


def slots_of_cases(cache: Cache, task: Task, parts: Sequence[str] = ()) -> Slots:
    """The scans of the cases of a task, those to train on and those to test on; or of some `parts`
    of `task_sessions`.
    """
    slots: Slots = {}
    for name, group in task_sessions(cache, task).items():
        if not parts or name in parts:
            slots |= {session.id: session.slots for session in group.usable}
    return slots


def case_names(cases: Sequence[str]) -> dict[str, list[int]]:
    """Name -> numbers of the cases source/subject/session that it can stand for: all of that, or
    less of it, or subject_session as containers are called with.
    """
    candidates: dict[str, list[int]] = {}
    for number, case in enumerate(cases):
        source, subject, session = case.rsplit("/", 2)
        together = f"{subject}_{session}".replace("/", "_")
        names = {case, f"{source}/{subject}", f"{subject}/{session}", subject, together}
        for name in names:
            candidates.setdefault(name, []).append(number)
    return candidates


def tails(path: str) -> list[str]:
    """A path, and what is left of it without its first folder, its first two, and so on."""
    parts = PurePosixPath(path).parts
    shorter = ["/".join(parts[start:]) for start in range(1, len(parts))]
    return list(dict.fromkeys([PurePosixPath(path).as_posix(), *shorter]))


def joined_once(
    where: Path, names: Sequence[str], candidates: Mapping[str, Sequence[int]]
) -> dict[int, int]:
    """What is described (a scan, a case) -> the place of the one name that describes it.

    Names of nothing are of other tasks. Raises ValueError for a name that fits several, and for two
    that describe the same.
    """
    joined: dict[int, int] = {}
    for place, name in enumerate(names):
        described = candidates.get(name, [])
        if len(described) > 1:
            raise ValueError(
                f"{where}: {name} fits {len(described)} scans or cases of the task; name them by "
                "more of their path, such as source/subject/session"
            )
        for target in described:
            if target in joined:
                raise ValueError(
                    f"{where} describes the same scan or case twice, by {names[joined[target]]} "
                    f"and by {name}; expected one"
                )
            joined[target] = place
    return joined
