"""Anatomy of real people from a folder of label maps.

The folder holds NIfTI maps (sub_N.nii.gz), tissues.csv (label, tissue) and, where ages are known,
participants.tsv (participant_id, age). A label is fluid when its tissue holds csf or ventricle;
white matter when it holds white; grey matter when it holds deep or grey. With ages, a person gets
a map of nearly their age, and only the years between are added to it.
"""

from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from scaling.data.ages import parse_age
from scaling.data.delimited import read_table
from scaling.data.files import extension
from scaling.data.resample import FWHM
from scaling.phantom.template import MARGIN_MM, Template, make_template

MNI_BOX = ((-71.0, -107.0, -71.0), (71.0, 73.0, 82.0))  # of ICBM152's brain, mm
NEAREST = 8  # maps to choose from
KINDS = (("white", "white"), ("grey", "grey|deep"), ("ventricle", "ventr"))  # tissue, pattern


@lru_cache
def label_maps(folder: str) -> tuple[tuple[str, float], ...]:
    """Maps of a folder with the ages of their people (NaN: unknown). Raises ValueError if none."""
    files = sorted(file for file in Path(folder).glob("*") if extension(file.name))
    if not files or not (Path(folder) / "tissues.csv").is_file():
        raise ValueError(
            f"label_maps is {folder!r} with {len(files)} NIfTI files; expected maps and "
            "tissues.csv (label,tissue) in it"
        )
    ages: dict[str, float] = {}
    if (Path(folder) / "participants.tsv").is_file():
        table = read_table(Path(folder) / "participants.tsv")
        ages = dict(zip(table["participant_id"], table["age"].map(parse_age), strict=True))
    return tuple(
        (str(file), ages.get(file.name[: -len(extension(file.name))], np.nan)) for file in files
    )


def choose_map(folder: str, age: float, rng: np.random.Generator) -> tuple[str, float]:
    """A map for a person and the age of its own person; one of the nearest in age, if known."""
    maps = label_maps(folder)
    with_age = [entry for entry in maps if np.isfinite(entry[1])]
    if not with_age:
        return maps[int(rng.integers(len(maps)))]
    nearest = sorted(with_age, key=lambda entry: abs(entry[1] - age))[:NEAREST]
    return nearest[int(rng.integers(len(nearest)))]


@lru_cache(maxsize=8)
def label_template(file: str, spacing: float) -> Template:
    """A map as a template on cubes of `spacing` mm, whose brain fills the box of MNI space's.

    Raises ValueError when the map has no white matter.
    """
    tissues = read_table(Path(file).parent / "tissues.csv")
    image = nib.as_closest_canonical(nib.load(file))
    labels = np.asarray(image.dataobj)
    brain = labels > 0
    if not brain.any():
        raise ValueError(f"{file} holds no labels; expected an anatomical label map")
    voxel = np.asarray(image.header.get_zooms()[:3], float)
    low, high = np.argwhere(brain).min(0), np.argwhere(brain).max(0)
    box = np.asarray(MNI_BOX)
    shape = tuple(int(n) for n in np.ceil((np.ptp(box, axis=0) + 2 * MARGIN_MM) / spacing) + 1)
    # Voxel i of the template lies at box[0] - MARGIN_MM + i * spacing; the box is stretched over
    # that of the map.
    stretch = (high - low) / np.ptp(box, axis=0)
    start = low - MARGIN_MM * stretch
    sigma = np.sqrt(np.maximum(spacing**2 - voxel**2, 0.0)) / FWHM / voxel

    def sampled(mask: np.ndarray) -> np.ndarray:
        smooth = ndimage.gaussian_filter(mask.astype(np.float32), np.maximum(sigma, 0.4))
        return ndimage.affine_transform(smooth, stretch * spacing, start, shape, order=1).clip(0, 1)

    iterations = max(1, round(4 / voxel.min()))  # closes sulci of up to 8 mm
    whole = ndimage.binary_fill_holes(ndimage.binary_closing(brain, iterations=iterations))
    masks = {}
    for tissue, pattern in KINDS:
        rows = tissues["tissue"].str.contains(pattern)
        masks[tissue] = np.isin(labels, tissues.loc[rows, "label"].astype(int))
    if not masks["white"].any():
        raise ValueError(
            f"{file} has no white matter by tissues.csv; expected labels whose tissue says white"
        )
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = box[0] - MARGIN_MM
    head, grey, white, ventricle = (
        sampled(mask) for mask in (whole, masks["grey"], masks["white"], masks["ventricle"])
    )
    return make_template(
        spacing, affine, head, grey * head, white * head, ventricle > 0.5, folds=False
    )
