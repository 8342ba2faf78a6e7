"""Meningiomas: tumours on the dura that push the brain aside, written into tissue shares."""

import numpy as np

from scaling.phantom.anatomy import Brain, replace
from scaling.phantom.fields import smooth_noise
from scaling.phantom.infarcts import Truth
from scaling.phantom.person import Outline, moved_inside
from scaling.phantom.template import Template
from scaling.study.phantom import Meningiomas

Seed = tuple[np.ndarray, float]  # voxel [3] of the tumour's middle, radius in mm


def add_meningioma(
    brain: Brain,
    template: Template,
    head: Outline,
    seed: Seed,
    meningiomas: Meningiomas,
    rng: np.random.Generator,
) -> tuple[np.ndarray, Truth]:
    """Put a tumour into `brain`, in place. Returns its mask uint8 [D, H, W] and the truth."""
    spacing, shape = template.spacing, template.shape
    centre, radius = seed
    bumps = 0.12 * smooth_noise(shape, spacing, 12.0, rng)[head.inside]
    away = distance_from(centre, head) * spacing / radius  # in radii
    # A dural tail: the tumour spreads along the surface beyond its round body.
    body = np.clip((1 - away + bumps) * radius / spacing + 0.5, 0, 1)
    reach = np.clip((1.35 - away + bumps) * radius / spacing + 0.5, 0, 1)
    tail = reach * np.clip(1.5 - head.maps["surface_mm"] / 3.0, 0, 1)
    share = np.maximum(body, tail) * np.clip(head.maps["head"] * 2 - 0.6, 0, 1)
    if rng.random() < meningiomas.oedema:
        oedema_reach = 1.3 + rng.uniform(0.2, 0.7)
        around = np.clip((oedema_reach - away + 3 * bumps) * radius / (3 * spacing), 0, 1)
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
) -> Seed:
    """A place on the dura of the convexity, and a radius."""
    _, _, height = template.millimetres(head.coordinates)
    radius = float(rng.uniform(*meningiomas.radius_mm))
    # The middle lies a little less than a radius below the surface, so that the base is broad.
    depth = 0.55 * radius
    at_depth = np.abs(head.maps["surface_mm"] - depth) < 0.75 * template.spacing
    convexity = height > -25
    places = np.argwhere(head.inside)[at_depth & convexity]
    return rng.choice(places).astype(np.float32), radius


def displaced(template: Template, head: Outline, seed: Seed) -> Outline:
    """Mass effect: the outline with tissue pushed away from the middle of the tumour.

    A voxel shows the tissue that lies nearer to the middle when there is no tumour.
    """
    centre, radius = seed
    offset = np.argwhere(head.inside).T.astype(np.float32) - centre[:, None]  # [3, n], voxels
    away = np.sqrt((offset**2).sum(0)) * np.float32(template.spacing) + np.float32(1e-3)
    decay = np.exp(-np.maximum(away - radius, 0) / (1.2 * radius))
    push = 0.6 * radius * decay * np.minimum(away / radius, 1)  # mm
    places = head.coordinates - offset * (push / away).astype(np.float32)
    return moved_inside(template, head.inside, places)


def distance_from(centre: np.ndarray, head: Outline) -> np.ndarray:
    """Distance [n] of every voxel of the head from a voxel, in voxels."""
    return np.linalg.norm(np.argwhere(head.inside).astype(np.float32) - centre, axis=1)
