"""The knobs of the synthetic cohort (`scaling.phantom.write` writes it): who is in it, what ails them, who scanned them.

Defaults are sized for the quickstart: coarse voxels, few subjects, a minute on two cores.
"""

import re

from pydantic.dataclasses import dataclass

from scaling.study.strict import STRICT


@dataclass(frozen=True, config=STRICT)
class Scanner:
    """A site: what turns tissue into a stored image.

    `field_tesla` sets relaxation times; `echo_scale` and `repetition_scale` multiply every protocol's TE and TR;
    `spacing_mm` are the voxel sizes towards right, anterior and superior; `bias` is the relative amplitude of the
    receive field; `noise` is the standard deviation of the Rician noise as a share of white matter's signal in a 3 mm
    cube (smaller voxels are noisier); `orientation` names the order of the stored axes; `susceptibility` picks what the
    site records for T2* weighting; `gap_mm` is the part of the third voxel size that no slice excites; `texture` the relative amplitude
    by which tissue differs from place to place.
    """

    name: str
    field_tesla: float = 3.0
    spacing_mm: tuple[float, float, float] = (3.0, 3.0, 3.0)
    orientation: str = "RAS"
    echo_scale: float = 1.0
    repetition_scale: float = 1.0
    gain: float = 500.0
    bias: float = 0.1
    noise: float = 0.012
    blur_mm: float = 0.0
    tilt_degrees: float = 0.0
    susceptibility: str = "t2s"
    gap_mm: float = 0.0
    texture: float = 0.02

    def __post_init__(self) -> None:
        if not re.fullmatch(r"(?=.*[RL])(?=.*[AP])(?=.*[SI])[RLAPSI]{3}", self.orientation):
            raise ValueError(
                f"orientation of {self.name!r} is {self.orientation!r}; expected axis codes such as RAS or LPI"
            )
        if (
            min(self.spacing_mm) <= 0
            or min(self.field_tesla, self.echo_scale, self.repetition_scale, self.gain) <= 0
        ):
            raise ValueError(f"scanner {self.name!r} has a size or scale that is not positive")
        if self.susceptibility not in ("t2s", "swi"):
            raise ValueError(
                f"susceptibility of {self.name!r} is {self.susceptibility!r}; expected t2s or swi"
            )


@dataclass(frozen=True, config=STRICT)
class Cohort:
    """Labelled subjects of a task: `train` at the finetuning site; `test` at that site and at each further one."""

    train: int
    test: int


@dataclass(frozen=True, config=STRICT)
class Ageing:
    """How age shows. Sizes at the end of the age range; `scatter` is the share of them by which people of one age
    differ.

    Ventricles push their walls outwards by `ventricles_mm`; the cortex loses a share `atrophy` of its thickness to
    fluid; white matter lesions reach a median of `lesions_ml`.
    """

    youngest: float = 20.0
    oldest: float = 85.0
    ventricles_mm: float = 6.0
    atrophy: float = 0.5
    lesions_ml: float = 12.0
    scatter: float = 0.06


@dataclass(frozen=True, config=STRICT)
class Infarcts:
    """Acute infarcts: volumes are log-normal (median, and spread in natural logarithms) between `smallest_ml` and
    `largest_ml`.

    Diffusion drops to `adc_ratio`; `contrast` scales the change of the other sequences; a share `mimics` of the
    subjects without (and half as many with) an acute infarct have an old lesion that is bright on FLAIR but not
    restricted, or bright artefacts on DWI alone. With `masks`, a folder of NIfTI masks in MNI space, shapes and places are theirs.
    """

    median_ml: float = 12.7
    log_spread: float = 1.4
    smallest_ml: float = 4.0
    largest_ml: float = 200.0
    adc_ratio: tuple[float, float] = (0.71, 0.76)
    contrast: float = 1.0
    mimics: float = 0.6
    positives: float = 0.55
    masks: str = ""


@dataclass(frozen=True, config=STRICT)
class Meningiomas:
    """Extra-axial tumours on the dura: radius in mm, share that calcify (dark on T2*), share with oedema around,
    contrast.
    """

    radius_mm: tuple[float, float] = (9.0, 24.0)
    calcified: float = 0.3
    oedema: float = 0.5
    contrast: float = 1.0


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
TEST_SCANNERS = (
    Scanner(
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
    ),
    Scanner("far-1t", 1.0, (2.4, 2.4, 6.5), "LPI", 0.8, 0.85, 1200.0, 0.12, 0.08, 1.5),
)


@dataclass(frozen=True, config=STRICT)
class Phantom:
    """A cohort in the FOMO60K and FOMO25 file layouts, reproducible from this alone.

    Anatomy is computed on cubes of `spacing_mm`. People differ by smooth deformations of `deformation_mm` and by
    ageing. Pretraining subjects miss each sequence with probability `missing`; a share `pathology` has an infarct or a
    meningioma. With `label_maps`, a folder of anatomical label maps (see `scaling.phantom.label_maps`), anatomy is that of real people.
    """

    seed: int = 0
    spacing_mm: float = 3.0
    deformation_mm: float = 2.5
    pretraining_subjects: int = 80
    pretraining_scanners: tuple[Scanner, ...] = PRETRAINING_SCANNERS
    sequences: tuple[str, ...] = ("t1", "t2", "flair", "dwi_b1000", "adc", "t2s")
    missing: float = 0.15
    pathology: float = 0.3
    finetuning_scanner: Scanner = FINETUNING_SCANNER
    test_scanners: tuple[Scanner, ...] = TEST_SCANNERS
    infarct: Cohort = Cohort(32, 24)
    meningioma: Cohort = Cohort(24, 16)
    brain_age: Cohort = Cohort(40, 24)
    ageing: Ageing = Ageing()
    infarcts: Infarcts = Infarcts()
    meningiomas: Meningiomas = Meningiomas()
    label_maps: str = ""

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
