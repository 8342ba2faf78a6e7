"""What is in the synthetic cohort (`scaling.phantom.write` writes it): people, findings, scanners.

Defaults are sized for the quickstart: coarse voxels, few subjects, a minute on two cores.
"""

import re
from typing import Literal

from pydantic.dataclasses import dataclass

from scaling.study.challenges import DEFAULT
from scaling.study.strict import STRICT


@dataclass(frozen=True, config=STRICT)
class Scanner:
    """A site: what turns tissue into a stored image."""

    name: str
    """Name of the site in tables."""
    field_tesla: float = 3.0
    """Field strength; sets the relaxation times."""
    spacing_mm: tuple[float, float, float] = (3.0, 3.0, 3.0)
    """Voxel sizes towards right, anterior and superior."""
    orientation: str = "RAS"
    """Order of the stored axes, as axis codes."""
    echo_scale: float = 1.0
    """Factor of every protocol's echo time."""
    repetition_scale: float = 1.0
    """Factor of every protocol's repetition time."""
    gain: float = 500.0
    """Factor of the stored values."""
    bias: float = 0.1
    """Relative amplitude of the receive field's inhomogeneity."""
    noise: float = 0.012
    """Standard deviation of the Rician noise as a share of white matter's signal in a cube of
    3 mm; smaller voxels are noisier."""
    blur_mm: float = 0.0
    """Additional blur, full width at half maximum."""
    tilt_degrees: float = 0.0
    """Tilt of the slices about the left-right axis."""
    susceptibility: str = "t2s"
    """What the site records for T2* weighting: "t2s" or "swi"."""
    gap_mm: float = 0.0
    """Part of the third voxel size that no slice excites."""
    texture: float = 0.02
    """Relative amplitude by which tissue differs from place to place."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"(?=.*[RL])(?=.*[AP])(?=.*[SI])[RLAPSI]{3}", self.orientation):
            raise ValueError(
                f"orientation of {self.name!r} is {self.orientation!r}; expected axis codes such "
                "as RAS or LPI"
            )
        scales = (self.field_tesla, self.echo_scale, self.repetition_scale, self.gain)
        if min(self.spacing_mm) <= 0 or min(scales) <= 0:
            raise ValueError(f"scanner {self.name!r} has a size or scale that is not positive")
        if self.susceptibility not in ("t2s", "swi"):
            raise ValueError(
                f"susceptibility of {self.name!r} is {self.susceptibility!r}; expected t2s or swi"
            )


@dataclass(frozen=True, config=STRICT)
class Cohort:
    """Number of labelled subjects of a task (of each class, for diagnoses)."""

    train: int
    """Training subjects, all at the fine-tuning site."""
    test: int
    """Test subjects at the fine-tuning site and at each further site."""


@dataclass(frozen=True, config=STRICT)
class Ageing:
    """How age shows: sizes at the end of the age range."""

    youngest: float = 20.0
    """Youngest age, years."""
    oldest: float = 85.0
    """Oldest age, years."""
    ventricles_mm: float = 6.0
    """How far the ventricles push their walls outwards."""
    atrophy: float = 0.5
    """Share of its thickness that the cortex loses to fluid."""
    lesions_ml: float = 12.0
    """Median volume of white matter lesions."""
    scatter: float = 0.06
    """Share of these sizes by which people of one age differ."""


@dataclass(frozen=True, config=STRICT)
class Infarcts:
    """Acute infarcts and their mimics. Volumes are log-normal between two limits."""

    median_ml: float = 12.7
    """Median volume."""
    log_spread: float = 1.4
    """Standard deviation of the volume's natural logarithm."""
    smallest_ml: float = 4.0
    """Smallest volume."""
    largest_ml: float = 200.0
    """Largest volume."""
    adc_ratio: tuple[float, float] = (0.71, 0.76)
    """Range of the factor by which diffusion drops."""
    contrast: float = 1.0
    """Factor of the change in the other sequences."""
    mimics: float = 0.6
    """Share of subjects without an acute infarct (and half of it with one) who have an old lesion
    that is bright on FLAIR but not restricted, or a bright artefact on DWI alone."""
    positives: float = 0.55
    """Share of the task's subjects with an acute infarct."""
    masks: str = ""
    """Folder of NIfTI masks in MNI space, which the infarcts take; empty: they are drawn."""


