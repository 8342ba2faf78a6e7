"""Brains: the ICBM152 template (bundled with nilearn) under smooth random deformations and ageing.

A brain is a map of tissue shares, float32 [T, D, H, W] that sum to 1 inside the head; `TISSUES` names the channels.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from scaling.data.resample import apply_weights, spline_weights
from scaling.study.phantom import Phantom

TISSUES = (
    "cortex",
    "deep_grey",
    "white",
    "fluid",
    "white_lesion",
    "acute_core",
    "acute_rim",
    "old_infarct",
    "tumour",
    "calcium",
    "oedema",
)
MARGIN_MM = 9.0


@dataclass(frozen=True)
class Template:
    """Grey matter, white matter, fluid shares and head mask [D, H, W] on cubes of `spacing` mm; `affine` to MNI mm;
    `ventricle_mm` is the distance outside the ventricles, `surface_mm` the depth below the head mask's surface.
    """

    spacing: float
    affine: np.ndarray
    grey: np.ndarray
    white: np.ndarray
    fluid: np.ndarray
    head: np.ndarray
    ventricle_mm: np.ndarray
    surface_mm: np.ndarray

    def world(self) -> np.ndarray:
        """MNI mm of every voxel, float32 [3, D, H, W]."""
        index = np.indices(self.head.shape, dtype=np.float32)
        return index * np.float32(self.spacing) + self.affine[:3, 3].astype(np.float32)[:, None, None, None]


def load_template(spacing: float) -> Template:
    """Tissue maps of ICBM152 2009a (symmetric, skull-stripped), averaged to cubes of `spacing` mm around the brain."""
    from nilearn import datasets  # heavy, and only the parent process needs it

    brain = datasets.load_mni152_brain_mask(resolution=1)
    maps = [brain, datasets.load_mni152_gm_template(resolution=1), datasets.load_mni152_wm_template(resolution=1)]
    arrays = [np.asarray(image.get_fdata(), np.float32) for image in maps]
    inside = np.argwhere(arrays[0] > 0.5)
    origin = brain.affine[:3, :3] @ inside.min(0) + brain.affine[:3, 3] - MARGIN_MM
    shape = np.ceil((np.ptp(inside, axis=0) + 2 * MARGIN_MM) / spacing).astype(int) + 1
    start = (origin - brain.affine[:3, 3]) / np.diag(brain.affine)[:3]
    sigma = spacing / 2.8 if spacing > 1 else 0.0
    head, grey, white = (
        ndimage.affine_transform(ndimage.gaussian_filter(a, sigma), np.full(3, spacing), start, tuple(shape), order=1) for a in arrays
    )
    head, grey, white = (a.clip(0, 1).astype(np.float32) for a in (head, grey, white))
    grey, white = sharpen(grey, white)
    grey, white = grey * head, white * head
    fluid = np.clip(head - grey - white, 0, 1)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = origin
    depth = ndimage.distance_transform_edt(head > 0.5, spacing).astype(np.float32)
    world = np.indices(head.shape) * spacing + origin[:, None, None, None]
    # Lateral and third ventricles: fluid deep inside, in a box around the middle of MNI space.
    box = (np.abs(world[0]) < 42) & (world[1] > -58) & (world[1] < 42) & (world[2] > -16) & (world[2] < 34)
    ventricle = (fluid > 0.5) & box & (depth > 25)
    labels, count = ndimage.label(ventricle)
    if count > 1:
        sizes = ndimage.sum_labels(ventricle, labels, np.arange(1, count + 1))
        ventricle = np.isin(labels, 1 + np.flatnonzero(sizes > 0.2 * sizes.max()))
    outside = ndimage.distance_transform_edt(~ventricle, spacing) - ndimage.distance_transform_edt(ventricle, spacing)
    return Template(spacing, affine, grey, white, fluid, head, outside.astype(np.float32), depth)


def sharpen(grey: np.ndarray, white: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The template is an average of 152 people; make its tissue shares as crisp as one person's (a soft maximum)."""
    shares = np.stack([grey, white, np.clip(1 - grey - white, 0, 1)]) ** 2.0
    shares /= shares.sum(0) + 1e-6
    return shares[0], shares[1]


@dataclass(frozen=True)
class Person:
    """The truth about one brain's age-related anatomy."""

    age: float
    ventricles_mm: float
    atrophy: float
    lesions_ml: float


def draw_person(phantom: Phantom, age: float, rng: np.random.Generator) -> Person:
    """Ageing at an age: accelerating growth of the ventricles and of lesions, steady atrophy, with personal scatter."""
    ageing = phantom.ageing
    share = np.clip((age - ageing.youngest) / (ageing.oldest - ageing.youngest), 0, 1)
    scatter = rng.normal(0, ageing.scatter, 2)
    lesions = ageing.lesions_ml * share**3 * np.exp(rng.normal(0, 0.8))
    return Person(
        float(age),
        float(ageing.ventricles_mm * (share**1.5 + scatter[0])),
        float(ageing.atrophy * (share + scatter[1])),
        float(min(lesions, 60.0)),
    )


