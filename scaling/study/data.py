"""Where the scans are, and the grid that they are brought to."""

from typing import Literal

from pydantic.dataclasses import dataclass

from scaling.study.challenges import DEFAULT
from scaling.study.phantom import Phantom
from scaling.study.protocols import Shape3
from scaling.study.strict import STRICT

# Prepared voxels outside of the head, in standard deviations of those inside: as dark as the
# darkest tissue of most contrasts.
BACKGROUND = -2.5


@dataclass(frozen=True, config=STRICT)
class Source:
    """A folder or table of scans, or one part of its subjects."""

    path: str
    """Path of the folder (or .csv, .tsv, .parquet table), relative to `Data.root`."""
    part: Literal["all", "train", "test"] = "all"
    """Which subjects: all, or one side of the division that `Data.split` makes."""


@dataclass(frozen=True, config=STRICT)
class Split:
    """How `Source.part` divides the subjects of a folder."""

    test_subjects: int = 0
    """Number of subjects that a seeded draw holds out as part "test"."""
    seed: int = 0
    """Seed of that draw."""


@dataclass(frozen=True, config=STRICT)
class Volumes:
    """The grid all scans are brought to: RAS axes, the head's box in the middle."""

    spacing_mm: float | None = 4.0
    """Isotropic voxel size in mm; None: every session keeps the voxels of its first scan."""
    shape: Shape3 = (40, 48, 40)
    """Number of voxels along each axis."""


@dataclass(frozen=True, config=STRICT)
class Data:
    """Where the scans are."""

    root: str
    """The folder that all sources are relative to; written by the generator if `phantom` is set."""
    pretraining: tuple[Source, ...]
    """Scans to pretrain on."""
    volumes: Volumes = Volumes()
    """Grid of pretraining, and of every task that names no grid of its own."""
    split: Split = Split()
    """Division of sources into the parts "train" and "test"."""
    phantom: Phantom | None = None
    """Synthetic cohort to write into `root` before anything else; None: the scans exist."""
    track: Literal["method", "open"] = "open"
    """Track of the challenge: a "method" study pretrains on the challenge's collection alone, and
    is refused when one of its scans is not listed in `manifest`."""
    challenge: str = DEFAULT
    """Challenge whose track it is: a published name, or a .toml or .py file."""
    manifest: str = ""
    """List of the collection, relative to `root`: what `scaling data check` wrote, one of its own
    tables, or its folder with the tables in it."""
    compressed: bool = False
    """Keep prepared volumes in less space, read more slowly; no result changes."""

    def __post_init__(self) -> None:
        if self.track == "method" and not self.manifest:
            raise ValueError(
                "data.track is 'method', which pretrains on the challenge's collection alone, and "
                "data.manifest is empty; expected a list of that collection to prove it by: what "
                "`scaling data check` wrote of it, its mapping.tsv, or its folder"
            )
