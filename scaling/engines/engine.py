"""What any scheduler says of a job."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Queued:
    """A job in the queue, as squeue shows it."""

    id: str
    state: str
    reason: str


@dataclass(frozen=True)
class Submitted:
    """A job as it was submitted: its id ("" when that was never written down), steps and log."""

    id: str
    name: str
    steps: tuple[str, ...]
    log: Path
