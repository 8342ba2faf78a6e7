"""Acute and old infarcts, in arterial territories or from given masks, and their mimics.

They are written into a map of tissue shares. Places are template coordinates [3, n] of the n
voxels of an outline.
"""

from functools import lru_cache
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
from nibabel.spatialimages import SpatialImage
from scipy import ndimage

from scaling.phantom.anatomy import Brain, replace
from scaling.phantom.fields import interpolation, largest_values, smooth_noise
from scaling.phantom.person import Outline
from scaling.phantom.template import Template
from scaling.study.phantom import Infarcts

# Centre of the arterial territories in MNI mm (right side; mirrored for the left), and the
# probability of each. Order of frequency as in stroke registries: middle cerebral artery first.
TERRITORIES = (
    ("anterior cerebral", (12, 30, 40), 0.07),
    ("middle cerebral, superior", (46, 2, 32), 0.28),
    ("middle cerebral, inferior", (50, -38, 12), 0.25),
    ("lenticulostriate", (24, 2, 8), 0.16),
    ("posterior cerebral", (20, -76, 4), 0.14),
    ("cerebellar", (26, -62, -36), 0.10),
)
SOLID = ("cortex", "deep_grey", "white")
Truth = dict[str, float | str]


def add_infarct(
    brain: Brain,
    template: Template,
    head: Outline,
    infarcts: Infarcts,
    acute: bool,
    rng: np.random.Generator,
) -> tuple[np.ndarray, Truth]:
    """Put one infarct into `brain`, in place. Returns its mask uint8 [D, H, W] and the truth.

    The truth is empty when there was no room. An old infarct (`acute` False) is a cavity without
    restricted diffusion.
    """
    spacing = template.spacing
    solid = sum(brain[name][head.inside] for name in SOLID) > 0.6
    draw = given_infarct if infarcts.masks else drawn_infarct
    mask, truth = draw(template, head, solid, infarcts, rng)
    if not mask.any():
        return np.zeros(template.shape, np.uint8), {}
    soft = ndimage.gaussian_filter(mask, 0.8 / spacing)
    if acute:
        # Diffusion is most restricted in the middle of the infarct.
        depth = ndimage.gaussian_filter(mask, 4.0 / spacing)
        core = np.clip(2 * depth - 0.4, 0, 1) * soft
        rim = np.clip((soft - core) / np.maximum(1 - core, 1e-3), 0, 1)
        replace(brain, "acute_core", core, SOLID)
        replace(brain, "acute_rim", rim, SOLID)
    else:
        replace(brain, "old_infarct", soft, SOLID)
    lesion_ml = round(float(mask.sum()) * spacing**3 / 1000, 3)
    return mask.astype(np.uint8), truth | {"lesion_ml": lesion_ml}


def drawn_infarct(
    template: Template,
    head: Outline,
    solid: np.ndarray,
    infarcts: Infarcts,
    rng: np.random.Generator,
) -> tuple[np.ndarray, Truth]:
    """Mask float32 [D, H, W] of the part of a territory around a seed, with a ragged edge.

    Its volume is drawn from `infarcts`.
    """
    spacing, shape = template.spacing, template.shape
    x, y, z = template.millimetres(head.coordinates)
    side = rng.choice((-1.0, 1.0))
    distance = np.stack(
        [
            np.sqrt((x * side - a) ** 2 + (y - b) ** 2 + (z - c) ** 2)
            for _, (a, b, c), _ in TERRITORIES
        ]
    )
    which = int(rng.choice(len(TERRITORIES), p=[weight for _, _, weight in TERRITORIES]))
    edge = 12 * smooth_noise(shape, spacing, 20.0, rng)[head.inside]
    # A voxel belongs to the territory whose centre is nearest, up to a random edge.
    nearest_other = np.delete(distance, which, 0).min(0)
    in_territory = distance[which] - nearest_other + edge < 0
    candidates = solid & in_territory & (x * side > 1)
    if not candidates.any():
        return np.zeros(shape, np.float32), {}
    drawn_ml = np.exp(rng.normal(np.log(infarcts.median_ml), infarcts.log_spread))
    volume = float(np.clip(drawn_ml, infarcts.smallest_ml, infarcts.largest_ml))
    reach = (volume * 1000) ** (1 / 3)
    places = np.argwhere(head.inside)[candidates].astype(np.float32)
    away = np.linalg.norm(places - rng.choice(places), axis=1)
    coarse = smooth_noise(shape, spacing, max(6.0, 0.5 * reach), rng)
    ragged = coarse + 0.5 * smooth_noise(shape, spacing, 6.0, rng)
    score = np.full(shape, -np.inf, np.float32)
    score[tuple(places.astype(int).T)] = (
        -away * spacing / reach + 0.3 * ragged[head.inside][candidates]
    )
    truth: Truth = {"territory": TERRITORIES[which][0], "side": "right" if side > 0 else "left"}
    return largest_values(score, volume, spacing), truth


def given_infarct(
    template: Template,
    head: Outline,
    solid: np.ndarray,
    infarcts: Infarcts,
    rng: np.random.Generator,
) -> tuple[np.ndarray, Truth]:
    """Mask float32 [D, H, W] of one of the user's masks in MNI space, in either hemisphere.

    Masks of a volume that `infarcts` does not allow are passed over.
    """
    x, y, z = template.millimetres(head.coordinates)
    for file in rng.permutation(mask_files(infarcts.masks)):
        image = cast(SpatialImage, nib.load(file))
        given = np.asarray(image.dataobj, np.float32) > 0.5
        volume = given.sum() * abs(np.linalg.det(image.affine[:3, :3])) / 1000
        if not infarcts.smallest_ml <= volume <= infarcts.largest_ml:
            continue
        flip = rng.choice((-1.0, 1.0))
        to_mask = np.linalg.inv(image.affine)
        turn, shift = to_mask[:3, :3].astype(np.float32), to_mask[:3, 3:].astype(np.float32)
        places = turn @ np.stack([flip * x, y, z]) + shift
        reached = np.all((places >= 0) & (places <= np.array(given.shape)[:, None] - 1), axis=0)
        share = interpolation(given.shape, places) @ given.ravel().astype(np.float32)
        mask = head.spread((share > 0.5) & solid & reached)
        if mask.sum() * template.spacing**3 / 1000 >= 0.5 * infarcts.smallest_ml:
            return mask, {"given": Path(file).name, "flipped": str(flip < 0)}
    return np.zeros(template.shape, np.float32), {}


@lru_cache
def mask_files(folder: str) -> tuple[str, ...]:
    """The user's masks. Raises ValueError when there is none."""
    files = tuple(sorted(str(file) for file in Path(folder).glob("*.nii*")))
    if not files:
        raise ValueError(
            f"infarcts.masks is {folder!r}, which holds no NIfTI files; expected masks in MNI space"
        )
    return files


def dwi_artefact(template: Template, head: Outline, rng: np.random.Generator) -> np.ndarray:
    """Gain [D, H, W] of a bright susceptibility artefact of echo-planar diffusion imaging.

    It lies above the frontal sinus or above the ears, where air is near.
    """
    x, y, z = template.millimetres(head.coordinates)
    middle = ((6.0, 44.0, -20.0), (44.0, -12.0, -28.0))[int(rng.integers(2))]
    away = (
        ((np.abs(x) - middle[0]) / 12) ** 2
        + ((y - middle[1]) / 14) ** 2
        + ((z - middle[2]) / 9) ** 2
    )
    return 1 + head.spread(rng.uniform(0.5, 1.2) * np.exp(-away))