@dataclass(frozen=True, config=STRICT)
class Meningiomas:
    """Extra-axial tumours on the dura."""

    radius_mm: tuple[float, float] = (9.0, 24.0)
    """Range of the radius."""
    calcified: float = 0.3
    """Share that is calcified (dark on T2*)."""
    oedema: float = 0.5
    """Share with oedema around."""
    contrast: float = 1.0
    """Factor of the difference from cortex."""


@dataclass(frozen=True, config=STRICT)
class Nerves:
    """Trigeminal nerves and the vessels that touch them, scanned in a crop of fine voxels."""

    nerve_mm: tuple[float, float] = (2.2, 3.4)
    """Range of the nerve's diameter."""
    vessel_mm: tuple[float, float] = (1.0, 2.0)
    """Range of the vessel's diameter."""
    spacing_mm: tuple[float, float, float] = (0.5, 0.488, 0.488)
    """Voxel sizes at the fine-tuning site; those of other sites differ as their coarse ones do."""
    crop_mm: tuple[float, float, float] = (60.0, 42.0, 30.0)
    """Size of the scanned box around the pons."""
    noise: float = 0.05
    """Noise of the fine-tuning site as a share of white matter's signal in these voxels."""


@dataclass(frozen=True, config=STRICT)
class Polymicrogyria:
    """A malformation of the cortex around the Sylvian fissure: thick, with a festooned border."""

    radius_mm: tuple[float, float] = (18.0, 34.0)
    """Range of the region's radius."""
    thickness_mm: tuple[float, float] = (6.0, 9.0)
    """Range of the cortex's thickness in it (of normal cortex: 2 to 4 mm)."""
    positives: float = 0.5
    """Share of the task's subjects who have it."""


Diagnosis = Literal["control", "atrophy", "tumour", "infarct", "malformation"]

PRETRAINING_SCANNERS = (
    Scanner("north-3t", 3.0, (3.0, 3.0, 3.0)),
    Scanner(
        "east-1.5t",
        1.5,
        (2.5, 2.5, 5.0),
        "LPS",
        1.1,
        1.1,
        900.0,
        0.12,
        0.05,
        0.5,
        susceptibility="swi",
    ),
    Scanner("south-3t", 3.0, (3.0, 2.6, 2.6), "PSR", 0.9, 1.0, 200.0, 0.15, 0.04),
    Scanner("west-1.5t", 1.5, (3.2, 3.2, 4.0), "RAS", 1.0, 0.9, 1500.0, 0.06, 0.04, 1.0),
)
FINETUNING_SCANNER = Scanner(
    "finetuning", 1.5, (2.6, 2.6, 5.6), "LAS", 1.05, 1.0, 700.0, 0.1, 0.04, 0.5
)
FAR_3T = Scanner(
    "far-3t",
    3.0,
    (3.0, 3.0, 3.0),
    "RAS",
    0.85,
    1.1,
    300.0,
    0.18,
    0.04,
    tilt_degrees=8.0,
    susceptibility="swi",
)
FAR_1T = Scanner("far-1t", 1.0, (2.4, 2.4, 6.5), "LPI", 0.8, 0.85, 1200.0, 0.12, 0.08, 1.5)
# Five sites outside of the fine-tuning domain: the least for an interval over sites.
TEST_SCANNERS = (
    FAR_3T,
    FAR_1T,
    Scanner("far-7t", 7.0, (2.4, 2.4, 2.4), "LPS", 0.75, 1.2, 450.0, 0.3, 0.03),
    Scanner(
        "far-1.5t",
        1.5,
        (2.8, 2.8, 6.0),
        "RAS",
        1.2,
        0.9,
        800.0,
        0.08,
        0.06,
        1.0,
        tilt_degrees=-12.0,
        gap_mm=1.5,
    ),
    Scanner(
        "far-0.5t",
        0.55,
        (3.4, 3.4, 5.0),
        "PSR",
        0.95,
        1.1,
        250.0,
        0.05,
        0.1,
        0.5,
        susceptibility="swi",
    ),
)


