"""The knobs of the synthetic cohort (`scaling.data.phantom` writes it)."""

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Phantom:
    """A cohort in the FOMO60K and FOMO25 file layouts: subjects per folder and site."""

    seed: int = 0
