"""A downstream task: labelled scans, what is predicted, and how few labels are given."""

from typing import Literal

from pydantic.dataclasses import dataclass

from scaling.study.data import Source
from scaling.study.strict import STRICT


@dataclass(frozen=True, config=STRICT)
class Task:
    """A downstream task: labelled scans of one fine-tuning site, test scans of that and others."""

    name: str
    """Name in tables and folders."""
    kind: Literal["classification", "segmentation", "regression"]
    """What is predicted."""
    sequences: tuple[str, ...]
    """Sequences that are encoded one by one and fused; "t2s|swi" takes the first there is."""
    train: Source
    """Labelled training cases, of which the shots are drawn."""
    test: tuple[Source, ...]
    """Test cases; a case of a site without training cases counts as out of domain."""
    shots: tuple[int, ...]
    """Numbers of labelled cases to train on; each is a few-shot experiment of its own."""
    draws: int = 3
    """Random subsets of each number of shots."""
    label: str = ""
    """Column of participants.tsv that holds the label, where there is no labels/ folder."""
    inside: tuple[Source, ...] = ()
    """Labelled cases of the out-of-domain sites, none of them a test case, for the supervised
    control in domain."""

    def __post_init__(self) -> None:
        if not self.sequences or not self.test or not self.shots:
            raise ValueError(
                f"task {self.name!r} needs at least one sequence, one test source and one number "
                "of shots"
            )
        if self.draws < 1 or min(self.shots) < 2:
            raise ValueError(
                f"task {self.name!r} has draws={self.draws}, shots={self.shots}; expected "
                "draws >= 1, shots >= 2"
            )