def smooth_noise(shape: tuple[int, ...], spacing: float, scale_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian random field [D, H, W] of unit variance that varies over `scale_mm`, a sum of cubic B-splines."""
    step = max(1.0, scale_mm / spacing)
    sizes = [int(np.ceil(n / step)) + 4 for n in shape]
    coarse = rng.standard_normal(sizes, dtype=np.float32)
    start = 1 + rng.random(3)
    first, second, third = (spline_weights(m, s, 1 / step, n) for m, s, n in zip(sizes, start, shape, strict=True))
    field = apply_weights(coarse, (first, second, third))
    return field / (field.std() + 1e-6)


def deformation(template: Template, person: Person, millimetres: float, rng: np.random.Generator) -> np.ndarray:
    """Where each voxel of this brain lies in the template: voxel coordinates float32 [3, D, H, W]."""
    shape, spacing = template.head.shape, template.spacing
    index = np.indices(shape, dtype=np.float32)
    middle = ((np.asarray(shape) - 1) / 2).astype(np.float32)[:, None, None, None]
    centred = index - middle
    angles = np.deg2rad(rng.normal(0, 4, 3))
    scales = 1 + rng.normal(0, 0.04, 3) + rng.normal(0, 0.03)
    shift = rng.normal(0, 2.0, 3) / spacing
    linear = (rotation(angles) / scales).astype(np.float32)
    moved = np.einsum("ij,j...->i...", linear, centred) + middle + shift.astype(np.float32)[:, None, None, None]
    for axis in range(3):
        field = smooth_noise(shape, spacing, 40.0, rng) + 0.4 * smooth_noise(shape, spacing, 18.0, rng)
        moved[axis] += field * np.float32(millimetres / spacing)
    # Ventricles grow: points just outside their wall take their tissue from nearer to (or inside) it.
    wall = ndimage.map_coordinates(template.ventricle_mm, moved, order=1, mode="nearest", prefilter=False)
    normal = np.array(np.gradient(ndimage.gaussian_filter(wall, 3.0 / spacing)))
    normal /= np.linalg.norm(normal, axis=0) + 1e-3
    near = np.exp(-np.square(np.maximum(wall, 0) / 16.0)).astype(np.float32)
    moved -= normal * near * np.float32(person.ventricles_mm / spacing)
    return moved


def rotation(angles: np.ndarray) -> np.ndarray:
    """Rotation matrix [3, 3] about the three axes in turn; radians."""
    out = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = [i for i in range(3) if i != axis]
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        out = turn @ out
    return out


def build_brain(template: Template, person: Person, coordinates: np.ndarray, inner: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Tissue shares [T, D, H, W] of a person at template coordinates [3, D, H, W]: of the head's outline, and of what
    is in it (`inner`: the same, but where a tumour pushes).
    """
    head = ndimage.map_coordinates(template.head, coordinates, order=1, mode="constant", prefilter=False)
    inside = head > 0  # a third of the voxels, and all that matter
    grey, white, ventricle_mm, surface_mm = (
        sample_inside(a, inner, inside) for a in (template.grey, template.white, template.ventricle_mm, template.surface_mm)
    )
    shape, spacing = grey.shape, template.spacing
    x, y, z = (inner[i] * spacing + template.affine[i, 3] for i in range(3))
    # Basal ganglia and thalamus: grey matter around the ventricles' middle, away from the cortex.
    deep = np.exp(-((((np.abs(x) - 18) / 16) ** 2 + ((y + 2) / 28) ** 2 + ((z - 4) / 16) ** 2) ** 2)).astype(np.float32)
    # Atrophy: cortex gives way to fluid, most where sulci are (fluid nearby), more at some places than at others.
    folds = 1 + 0.35 * smooth_noise(shape, spacing, 25.0, rng)
    fluid = np.clip(head - grey - white, 0, 1)
    sulci = ndimage.gaussian_filter(fluid, 4.0 / spacing)
    loss = np.clip(person.atrophy * folds * (0.35 + 2.2 * sulci) * (1 - deep), -0.3, 0.9)
    cortex = np.clip(grey * (1 - deep) * (1 - loss), 0, 1)
    deep_grey = grey * deep
    white = white * np.float32(1 - 0.15 * max(person.atrophy, 0.0))
    keep = 1 - np.clip(cortex + deep_grey + white - head, 0, None)
    brain = np.zeros((len(TISSUES), *shape), np.float32)
    brain[0], brain[1], brain[2] = cortex * keep, deep_grey * keep, white * keep
    brain[3] = np.clip(head - brain[:3].sum(0), 0, 1)
    if person.lesions_ml > 0.2:
        where = -ventricle_mm / 9.0 + 1.3 * smooth_noise(shape, spacing, 9.0, rng) + np.minimum(surface_mm, 20) / 20
        lesion = largest_values(np.where(white > 0.6, where, -np.inf), person.lesions_ml, spacing)
        replace(brain, "white_lesion", 0.85 * ndimage.gaussian_filter(lesion, 1.0 / spacing), (2,))
    return brain


def sample_inside(image: np.ndarray, coordinates: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Linear interpolation of an image at the coordinates [3, D, H, W] of the voxels `inside`; zero elsewhere."""
    out = np.zeros(inside.shape, np.float32)
    out[inside] = ndimage.map_coordinates(image, coordinates[:, inside], order=1, mode="constant", prefilter=False)
    return out


def largest_values(score: np.ndarray, millilitres: float, spacing: float) -> np.ndarray:
    """float32 mask [D, H, W] of the voxels with the highest (finite) scores that together have a volume."""
    finite = np.isfinite(score)
    wanted = min(round(millilitres * 1000 / spacing**3), int(finite.sum()))
    if wanted < 1:
        return np.zeros(score.shape, np.float32)
    threshold = np.partition(score[finite], -wanted)[-wanted]
    return (finite & (score >= threshold)).astype(np.float32)


def replace(brain: np.ndarray, tissue: str, share: np.ndarray, of: tuple[int, ...] | None = None) -> None:
    """Turn a share [D, H, W] of the tissues `of` (default: all) into `tissue`, in place."""
    channels = list(range(len(TISSUES)) if of is None else of)
    taken = brain[channels] * share
    brain[channels] -= taken
    brain[TISSUES.index(tissue)] += taken.sum(0)
