"""A challenge as a table: its tasks, file layout, scoring rules, ranking and pretraining data.

Published challenges are the TOML files in `challenges/`; a user's own is a TOML file of the same
form, or a Python file that defines `challenge = Challenge(...)`. No other module knows a
challenge by its name.
"""

import importlib.util
import tomllib
from dataclasses import field, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from scaling.study.challenges import FOLDER, built_in_challenges
from scaling.study.strict import STRICT

Kind = Literal["classification", "segmentation", "regression", "embedding"]


@dataclass(frozen=True, config=STRICT)
class ScoringRule:
    """One metric of a task, and what the challenge does where it is undefined."""

    metric: Literal["auroc", "f1", "dice", "nsd", "mae", "pearson", "fairness-auroc", "fairness-f1"]
    """Name of the metric. With more than two classes "auroc" is one-vs-rest, macro-averaged."""
    missing: Literal["exclude", "worst-score", "worst-value", "worst-task"] = "exclude"
    """What a case without a valid prediction costs: nothing ("exclude"); the least favourable
    score in its place ("worst-score"); `worst` as the value of that case ("worst-value"); `worst`
    for the whole task ("worst-task")."""
    worst: float = 0.0
    """The worst value that the challenge assigns."""
    undefined: float | None = None
    """Value where the metric does not exist (correlation of a constant); None: NaN."""
    both_empty: float = 1.0
    """Value of a case whose mask and prediction are both empty."""
    tolerance_mm: float | None = None
    """Distance within which surfaces count as equal; for "nsd"."""

    def __post_init__(self) -> None:
        if (self.metric == "nsd") != (self.tolerance_mm is not None):
            raise ValueError(
                f"metric {self.metric!r} has tolerance_mm={self.tolerance_mm}; expected a "
                "tolerance for nsd and for no other metric"
            )


@dataclass(frozen=True, config=STRICT)
class ChallengeTask:
    """One task of a challenge: what goes in, what comes out, and how it is scored."""

    id: str
    """Name in the challenge's tables and folders, e.g. "1"."""
    name: str
    """Readable name, e.g. "infarct"."""
    kind: Kind
    """What is predicted; "embedding": a vector that the organisers probe."""
    sequences: tuple[str, ...]
    """Inputs, by this software's names; "t2s|swi" is one of several; "any" is any one volume."""
    metrics: tuple[ScoringRule, ...]
    """What is ranked; the first is the main one."""
    output: Literal[".txt", ".nii.gz", ".npy"]
    """Ending of the file that the container writes."""
    classes: tuple[str, ...] = ()
    """Names of classes or labels in order, the background of a mask included."""
    flags: dict[str, str] = field(default_factory=dict)
    """Sequence -> flag of predict.py, where the flag has another name."""
    files: dict[str, str] = field(default_factory=dict)
    """Sequence -> stem of its file in the released data, where the file has another name."""
    folder: str = ""
    """Folder of the released fine-tuning data; empty: none is released."""
    label_file: str = ""
    """Text file with the label of a session; empty: there is none."""
    mask_file: str = ""
    """Mask of a session; empty: there is none."""
    container: str = ""
    """Name of the container that answers this task, if it is shared with another task."""
    weight: float = 1.0
    """Weight in the overall ranking."""
    groups: tuple[str, ...] = ()
    """Demographic variables of fairness; "age:40,60" gives the upper bounds of its bins."""
    synthetic: Literal[
        "", "infarct", "meningioma", "brain_age", "nerve", "polymicrogyria", "diagnosis"
    ] = ""
    """Which synthetic people stand in for this task's cases; empty: none do."""

    def __post_init__(self) -> None:
        names = [name for slot in self.sequences for name in slot.split("|")]
        unknown = sorted({*self.flags, *self.files} - set(names))
        if unknown or not names:
            raise ValueError(
                f"task {self.id!r} has flags or files for {unknown}; expected only its sequences "
                f"{names}"
            )
        if not self.metrics or self.weight < 0:
            raise ValueError(
                f"task {self.id!r} has {len(self.metrics)} metrics and weight {self.weight}; "
                "expected at least one metric and a weight of 0 or more"
            )

    def flag(self, sequence: str) -> str:
        """Flag of predict.py for a sequence, without its dashes."""
        return self.flags.get(sequence, sequence)

    def file(self, sequence: str) -> str:
        """Stem of the file of a sequence in the released data."""
        return self.files.get(sequence, sequence)

    @property
    def labels(self) -> int:
        """Number of labels of a mask, without the background."""
        return max(1, len(self.classes) - 1)


