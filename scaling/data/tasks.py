"""The labelled cases of a task as arrays, and the few-shot subsets all models are compared on."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from scaling.data.cache import Cache
from scaling.data.dealing import held_out_cases
from scaling.data.labels import Sessions, labelled_sessions, mask_volumes
from scaling.study.classes import named
from scaling.study.config import Data, Task, Volumes
from scaling.study.task_kinds import kind_of


@dataclass(frozen=True)
class Cases:
    """n labelled sessions: `images` float16 [n, S, D, H, W] (zeros where not `present` [n, S]).

    `labels` are float32 [n] numbers or class numbers, [n, k] where a label has k numbers, or uint8
    masks [n, D, H, W] of label numbers (0 outside, 1 ... C in the order of `Task.classes`). `ids`
    are source/subject/session. `emptied` [n, C] marks labels that the file has and the grid lost.
    `people` [n] are whom the cases are of: None for the subjects of `ids`.
    """

    ids: list[str]
    sites: list[str]
    images: np.ndarray
    present: np.ndarray
    labels: np.ndarray
    emptied: np.ndarray | None = None
    people: list[str] | None = None


@dataclass(frozen=True)
class TaskArrays:
    """Training and test cases of one task. `in_domain` [n] marks the test cases of a training site;
    `dropped` says what is left out; `inside` are labelled cases of sites that are tested out of
    domain. Draws before `first_draw` are predicted already.
    """

    train: Cases
    test: Cases
    in_domain: np.ndarray
    dropped: tuple[str, ...]
    inside: Cases | None = None
    first_draw: int = 0


def task_volumes(task: Task, data: Data) -> Volumes:
    """The grid of a task: its own, or that of the study."""
    return task.volumes or data.volumes


def load_task(cache: Cache, task: Task, data: Data) -> TaskArrays:
    """Gather a task's cases. Raises ValueError, in one sentence, when labels are missing, unfit, of
    one class, or too few.
    """
    volumes = task_volumes(task, data)
    if cache.volumes != volumes:
        raise ValueError(
            f"{cache.path} holds {cache.volumes} and task {task.name!r} wants {volumes}; prepare "
            "another cache"
        )
    sessions = task_sessions(cache, task)
    dropped = [sentence for group in sessions.values() for sentence in group.dropped]
    check_sessions(sessions, task)
    cases = {name: gather(cache, task, group) for name, group in sessions.items()}
    train = cases["training"]
    test = cases.get("test", train)  # `folds` divides the training cases later
    in_domain = np.isin(test.sites, train.sites)
    return TaskArrays(train, test, in_domain, tuple(dropped), cases.get("in-domain"))


def task_sessions(cache: Cache, task: Task) -> dict[str, Sessions]:
    """The labelled sessions that a task trains on, tests on, and has for its control in domain."""
    training = labelled_sessions(cache.index, task, (task.train,))
    sessions = {"training": training}
    if not (task.folds or task.held_out):
        sessions["test"] = labelled_sessions(cache.index, task, task.test)
    if task.inside:
        inside = labelled_sessions(cache.index, task, task.inside)
        sessions["in-domain"] = away_from(inside, sessions["training"], task)
    return sessions


def away_from(inside: Sessions, train: Sessions, task: Task) -> Sessions:
    """The sessions of sites without training cases. Raises ValueError if there are none."""
    sites = {session.site for session in train.usable}
    away = [session for session in inside.usable if session.site not in sites]
    if not away:
        raise ValueError(
            f"all in-domain cases of task {task.name!r} (inside) are of its training site "
            f"{min(sites)!r}; name cases of the test sites"
        )
    return Sessions(away, inside.dropped)


def check_sessions(sessions: dict[str, Sessions], task: Task) -> None:
    """Raises ValueError when training and test cases overlap, a class is missing, or the training
    cases are too few.
    """
    if task.held_out:
        sessions = with_held_out(sessions, task)
    tested = {session.id for session in sessions["test"].usable} if "test" in sessions else set()
    for name, group in sessions.items():
        shared = tested & {session.id for session in group.usable}
        if name != "test" and shared:
            raise ValueError(
                f"task {task.name!r} tests on {len(shared)} of its {name} cases, first "
                f"{min(shared)}; give train, inside and test different parts"
            )
        if kind_of(task).stratified:
            check_classes({session.label[0] for session in group.usable}, group, name, task)
    training = len(sessions["training"].usable)
    if task.folds:
        training -= -(-training // task.folds)  # the largest fold is held out
    if training < max(task.shots):
        left_out = "; ".join(sessions["training"].dropped)
        raise ValueError(
            f"task {task.name!r} has {training} training cases and wants shots={max(task.shots)}; "
            f"lower shots or add cases{f' ({left_out})' if left_out else ''}"
        )
    classes = len(task.classes) or 2
    if kind_of(task).stratified and min(task.shots) < classes:
        raise ValueError(
            f"task {task.name!r} has {classes} classes and wants shots={min(task.shots)}; expected "
            "a case of every class among the shots"
        )


def with_held_out(sessions: dict[str, Sessions], task: Task) -> dict[str, Sessions]:
    """The sessions with the held-out ones as those of the test."""
    usable, dropped = sessions["training"].usable, sessions["training"].dropped
    labels = np.array([session.label for session in usable], np.float32)
    numbers = labels[:, 0] if labels.shape[1] == 1 else labels
    tested = held_out_cases([session.person for session in usable], numbers, task)
    pairs = list(zip(usable, tested, strict=True))
    train = [session for session, is_tested in pairs if not is_tested]
    test = [session for session, is_tested in pairs if is_tested]
    return sessions | {"training": Sessions(train, dropped), "test": Sessions(test)}


def check_classes(labels: set[float], group: Sessions, name: str, task: Task) -> None:
    """Raises ValueError when a class has no training case, or all test cases are of one class."""
    classes = tuple(str(entry) for entry in task.classes) or ("0", "1")
    if len(labels) == 1:
        only = classes[int(min(labels))]
        raise ValueError(
            f"task {task.name!r} has a single class in its {name} cases (all {len(group.usable)} "
            f"labels are {only}); expected {kind_of(task).expected(task)}"
        )
    missing = [classes[number] for number in range(len(classes)) if number not in labels]
    if missing and name != "test":
        raise ValueError(
            f"task {task.name!r} has no {name} case of class {missing[0]}; expected cases of "
            f"{kind_of(task).expected(task)}"
        )


def gather(cache: Cache, task: Task, sessions: Sessions) -> Cases:
    """Images and labels of sessions."""
    usable = sessions.usable
    images = np.zeros((len(usable), len(task.sequences), *cache.volumes.shape), np.float16)
    present = np.zeros((len(usable), len(task.sequences)), bool)
    for n, session in enumerate(usable):
        for s, row in enumerate(session.slots):
            if row is not None:
                images[n, s] = cache.volume(row)
                present[n, s] = True
    ids, sites = [session.id for session in usable], [session.site for session in usable]
    people = [session.person for session in usable]
    if kind_of(task).masks:
        masks = np.stack([label_numbers(cache.mask(s.mask_row), task) for s in usable])
        emptied = np.stack([lost_labels(cache, session.mask_row, task) for session in usable])
        return Cases(ids, sites, images, present, masks, emptied, people)
    labels = np.array([session.label for session in usable], np.float32)
    numbers = labels[:, 0] if labels.shape[1] == 1 else labels
    return Cases(ids, sites, images, present, numbers, people=people)


def label_numbers(mask: np.ndarray, task: Task) -> np.ndarray:
    """uint8 [D, H, W]: a mask's values as places in `Task.classes`, from 1 on."""
    numbers = np.zeros(256, np.uint8)
    for place, (_, value) in enumerate(named(task.classes), start=1):
        numbers[value] = place
    return numbers[np.asarray(mask)]


