"""Competitors: encoders from elsewhere, tried on the study's tasks, draws and cases."""

from pydantic import NonNegativeInt
from pydantic.dataclasses import dataclass

from scaling.study.strict import STRICT

# Arms of a study's own; a competitor cannot be called like one of them.
OWN_ARMS = (
    "pretrained",
    "scratch",
    "random",
    "classical",
    "histogram",
    "supervised",
    "supervised out of domain",
    "supervised in domain",
)


@dataclass(frozen=True, config=STRICT)
class Features:
    """Features of the tasks' scans that any other encoder has made, read out by the ridge
    regression of `Transfer.probe`. Segmentations are left out: a vector has no places.
    """

    name: str
    """What the competitor is called in tables and figures."""
    path: str
    """A .parquet or .csv table with a row per scan and columns feature_0 ..., as `scaling embed`
    writes it, or a folder with a .npy vector per case."""
    parameters: NonNegativeInt = 0
    """Parameters of its encoder; 0: not stated."""
    samples: NonNegativeInt = 0
    """Samples that it saw in pretraining; 0: not stated."""
