"""Infarcts in arterial territories or from given masks, their mimics, and meningiomas on the dura, written into a map of tissue shares.

Places are template coordinates [3, n] of the n voxels of an outline.
"""

from functools import lru_cache
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
from nibabel.spatialimages import SpatialImage
from scipy import ndimage

from scaling.phantom.anatomy import (
    Brain,
    Outline,
    Template,
    interpolation,
    largest_values,
    moved_inside,
    replace,
    smooth_noise,
)
from scaling.study.phantom import Infarcts, Meningiomas

# Middle of the arterial territories in MNI mm (right side; mirrored for the left) and how often each is hit.
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
    """Put one infarct into `brain`, in place. Returns its mask, uint8 [D, H, W], and the truth about it (empty: there was no room).

    An old one (`acute` False) is a cavity without restricted diffusion.
    """
    spacing = template.spacing
    solid = sum(brain[name][head.inside] for name in SOLID) > 0.6
    draw = given_infarct if infarcts.masks else drawn_infarct
    mask, truth = draw(template, head, solid, infarcts, rng)
    if not mask.any():
        return np.zeros(template.shape, np.uint8), {}
    soft = ndimage.gaussian_filter(mask, 0.8 / spacing)
    if acute:
        depth = ndimage.gaussian_filter(mask, 4.0 / spacing)
        core = np.clip(2 * depth - 0.4, 0, 1) * soft
        replace(brain, "acute_core", core, SOLID)
        replace(
            brain, "acute_rim", np.clip((soft - core) / np.maximum(1 - core, 1e-3), 0, 1), SOLID
        )
    else:
        replace(brain, "old_infarct", soft, SOLID)
    return mask.astype(np.uint8), truth | {
        "lesion_ml": round(float(mask.sum()) * spacing**3 / 1000, 3)
    }


def drawn_infarct(
    template: Template,
    head: Outline,
    solid: np.ndarray,
    infarcts: Infarcts,
    rng: np.random.Generator,
) -> tuple[np.ndarray, Truth]:
    """Mask float32 [D, H, W] of the part of a territory nearest to a seed, with an irregular edge, up to a volume drawn from
    `infarcts`.
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
    own = distance[which] - np.delete(distance, which, 0).min(0) + edge < 0
    candidates = solid & own & (x * side > 1)
    if not candidates.any():
        return np.zeros(shape, np.float32), {}
    drawn = np.exp(rng.normal(np.log(infarcts.median_ml), infarcts.log_spread))
    volume = float(np.clip(drawn, infarcts.smallest_ml, infarcts.largest_ml))
    reach = (volume * 1000) ** (1 / 3)
    places = np.argwhere(head.inside)[candidates].astype(np.float32)
    away = np.linalg.norm(places - rng.choice(places), axis=1)
    ragged = smooth_noise(shape, spacing, max(6.0, 0.5 * reach), rng) + 0.5 * smooth_noise(
        shape, spacing, 6.0, rng
    )
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
    """Mask float32 [D, H, W] of one of the user's masks in MNI space, in either hemisphere, of a volume that `infarcts` allows."""
    x, y, z = template.millimetres(head.coordinates)
    for file in rng.permutation(mask_files(infarcts.masks)):
        image = cast(SpatialImage, nib.load(file))
        given = np.asarray(image.dataobj, np.float32) > 0.5
        volume = given.sum() * abs(np.linalg.det(image.affine[:3, :3])) / 1000
        if not infarcts.smallest_ml <= volume <= infarcts.largest_ml:
            continue
        flip = rng.choice((-1.0, 1.0))
        back = np.linalg.inv(image.affine)
        places = back[:3, :3].astype(np.float32) @ np.stack([flip * x, y, z]) + back[:3, 3:].astype(
            np.float32
        )
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


