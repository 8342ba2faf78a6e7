"""What any scheduler says of its queue."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Queued:
    """A job in the queue, as squeue shows it."""

    id: str
    state: str
    reason: str
