"""Competitors: models from elsewhere, tried on the study's tasks, draws and cases."""

from dataclasses import field
from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

from scaling.study.families import AnyFamily, ResEnc
from scaling.study.ladder import Encoder, resolve_encoder
from scaling.study.strict import STRICT
from scaling.study.task_kinds import kind_of
from scaling.study.tasks import Task

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
class Reference:
    """What every competitor says of itself."""

    segments: ClassVar[bool] = False
    """Whether it is tried on segmentations."""

    name: str
    """What the competitor is called in tables and figures."""
    kind: str = field(default="", kw_only=True)
    """Which of the four this is: each class has its own."""
    parameters: NonNegativeInt = field(default=0, kw_only=True)
    """Parameters of its encoder; 0: not stated."""
    samples: NonNegativeInt = field(default=0, kw_only=True)
    """Samples that it saw in pretraining; 0: not stated."""
    tasks: tuple[str, ...] = field(default=(), kw_only=True)
    """Tasks that it is tried on; all that suit it if empty."""
    collections: tuple[str, ...] = field(default=(), kw_only=True)
    """What it was pretrained on: names of collections, of which those of the study's sources are
    compared with the test sets; empty: not stated."""
    track: Literal["", "method", "open"] = field(default="", kw_only=True)
    """Track of the challenge that it was entered in, or would belong to; empty: not stated."""

    def answers(self, task: Task) -> bool:
        """Whether it is tried on a task."""
        named = not self.tasks or task.name in self.tasks
        return named and (self.segments or not kind_of(task).masks)


@dataclass(frozen=True, config=STRICT)
class Features(Reference):
    """Features of the tasks' scans that any other encoder has made, read out by the ridge
    regression of `Transfer.probe`. Segmentations are left out: a vector has no places.
    """

    path: str
    """A .parquet or .csv table with a row per scan and columns feature_0 ..., as `scaling embed`
    writes it, or a folder with a .npy vector per case."""
    kind: Literal["features"] = field(default="features", kw_only=True)
    """Which of the four this is."""


@dataclass(frozen=True, config=STRICT)
class Predictions(Reference):
    """Predictions of the test cases by anything that is no encoder: scores, years or masks, scored
    by the study's metrics.
    """

    segments: ClassVar[bool] = True

    path: str
    """A folder with a .txt, .nii.gz or .npy per case, as `scaling score` reads, below TASK/,
    20shots/ and draw_0/ where there are several; or a table with the columns case and
    prediction."""
    kind: Literal["predictions"] = field(default="predictions", kw_only=True)
    """Which of the four this is."""


@dataclass(frozen=True, config=STRICT)
class Function(Reference):
    """A function that makes features of scans, run once per scan, read out as `Features` are."""

    function: str
    """`module:function` or `file.py:function`: volumes float32 [B, D, H, W] in, features [B, F]
    out, as arrays of NumPy, JAX or PyTorch."""
    kind: Literal["function"] = field(default="function", kw_only=True)
    """Which of the four this is."""
    reads: Literal["volumes", "paths"] = field(default="volumes", kw_only=True)
    """What it takes: volumes of the study's cache, or the paths of B scans, which it preprocesses
    itself."""
    batch: PositiveInt = field(default=8, kw_only=True)
    """B, the number of scans of a call; the last call may have fewer."""


@dataclass(frozen=True, config=STRICT)
class Weights(Reference):
    """Public weights of an architecture of the study's families, tried like the study's own
    checkpoints: probes and fine-tuning.
    """

    segments: ClassVar[bool] = True

    path: str
    """A .safetensors file."""
    family: AnyFamily = ResEnc()
    """Family of the architecture."""
    size: str = "l"
    """Rung of the family; that of nnssl and of FOMO26's baseline is ResEnc l."""
    kind: Literal["weights"] = field(default="weights", kw_only=True)
    """Which of the four this is."""
    axes: Literal["xyz", "zyx"] = field(default="xyz", kw_only=True)
    """Order of the axes of the volumes that it was trained on: "xyz" of nibabel, or "zyx" of
    SimpleITK, which nnU-Net and nnssl use."""
    ignored: tuple[str, ...] = field(default=("decoder.",), kw_only=True)
    """Beginnings of the names of tensors that are left out, such as those of the decoder."""

    @property
    def encoder(self) -> Encoder:
        """The architecture. Raises ValueError, naming the size, when the family lacks it."""
        return resolve_encoder(self.family, self.size, "standard")


AnyReference = Annotated[Features | Predictions | Function | Weights, Field(discriminator="kind")]
