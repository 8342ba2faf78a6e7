"""What can be known of competitors before their own steps: when a study is planned, what they are
read from; when its cohort is prepared, that every case of every task has what it needs.
"""

from collections.abc import Callable, Iterator
from typing import assert_never

from scaling.data.cache import Cache
from scaling.data.delimited import read_table
from scaling.study.config import Features, Function, Predictions, Study, Task, Weights
from scaling.study.references import AnyReference
from scaling.transfer.kinds import learner_of
from scaling.transfer.references import features, functions, predictions, weights
from scaling.transfer.references.joining import slots_of_cases


def require_sources(study: Study) -> None:
    """Raise ValueError, a sentence for every competitor whose file, folder or module is missing or
    cannot be what it should.
    """
    faults = []
    for reference in study.references:
        try:
            check_source(reference, study)
        except (ValueError, OSError) as error:
            faults.append(str(error))
    if faults:
        raise ValueError("; ".join(faults))


def check_source(reference: AnyReference, study: Study) -> None:
    """Raise ValueError or OSError for what is wrong whatever the cases are."""
    match reference:
        case Features():
            check_features(reference)
        case Predictions():
            for task in study.tasks:
                if reference.answers(task):
                    predictions.all_stated(reference, task)
        case Function():
            functions.source_file(reference)
        case Weights():
            weights.checked_names(reference)
        case _:
            assert_never(reference)


def check_features(reference: Features) -> None:
    """Raise ValueError or FileNotFoundError unless a table has columns of finite features, or a
    folder a vector in every file.
    """
    path = features.existing(reference)
    if not path.is_dir():
        table = read_table(path)
        features.feature_values(path, table, list(map(str, table.index)))
        return
    files = sorted(path.rglob("*.npy"))
    if not files:
        raise ValueError(f"reference {reference.name!r}: {path} holds no .npy file of a case")
    for file in files:
        features.read_vector(file)


def require_cases(study: Study, cache_of: Callable[[Task], Cache]) -> None:
    """Raise ValueError, a sentence for every competitor and task of which a case lacks what it
    needs, is named twice, or by a name that fits several.
    """
    faults = dict.fromkeys(problems(study, cache_of))
    if faults:
        raise ValueError("; ".join(faults))


def problems(study: Study, cache_of: Callable[[Task], Cache]) -> Iterator[str]:
    """What is wrong with the cases of every competitor and task."""
    for reference in study.references:
        for task in study.tasks:
            if not reference.answers(task):
                continue
            try:
                check_cases(reference, cache_of(task), task)
            except (ValueError, OSError) as error:
                yield f"task {task.name!r}: {error}"


def check_cases(reference: AnyReference, cache: Cache, task: Task) -> None:
    """Raise ValueError or OSError as the competitor's step on a task would."""
    match reference:
        case Features():
            features.read_features(reference, cache, task)
        case Predictions():
            check_predictions(reference, cache, task)
        case Function():
            functions.imported(reference)
        case Weights():
            pass
        case _:
            assert_never(reference)


def check_predictions(reference: Predictions, cache: Cache, task: Task) -> None:
    """Raise ValueError where a test case lacks a prediction, or one is no number. Masks are read by
    the step alone.
    """
    stated = predictions.all_stated(reference, task)
    tested = slots_of_cases(cache, task, ("training",) if task.folds else ("test",))
    for shots in task.shots:
        for draw in range(task.draws):
            chosen = predictions.of_draw(reference, stated, list(tested), shots, draw)
            if not learner_of(task).masks:
                for one in chosen:
                    predictions.numbers_of(one, task)