@dataclass(frozen=True, config=STRICT)
class Collection:
    """The collection of scans that the method track allows for pretraining."""

    name: str
    """Published name."""
    folder: str
    """Usual folder of the collection below the data's root."""
    scans: int
    """Number of scans; a manifest with more is of another collection."""
    keys: tuple[tuple[str, ...], ...]
    """Columns of its tables that name a scan, joined by "/" like the end of its path. Several
    forms may exist; the first whose columns are all there is used."""


@dataclass(frozen=True, config=STRICT)
class Challenge:
    """A challenge: tasks, ranking, layout of its data, limits of its containers."""

    name: str
    """Short name, as used on the command line."""
    title: str
    """Published name, with where and when."""
    source: str
    """Where its rules are published."""
    tasks: tuple[ChallengeTask, ...]
    """The tasks in the challenge's order."""
    aliases: dict[str, str] = field(default_factory=dict)
    """Name of a sequence in its files or flags -> this software's name."""
    session: str = "ses_1"
    """Name of a session's folder."""
    not_entered: Literal["last", "after-entrants"] = "last"
    """Rank in a task that a model did not enter: the number of ranked models ("last"), or one more
    than the number of models that entered it ("after-entrants")."""
    seconds_per_case: float = 120.0
    """Time that a container has for one case."""
    empty_masks: bool = True
    """Whether an empty mask is accepted as a prediction."""
    pretraining: Collection | None = None
    """What the method track may pretrain on; None: the challenge has no such track."""
    leaderboard: str = ""
    """Published results, a table beside the challenge's file: team, track, rank, and a column
    TASK_METRIC for every metric; empty: none are known."""

    def __post_init__(self) -> None:
        identifiers = [task.id for task in self.tasks]
        if not identifiers or len(set(identifiers)) < len(identifiers):
            raise ValueError(
                f"challenge {self.name!r} has the tasks {identifiers}; expected at least one and "
                "none twice"
            )

    def task(self, name: str) -> ChallengeTask:
        """The task of an id or name. Raises ValueError, listing the tasks."""
        for task in self.tasks:
            if name in (task.id, task.name):
                return task
        listed = ", ".join(f"{task.id} ({task.name})" for task in self.tasks)
        raise ValueError(f"{self.name} has no task {name!r}; expected one of {listed}")


@lru_cache
def published_challenges() -> tuple[Challenge, ...]:
    """The challenges that come with the package."""
    return tuple(load_challenge(name) for name in built_in_challenges())


def load_challenge(name: str | Path) -> Challenge:
    """A published challenge by name, or a user's own by its .toml or .py file.

    Raises FileNotFoundError or ValueError, naming the file and the field.
    """
    file = Path(name)
    if file.suffix not in (".toml", ".py"):
        file = FOLDER / f"{name}.toml"
    if not file.is_file():
        raise FileNotFoundError(
            f"no challenge {str(name)!r}: expected one of {', '.join(built_in_challenges())}, or "
            "the path of a .toml or .py file that defines one"
        )
    return _from_python(file) if file.suffix == ".py" else _from_toml(file)


def _from_toml(file: Path) -> Challenge:
    try:
        table = tomllib.loads(file.read_text())
        challenge = TypeAdapter(Challenge).validate_python(table)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not valid TOML: {error}") from error
    except ValidationError as error:
        raise ValueError(f"{file} is no challenge: {_first_mistakes(error)}") from error
    if not challenge.leaderboard:
        return challenge
    leaderboard = file.parent / challenge.leaderboard
    if not leaderboard.is_file():
        raise ValueError(f"{file} names the leaderboard {leaderboard}, which does not exist")
    return replace(challenge, leaderboard=str(leaderboard))


def _from_python(file: Path) -> Challenge:
    spec = importlib.util.spec_from_file_location(f"challenge_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ValueError(f"{file} cannot be imported as a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    challenge = getattr(module, "challenge", None)
    if not isinstance(challenge, Challenge):
        raise ValueError(
            f"{file} defines no challenge; expected `challenge = Challenge(...)` from "
            "scaling.study.challenge"
        )
    return challenge


def _first_mistakes(error: ValidationError) -> str:
    mistakes = []
    for detail in error.errors()[:5]:
        field = ".".join(str(part) for part in detail["loc"])
        mistakes.append(f"{field or 'the table'}: {detail['msg']}")
    return "; ".join(mistakes)
