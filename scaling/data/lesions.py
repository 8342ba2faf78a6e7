"""Infarcts in arterial territories, their mimics, and meningiomas on the dura, written into a map of tissue shares."""

import numpy as np
from scipy import ndimage

from scaling.data.anatomy import TISSUES, Template, largest_values, replace, smooth_noise
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


def add_infarct(
    brain: np.ndarray,
    template: Template,
    coordinates: np.ndarray,
    infarcts: Infarcts,
    acute: bool,
    rng: np.random.Generator,
) -> tuple[np.ndarray, dict[str, float | str]]:
    """Put one infarct into `brain` [T, D, H, W], in place. Returns its mask, uint8 [D, H, W], and the truth about it.

    The lesion is the part of a territory nearest to a seed, with an irregular edge, up to a volume drawn from
    `infarcts`; an old one (`acute` False) is a cavity without restricted diffusion.
    """
    spacing, shape = template.spacing, template.head.shape
    x, y, z = (coordinates[i] * spacing + template.affine[i, 3] for i in range(3))
    side = rng.choice((-1.0, 1.0))
    middles = np.array([middle for _, middle, _ in TERRITORIES], np.float32)
    distance = np.stack([(x * side - a) ** 2 + (y - b) ** 2 + (z - c) ** 2 for a, b, c in middles])
    which = int(rng.choice(len(TERRITORIES), p=[weight for _, _, weight in TERRITORIES]))
    edge = 12 * smooth_noise(shape, spacing, 20.0, rng)
    own = np.sqrt(distance[which]) - np.sqrt(np.delete(distance, which, 0).min(0)) + edge < 0
    tissue = brain[:3].sum(0)
    candidates = (tissue > 0.6) & own & (x * side > 1)
    if not candidates.any():
        return np.zeros(shape, np.uint8), {}
    volume = float(
        np.clip(
            np.exp(rng.normal(np.log(infarcts.median_ml), infarcts.log_spread)),
            infarcts.smallest_ml,
            infarcts.largest_ml,
        )
    )
    seed = rng.choice(np.argwhere(candidates))
    reach = (volume * 1000) ** (1 / 3)
    away = distance_from(seed, shape)
    ragged = smooth_noise(shape, spacing, max(6.0, 0.5 * reach), rng) + 0.5 * smooth_noise(shape, spacing, 6.0, rng)
    score = -away * spacing / reach + 0.3 * ragged
    mask = largest_values(np.where(candidates, score, -np.inf), volume, spacing)
    soft = ndimage.gaussian_filter(mask, 0.8 / spacing)
    if acute:
        depth = ndimage.gaussian_filter(mask, 4.0 / spacing)
        core = np.clip(2 * depth - 0.4, 0, 1) * soft
        replace(brain, "acute_core", core, (0, 1, 2))
        replace(brain, "acute_rim", np.clip(soft - core, 0, 1), (0, 1, 2))
    else:
        replace(brain, "old_infarct", soft, (0, 1, 2))
    truth: dict[str, float | str] = {
        "territory": TERRITORIES[which][0],
        "side": "right" if side > 0 else "left",
        "lesion_ml": round(float(mask.sum()) * spacing**3 / 1000, 3),
    }
    return mask.astype(np.uint8), truth


def add_meningioma(
    brain: np.ndarray,
    template: Template,
    coordinates: np.ndarray,
    seed: tuple[np.ndarray, float],
    meningiomas: Meningiomas,
    rng: np.random.Generator,
) -> tuple[np.ndarray, dict[str, float | str]]:
    """Put a tumour at `seed` = (voxel, radius in mm) into `brain` [T, D, H, W], in place. Returns its mask and the
    truth.
    """
    spacing, shape = template.spacing, template.head.shape
    centre, radius = seed
    head = brain.sum(0)
    bumps = 0.12 * smooth_noise(shape, spacing, 12.0, rng)
    away = distance_from(centre, shape) * spacing / radius
    depth = ndimage.map_coordinates(template.surface_mm, coordinates, order=1, mode="constant")
    # A dural tail: the tumour spreads along the surface beyond its round body.
    body = np.clip((1 - away + bumps) * radius / spacing + 0.5, 0, 1)
    tail = np.clip((1.35 - away + bumps) * radius / spacing + 0.5, 0, 1) * np.clip(1.5 - depth / 3.0, 0, 1)
    share = np.maximum(body, tail) * np.clip(head * 2 - 0.6, 0, 1)
    if rng.random() < meningiomas.oedema:
        around = np.clip((1.3 + rng.uniform(0.2, 0.7) - away + 3 * bumps) * radius / (3 * spacing), 0, 1)
        replace(brain, "oedema", 0.8 * around, (2,))
    replace(brain, "tumour", share.astype(np.float32))
    calcified = bool(rng.random() < meningiomas.calcified)
    if calcified:
        specks = smooth_noise(shape, spacing, 5.0, rng) > 0.8
        replace(brain, "calcium", (0.7 * specks * (away < 0.8)).astype(np.float32), (TISSUES.index("tumour"),))
    mask = (share > 0.5).astype(np.uint8)
    return mask, {
        "lesion_ml": round(float(mask.sum()) * spacing**3 / 1000, 3),
        "radius_mm": round(radius, 2),
        "calcified": str(calcified),
    }


def meningioma_seed(
    template: Template, coordinates: np.ndarray, meningiomas: Meningiomas, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """A place on the dura of the convexity, as (voxel of the tumour's middle, radius in mm)."""
    depth = ndimage.map_coordinates(template.surface_mm, coordinates, order=1, mode="constant")
    height = coordinates[2] * template.spacing + template.affine[2, 3]
    radius = float(rng.uniform(*meningiomas.radius_mm))
    # The middle lies a little less than a radius below the surface, so that the base is broad.
    wanted = 0.55 * radius
    places = np.argwhere((np.abs(depth - wanted) < 0.75 * template.spacing) & (height > -25))
    return rng.choice(places).astype(np.float32), radius


def displaced(coordinates: np.ndarray, seed: tuple[np.ndarray, float], spacing: float) -> np.ndarray:
    """Mass effect: coordinates [3, D, H, W] of brain that, without the tumour, would lie nearer to its middle."""
    centre, radius = seed
    index = np.indices(coordinates.shape[1:], dtype=np.float32) - centre[:, None, None, None]
    away = np.sqrt((index**2).sum(0)) * spacing + 1e-3
    push = 0.6 * radius * np.exp(-np.maximum(away - radius, 0) / (1.2 * radius)) * np.minimum(away / radius, 1)
    return coordinates - index * (push / away).astype(np.float32)


def distance_from(centre: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Distance of every voxel from a point, in voxels, float32 [D, H, W]."""
    d, h, w = (np.arange(n, dtype=np.float32) - c for n, c in zip(shape, centre, strict=True))
    return np.sqrt(d[:, None, None] ** 2 + h[None, :, None] ** 2 + w[None, None, :] ** 2)


def dwi_artefact(template: Template, coordinates: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gain [D, H, W] of the bright susceptibility artefacts of echo-planar DWI above the frontal sinus or the ears."""
    x, y, z = (coordinates[i] * template.spacing + template.affine[i, 3] for i in range(3))
    middle = ((6.0, 44.0, -20.0), (44.0, -12.0, -28.0))[int(rng.integers(2))]
    away = ((np.abs(x) - middle[0]) / 12) ** 2 + ((y - middle[1]) / 14) ** 2 + ((z - middle[2]) / 9) ** 2
    return (1 + rng.uniform(0.5, 1.2) * np.exp(-away)).astype(np.float32)