@dataclass(frozen=True, config=STRICT)
class Phantom:
    """A cohort in the file layout of a challenge, reproducible from this alone."""

    seed: int = 0
    """Seed of all people."""
    spacing_mm: float = 3.0
    """Size of the cubes that anatomy is computed on."""
    deformation_mm: float = 2.5
    """Standard deviation of the smooth deformations by which people differ."""
    pretraining_subjects: int = 80
    """Unlabelled subjects."""
    pretraining_scanners: tuple[Scanner, ...] = PRETRAINING_SCANNERS
    """Sites of the unlabelled subjects."""
    sequences: tuple[str, ...] = ("t1", "t2", "flair", "dwi_b1000", "adc", "t2s")
    """Sequences of the unlabelled subjects."""
    missing: float = 0.15
    """Probability that a sequence of an unlabelled subject is missing."""
    pathology: float = 0.3
    """Share of the unlabelled subjects with an infarct or a meningioma."""
    finetuning_scanner: Scanner = FINETUNING_SCANNER
    """Site of all training cases."""
    test_scanners: tuple[Scanner, ...] = TEST_SCANNERS
    """Sites that only test cases come from."""
    infarct: Cohort = Cohort(32, 24)
    """Subjects with and without an acute infarct."""
    meningioma: Cohort = Cohort(24, 16)
    """Subjects with a meningioma."""
    brain_age: Cohort = Cohort(40, 24)
    """Subjects without findings, of known age."""
    ageing: Ageing = Ageing()
    """How age shows."""
    infarcts: Infarcts = Infarcts()
    """What infarcts look like."""
    meningiomas: Meningiomas = Meningiomas()
    """What meningiomas look like."""
    label_maps: str = ""
    """Folder of anatomical label maps of real people (see `scaling.phantom.label_maps`); empty:
    anatomy is that of a template."""
    challenge: str = DEFAULT
    """Challenge whose tasks, folders and file names are written: a published name, or the .toml or
    .py file of one's own (see `scaling.study.challenge`)."""
    nerve: Cohort = Cohort(16, 6)
    """Subjects with trigeminal neuralgia, if the challenge has them."""
    polymicrogyria: Cohort = Cohort(32, 16)
    """Subjects with and without polymicrogyria, if the challenge has them."""
    diagnosis: Cohort = Cohort(24, 8)
    """Subjects of each diagnosis, if the challenge has a task of cohorts."""
    nerves: Nerves = Nerves()
    """What nerves and vessels look like."""
    malformations: Polymicrogyria = Polymicrogyria()
    """What polymicrogyria looks like."""
    diagnoses: tuple[Diagnosis, ...] = ("control", "atrophy", "tumour")
    """Classes of the task of cohorts."""

    def __post_init__(self) -> None:
        names = [
            s.name
            for s in (*self.pretraining_scanners, self.finetuning_scanner, *self.test_scanners)
        ]
        if len(set(names)) < len(names) or not self.pretraining_scanners:
            raise ValueError(
                f"scanners are {names}; expected at least one for pretraining and no name twice"
            )
        if not 1.0 <= self.spacing_mm <= 6.0:
            raise ValueError(f"spacing_mm is {self.spacing_mm}; expected 1 to 6 mm")
        if len(set(self.diagnoses)) < max(2, len(self.diagnoses)):
            raise ValueError(f"diagnoses are {self.diagnoses}; expected at least two, none twice")