def add_meningioma(
    brain: Brain,
    template: Template,
    head: Outline,
    seed: tuple[np.ndarray, float],
    meningiomas: Meningiomas,
    rng: np.random.Generator,
) -> tuple[np.ndarray, Truth]:
    """Put a tumour at `seed` = (voxel, radius in mm) into `brain`, in place. Returns its mask uint8 [D, H, W] and the truth."""
    spacing, shape = template.spacing, template.shape
    centre, radius = seed
    bumps = 0.12 * smooth_noise(shape, spacing, 12.0, rng)[head.inside]
    away = distance_from(centre, head) * spacing / radius
    # A dural tail: the tumour spreads along the surface beyond its round body.
    body = np.clip((1 - away + bumps) * radius / spacing + 0.5, 0, 1)
    tail = np.clip((1.35 - away + bumps) * radius / spacing + 0.5, 0, 1) * np.clip(
        1.5 - head.maps["surface_mm"] / 3.0, 0, 1
    )
    share = np.maximum(body, tail) * np.clip(head.maps["head"] * 2 - 0.6, 0, 1)
    if rng.random() < meningiomas.oedema:
        around = np.clip(
            (1.3 + rng.uniform(0.2, 0.7) - away + 3 * bumps) * radius / (3 * spacing), 0, 1
        )
        replace(brain, "oedema", 0.8 * head.spread(around), ("white",))
    replace(brain, "tumour", head.spread(share))
    calcified = bool(rng.random() < meningiomas.calcified)
    if calcified:
        specks = smooth_noise(shape, spacing, 5.0, rng) > 0.8
        replace(brain, "calcium", 0.7 * specks * head.spread(away < 0.8), ("tumour",))
    mask = head.spread(share) > 0.5
    return mask.astype(np.uint8), {
        "lesion_ml": round(float(mask.sum()) * spacing**3 / 1000, 3),
        "radius_mm": round(radius, 2),
        "calcified": str(calcified),
    }


def meningioma_seed(
    template: Template, head: Outline, meningiomas: Meningiomas, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """A place on the dura of the convexity, as (voxel of the tumour's middle, radius in mm)."""
    _, _, height = template.millimetres(head.coordinates)
    radius = float(rng.uniform(*meningiomas.radius_mm))
    # The middle lies a little less than a radius below the surface, so that the base is broad.
    wanted = 0.55 * radius
    places = np.argwhere(head.inside)[
        (np.abs(head.maps["surface_mm"] - wanted) < 0.75 * template.spacing) & (height > -25)
    ]
    return rng.choice(places).astype(np.float32), radius


def displaced(template: Template, head: Outline, seed: tuple[np.ndarray, float]) -> Outline:
    """Mass effect: the brain in an outline, of which what would lie nearer to the tumour's middle without it is pushed away."""
    centre, radius = seed
    index = np.argwhere(head.inside).T.astype(np.float32) - centre[:, None]
    away = np.sqrt((index**2).sum(0)) * np.float32(template.spacing) + np.float32(1e-3)
    push = (
        0.6
        * radius
        * np.exp(-np.maximum(away - radius, 0) / (1.2 * radius))
        * np.minimum(away / radius, 1)
    )
    return moved_inside(
        template, head.inside, head.coordinates - index * (push / away).astype(np.float32)
    )


def distance_from(centre: np.ndarray, head: Outline) -> np.ndarray:
    """Distance [n] of every voxel of the head from a voxel, in voxels."""
    return np.linalg.norm(np.argwhere(head.inside).astype(np.float32) - centre, axis=1)


def dwi_artefact(template: Template, head: Outline, rng: np.random.Generator) -> np.ndarray:
    """Gain [D, H, W] of the bright susceptibility artefacts of echo-planar DWI above the frontal sinus or the ears."""
    x, y, z = template.millimetres(head.coordinates)
    middle = ((6.0, 44.0, -20.0), (44.0, -12.0, -28.0))[int(rng.integers(2))]
    away = (
        ((np.abs(x) - middle[0]) / 12) ** 2
        + ((y - middle[1]) / 14) ** 2
        + ((z - middle[2]) / 9) ** 2
    )
    return 1 + head.spread(rng.uniform(0.5, 1.2) * np.exp(-away))
