"""What a container promises to whoever calls it: a challenge's contract, or our own."""

from dataclasses import dataclass

from scaling.study.challenge import Challenge, ChallengeTask

# Flags of a container that is for no challenge, besides those of the model's own sequences.
COMMON = ("flair", "adc", "dwi_b1000", "t2s", "swi", "t1", "t2")


@dataclass(frozen=True)
class Contract:
    """How a container is called and what it has to return."""

    name: str
    """Name of the container."""
    flags: dict[str, str]
    """Flag of predict.py -> sequence; a sequence that the model does not use is ignored."""
    always_answers: bool = False
    """Whether a case that cannot be read is answered by the prior, not refused."""
    empty_masks: bool = False
    """Whether a mask without any labelled voxel may be returned."""
    seconds_per_case: float = 120.0
    """Time limit of a case."""


def own_contract(task: str, sequences: tuple[str, ...]) -> Contract:
    """Flags named as sequences; cases that cannot be read are refused."""
    names = {*COMMON, *(name for slot in sequences for name in slot.split("|"))}
    return Contract(task, {name: name for name in sorted(names)})


def challenge_contract(
    challenge: Challenge, task: ChallengeTask, sequences: tuple[str, ...]
) -> Contract:
    """The flags of all tasks of a challenge, and its rules.

    Flags of other tasks are accepted as well, and so are the names of files: a container that
    refuses a call loses the case. Raises ValueError when the model needs what the task lacks.
    """
    flags: dict[str, str] = {}
    for other in challenge.tasks:
        for name in slots(other.sequences):
            flags |= {name: name, other.file(name): name, other.flag(name): name}
    flags |= challenge.aliases
    # The task's own flags win where a name means different things, and come last: `--check` takes
    # the last flag of a sequence.
    given = slots(task.sequences)
    for name in given:
        flags.pop(task.flag(name), None)
        flags[task.flag(name)] = name
    unknown = [
        slot for slot in sequences if not set(slot.split("|")) & set(given) and "any" not in given
    ]
    if unknown:
        raise ValueError(
            f"the model reads {', '.join(unknown)}, which task {task.id} ({task.name}) of "
            f"{challenge.name} does not give; expected sequences among {', '.join(given)}"
        )
    return Contract(
        name=task.container or f"task{task.id}",
        flags=flags,
        always_answers=True,
        empty_masks=challenge.empty_masks,
        seconds_per_case=challenge.seconds_per_case,
    )


def slots(sequences: tuple[str, ...]) -> list[str]:
    """All sequences of slots such as "t2s|swi"."""
    return [name for slot in sequences for name in slot.split("|")]