def lost_labels(cache: Cache, row: int, task: Task) -> np.ndarray:
    """bool [C]: labels that the mask's file holds and the grid does not."""
    volumes = mask_volumes(cache.index.iloc[row].to_dict())
    pairs = [volumes.get(value, (0.0, 0.0)) for _, value in named(task.classes)]
    return np.array([in_file > 0 and on_grid == 0 for in_file, on_grid in pairs])


def draws_of(task: Task, arrays: TaskArrays, shots: int) -> Iterator[tuple[int, np.ndarray]]:
    """Number and cases [shots] of every draw that is not predicted yet."""
    every = few_shot_draws(task, arrays.train, shots)
    for draw in range(arrays.first_draw, len(every)):
        yield draw, every[draw]


def few_shot_draws(task: Task, cases: Cases, shots: int) -> np.ndarray:
    """int64 [R, shots]: `task.draws` random subsets of the cases, the same for every model; a class
    keeps its share (at least one case), and the last class comes first.

    Each draw is seeded by the task's name, the number of shots and the draw's number, nothing else.
    """
    n = len(cases.ids)
    if shots > n:
        raise ValueError(
            f"task {task.name!r} has {n} training cases and wants {shots} shots; lower shots or "
            "add cases"
        )
    draws = []
    for draw in range(task.draws):
        seed = hashlib.blake2b(f"{task.name}/{shots}/{draw}".encode(), digest_size=16).digest()
        order = np.random.default_rng(int.from_bytes(seed, "big")).permutation(n)
        if kind_of(task).stratified:
            order = np.concatenate(list(of_each_class(order, cases.labels, shots)))
        draws.append(order[:shots])
    return np.stack(draws)


def of_each_class(order: np.ndarray, labels: np.ndarray, shots: int) -> Iterator[np.ndarray]:
    """The first cases in `order` of every class, the last class first, as many as its share."""
    classes, counts = np.unique(labels, return_counts=True)
    taken = class_shares(counts, shots)
    for label, count in zip(classes[::-1], taken[::-1], strict=True):
        yield order[labels[order] == label][:count]


def class_shares(counts: np.ndarray, shots: int) -> list[int]:
    """How many of `shots` each class gives: its rounded share, at least 1 and at most all of it;
    what is then too many or too few is taken from, or given to, the first classes.
    """
    n = int(counts.sum())
    others = len(counts) - 1
    shares = []
    for count in counts:
        fewest, most = max(1, shots - (n - int(count))), min(int(count), shots - others)
        shares.append(int(np.clip(round(shots * int(count) / n), fewest, most)))
    while sum(shares) != shots:
        step = int(np.sign(shots - sum(shares)))
        room = [
            place
            for place, (share, count) in enumerate(zip(shares, counts, strict=True))
            if (share < count if step > 0 else share > 1)
        ]
        shares[room[0]] += step
    return shares
