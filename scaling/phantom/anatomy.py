"""Brains: the ICBM152 template (bundled with nilearn), or label maps of real ones, under smooth random deformations, folding and
ageing.

A brain is a map of tissue shares, {tissue: float32 [D, H, W]}, that sum to 1 inside the head.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage, sparse

from scaling.data.resample import apply_weights, axis_weights, spline_weights
from scaling.study.phantom import Phantom

MARGIN_MM = 9.0
# What a template knows of each voxel: shares of head, grey and white matter; mm outside the ventricles, below the head's surface and
# below the pia; weights of the parts that fold (cerebrum, cerebellum) and of the deep nuclei.
MAPS = (
    "head",
    "grey",
    "white",
    "ventricle_mm",
    "surface_mm",
    "depth_mm",
    "cerebrum",
    "cerebellum",
    "deep",
)

Brain = dict[str, np.ndarray]


@dataclass(frozen=True)
class Template:
    """`maps` float32 [D, H, W, C] in the order of MAPS on cubes of `spacing` mm; `affine` to MNI mm; `foot` int32 [D, H, W]: the voxel
    of the pia nearest to each; `near` bool [D, H, W]: the head and a voxel around it; `folds`: whether the cortex is to be folded (an
    average of many people is smooth).
    """

    spacing: float
    affine: np.ndarray
    maps: np.ndarray
    foot: np.ndarray
    near: np.ndarray
    folds: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along the three axes."""
        return self.maps.shape[:3]

    def millimetres(self, coordinates: np.ndarray) -> list[np.ndarray]:
        """MNI x, y and z of voxel coordinates [3, ...]."""
        return [
            coordinates[i] * np.float32(self.spacing) + np.float32(self.affine[i, 3])
            for i in range(3)
        ]


@lru_cache(maxsize=2)
def load_template(spacing: float) -> Template:
    """Tissue maps of ICBM152 2009a (symmetric, skull-stripped), averaged to cubes of `spacing` mm around the brain."""
    from nilearn import datasets  # heavy, and only the parent process needs it

    brain = datasets.load_mni152_brain_mask(resolution=1)
    maps = [
        brain,
        datasets.load_mni152_gm_template(resolution=1),
        datasets.load_mni152_wm_template(resolution=1),
    ]
    arrays = [np.asarray(image.get_fdata(), np.float32) for image in maps]
    inside = np.argwhere(arrays[0] > 0.5)
    origin = brain.affine[:3, :3] @ inside.min(0) + brain.affine[:3, 3] - MARGIN_MM
    shape = np.ceil((np.ptp(inside, axis=0) + 2 * MARGIN_MM) / spacing).astype(int) + 1
    start = (origin - brain.affine[:3, 3]) / np.diag(brain.affine)[:3]
    sigma = spacing / 2.8 if spacing > 1 else 0.0
    head, grey, white = (
        ndimage.affine_transform(
            ndimage.gaussian_filter(a, sigma), np.full(3, spacing), start, tuple(shape), order=1
        )
        for a in arrays
    )
    head, grey, white = (a.clip(0, 1).astype(np.float32) for a in (head, grey, white))
    grey, white = sharpen(grey, white)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = origin
    # Lateral and third ventricles: fluid deep inside, in a box around the middle of MNI space.
    x, y, z = (np.indices(head.shape, dtype=np.float32)[i] * spacing + origin[i] for i in range(3))
    box = (np.abs(x) < 42) & (y > -58) & (y < 42) & (z > -16) & (z < 34)
    ventricle = (
        (head - grey * head - white * head > 0.5)
        & box
        & (ndimage.distance_transform_edt(head > 0.5, spacing) > 25)
    )
    labels, count = ndimage.label(ventricle)
    if count > 1:
        sizes = ndimage.sum_labels(ventricle, labels, np.arange(1, count + 1))
        ventricle = np.isin(labels, 1 + np.flatnonzero(sizes > 0.2 * sizes.max()))
    return make_template(spacing, affine, head, grey * head, white * head, ventricle, folds=True)


def make_template(
    spacing: float,
    affine: np.ndarray,
    head: np.ndarray,
    grey: np.ndarray,
    white: np.ndarray,
    ventricle: np.ndarray,
    folds: bool,
) -> Template:
    """A template of tissue shares and a mask of the ventricles [D, H, W], near MNI space."""
    inside = ndimage.binary_fill_holes((grey + white > 0.5) | ventricle)
    within, foot = ndimage.distance_transform_edt(inside, return_indices=True)
    depth = ndimage.gaussian_filter(
        (within - ndimage.distance_transform_edt(~inside)) * spacing, 0.6
    )
    outside = (
        ndimage.distance_transform_edt(~ventricle) - ndimage.distance_transform_edt(ventricle)
    ) * spacing
    x, y, z = (
        np.indices(head.shape, dtype=np.float32)[i] * spacing + affine[i, 3] for i in range(3)
    )
    tentorium = (
        -18 + 15 * np.exp(-((x / 16) ** 2) - ((y + 52) / 18) ** 2) - 0.15 * np.maximum(-75 - y, 0)
    )
    below = ramp((tentorium - z) / 4) * ramp((-36 - y) / 4)
    stem = ramp((19 - np.abs(x)) / 4) * ramp((-6 - z) / 4) * ramp((y + 48) / 4) * ramp((-4 - y) / 6)
    deep = np.exp(
        -((((np.abs(x) - 18) / 16) ** 2 + ((y + 2) / 28) ** 2 + ((z - 4) / 16) ** 2) ** 2)
    )
    cerebrum = (1 - np.maximum(below, stem)) * (1 - deep) * ramp((outside - 5) / 3)
    channels = (
        head,
        grey,
        white,
        outside,
        ndimage.distance_transform_edt(head > 0.5) * spacing,
        depth,
        cerebrum,
        below * (1 - stem),
        deep,
    )
    flat = np.ravel_multi_index(tuple(foot), head.shape).astype(np.int32)
    return Template(
        spacing,
        affine,
        np.stack(channels, -1).astype(np.float32),
        flat,
        ndimage.binary_dilation(head > 0),
        folds,
    )


def sharpen(grey: np.ndarray, white: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The template is an average of 152 people; make its tissue shares as crisp as one person's (a soft maximum)."""
    shares = np.stack([grey, white, np.clip(1 - grey - white, 0, 1)]) ** 2.0
    shares /= shares.sum(0) + 1e-6
    return shares[0], shares[1]


def ramp(value: np.ndarray) -> np.ndarray:
    """0 below -1/2, 1 above 1/2, a straight line between: the share of a voxel beyond an edge."""
    return np.clip(value + 0.5, 0, 1)


@dataclass(frozen=True)
class Person:
    """The truth about one brain's age-related anatomy."""

    age: float
    ventricles_mm: float
    atrophy: float
    lesions_ml: float


def draw_person(
    phantom: Phantom, age: float, rng: np.random.Generator, anatomy_age: float = np.nan
) -> Person:
    """Ageing at an age: accelerating growth of the ventricles and of lesions, steady atrophy, with personal scatter. Where the anatomy
    is that of somebody of a known age, only what the years between do.
    """
    ageing = phantom.ageing
    years = np.array([age, ageing.youngest if np.isnan(anatomy_age) else anatomy_age])
    share, before = np.clip((years - ageing.youngest) / (ageing.oldest - ageing.youngest), 0, 1)
    scatter = rng.normal(0, ageing.scatter, 2)
    lesions = ageing.lesions_ml * share**3 * np.exp(rng.normal(0, 0.8))
    return Person(
        float(age),
        float(ageing.ventricles_mm * (share**1.5 - before**1.5 + scatter[0])),
        float(ageing.atrophy * (share - before + scatter[1])),
        float(min(lesions, 60.0)),
    )


def smooth_noise(
    shape: tuple[int, ...], spacing: float, scale_mm: float, rng: np.random.Generator
) -> np.ndarray:
    """Gaussian random field [D, H, W] of unit variance that varies over `scale_mm`, a sum of cubic B-splines."""
    step = max(1.0, scale_mm / spacing)
    sizes = [int(np.ceil(n / step)) + 4 for n in shape]
    coarse = rng.standard_normal(sizes, dtype=np.float32)
    start = 1 + rng.random(3)
    first, second, third = (
        spline_weights(m, s, 1 / step, n) for m, s, n in zip(sizes, start, shape, strict=True)
    )
    field = apply_weights(coarse, (first, second, third))
    return field / (field.std() + 1e-6)


def deformation(
    template: Template, person: Person, millimetres: float, rng: np.random.Generator
) -> np.ndarray:
    """Where each voxel of this brain lies in the template: voxel coordinates float32 [3, D, H, W].

    Worked out about every 4 mm and interpolated: nothing in it is finer.
    """
    spacing = template.spacing
    every = max(1, round(4.0 / spacing))
    sizes = tuple(-(-(n - 1) // every) + 1 for n in template.shape)
    angles = np.deg2rad(rng.normal(0, 4, 3))
    scales = 1 + rng.normal(0, 0.04, 3) + rng.normal(0, 0.03)
    shift = rng.normal(0, 2.0, 3) / spacing
    middle = (np.asarray(template.shape) - 1)[:, None, None, None] / 2
    centred = (np.indices(sizes) * every - middle).astype(np.float32)
    moved = np.tensordot((rotation(angles) / scales).astype(np.float32), centred, 1) + np.float32(
        middle + shift[:, None, None, None]
    )
    for axis in range(3):
        field = smooth_noise(sizes, spacing * every, 40.0, rng) + 0.4 * smooth_noise(
            sizes, spacing * every, 18.0, rng
        )
        moved[axis] += field * np.float32(millimetres / spacing)
    # Ventricles grow: points just outside their wall take their tissue from nearer to (or inside) it.
    distance = template.maps[..., MAPS.index("ventricle_mm")]
    wall = (interpolation(template.shape, moved.reshape(3, -1)) @ distance.ravel()).reshape(sizes)
    normal = np.array(np.gradient(ndimage.gaussian_filter(wall, 3.0 / spacing / every)))
    normal /= np.linalg.norm(normal, axis=0) + 1e-3
    near = np.exp(-np.square(np.maximum(wall, 0) / 16.0)).astype(np.float32)
    moved -= normal * near * np.float32(person.ventricles_mm / spacing)
    first, second, third = (
        axis_weights(m, 0.0, 1 / every, n) for m, n in zip(sizes, template.shape, strict=True)
    )
    return np.stack([apply_weights(part, (first, second, third)) for part in moved])


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


def interpolation(shape: tuple[int, ...], places: np.ndarray) -> sparse.csr_array:
    """The matrix [n, D H W] of linear interpolation at voxel coordinates [3, n]; beyond the border its value holds.

    Times maps [D H W, C] it interpolates all of them, several times faster than scipy.ndimage each.
    """
    places = np.clip(places, 0, np.asarray(shape, np.float32)[:, None] - np.float32(1.001))
    lower = places.astype(np.int32)
    upper = places - lower.astype(np.float32)
    weights = (1 - upper, upper)
    strides = (shape[1] * shape[2], shape[2], 1)
    first = lower[0] * strides[0] + lower[1] * strides[1] + lower[2]
    columns, shares = np.empty((len(first), 8), np.int32), np.empty((len(first), 8), np.float32)
    for corner, (a, b, c) in enumerate(np.ndindex(2, 2, 2)):
        columns[:, corner] = first + (a * strides[0] + b * strides[1] + c)
        shares[:, corner] = weights[a][0] * weights[b][1] * weights[c][2]
    rows = np.arange(0, columns.size + 1, 8, dtype=np.int32)
    return sparse.csr_array(
        (shares.ravel(), columns.ravel(), rows), (len(first), int(np.prod(shape)))
    )


@dataclass(frozen=True)
class Outline:
    """Where a person's head is: `inside` bool [D, H, W]; of its voxels, the template's coordinates [3, n], the matrix that interpolates
    there, and the template's maps (name -> [n]).
    """

    inside: np.ndarray
    coordinates: np.ndarray
    matrix: sparse.csr_array
    maps: dict[str, np.ndarray]

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Values [n] of the voxels inside as float32 [D, H, W], zero elsewhere."""
        out = np.zeros(self.inside.shape, np.float32)
        out[self.inside] = values
        return out


def outline(template: Template, coordinates: np.ndarray) -> Outline:
    """The head at template coordinates [3, D, H, W]."""
    nearest = [
        np.clip((c + np.float32(0.5)).astype(np.int32), 0, n - 1)
        for c, n in zip(coordinates, template.shape, strict=True)
    ]
    inside = template.near[tuple(nearest)]
    return moved_inside(template, inside, coordinates[:, inside])


def moved_inside(template: Template, inside: np.ndarray, places: np.ndarray) -> Outline:
    """The maps at other places [3, n] for the same voxels."""
    matrix = interpolation(template.shape, places)
    return Outline(
        inside,
        places,
        matrix,
        dict(zip(MAPS, (matrix @ template.maps.reshape(-1, len(MAPS))).T, strict=True)),
    )


def folding(template: Template, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The sheets along which one person's cortex folds in, in template space: distance from them in mm, signed, and how deep they go.

    A sheet is where a random pattern on the pia changes sign, and goes down from there, a little bent.
    """
    pattern = smooth_noise(template.shape, template.spacing, 7.0, rng)
    bend = smooth_noise(template.shape, template.spacing, 9.0, rng)
    pattern = ndimage.gaussian_filter(pattern.ravel()[template.foot] + 0.4 * bend, 0.6)
    slope = np.sqrt(sum(np.square(part) for part in np.gradient(pattern))) / np.float32(
        template.spacing
    )
    deepest = np.clip(13 + 4 * smooth_noise(template.shape, template.spacing, 16.0, rng), 5, 20)
    return np.clip(pattern / np.maximum(slope, 0.03), -12, 12), deepest


def build_brain(
    template: Template, person: Person, head: Outline, inner: Outline, rng: np.random.Generator
) -> Brain:
    """Tissue shares of a person with an outline; `inner` says what is in it: the same, but where a tumour pushes."""
    shape, spacing = template.shape, template.spacing
    whole, deep = head.maps["head"], inner.maps["deep"]
    grey, white = inner.maps["grey"], inner.maps["white"]
    fluid = np.clip(whole - grey - white, 0, 1)
    local = 1 + 0.35 * smooth_noise(shape, spacing, 25.0, rng)[head.inside]
    loss = np.float32(person.atrophy) * local
    if template.folds:
        fluid, white = fold(template, inner, white, fluid, loss, rng)
        grey = np.clip(1 - fluid - white, 0, 1)
    else:  # the cortex of a real brain gives way to fluid where fluid is near
        near = ndimage.gaussian_filter(head.spread(fluid), 3.0 / spacing)[head.inside]
        grey = grey * (1 - np.clip(loss * (0.2 + 2 * near) * (1 - deep), -0.2, 0.9))
    keep = whole / np.maximum(grey + white, np.maximum(whole, 1e-3))
    shares = {
        "cortex": grey * (1 - deep) * keep,
        "deep_grey": grey * deep * keep,
        "white": white * keep,
    }
    shares["fluid"] = np.clip(whole - sum(shares.values()), 0, 1)
    brain = {tissue: head.spread(share) for tissue, share in shares.items()}
    if person.lesions_ml > 0.2:
        spots = 1.3 * smooth_noise(shape, spacing, 9.0, rng)[head.inside]
        where = (
            -inner.maps["ventricle_mm"] / 9 + spots + np.minimum(inner.maps["surface_mm"], 20) / 20
        )
        score = np.full(shape, -np.inf, np.float32)
        score[head.inside] = np.where(shares["white"] > 0.6, where, -np.inf)
        lesion = largest_values(score, person.lesions_ml, spacing)
        replace(
            brain, "white_lesion", 0.85 * ndimage.gaussian_filter(lesion, 1.0 / spacing), ("white",)
        )
    return brain


def fold(
    template: Template,
    inner: Outline,
    white: np.ndarray,
    fluid: np.ndarray,
    loss: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Shares [n] of fluid and white matter when a smooth template is folded: a ribbon of cortex along the pia and along sheets that go
    down from it. With age (`loss`) the sheets open, the pia recedes and the ribbon thins.
    """
    spacing, depth = np.float32(template.spacing), inner.maps["depth_mm"]
    sheet, deepest = (
        inner.matrix @ np.stack([part.ravel() for part in folding(template, rng)], 1)
    ).T
    down = np.hypot(sheet, np.maximum(depth - deepest, 0))
    from_fluid = np.minimum(down - (0.15 + 2.6 * loss), depth - (0.2 + 5.0 * loss))
    cortex_fluid = ramp(-from_fluid / spacing)
    cortex_white = ramp((from_fluid - (3.4 - 2.5 * loss)) / spacing)
    # Leaves of the cerebellum: thin fissures that radiate, in a sagittal plane, from the fourth ventricle.
    _, y, z = template.millimetres(inner.coordinates)
    phase = 11 * np.arctan2(z + 28, -(y + 42)) + 0.2 * sheet
    leaves = (
        np.exp(-np.square(np.sin(phase) / 0.45))
        * ramp((16 - depth) / 8)
        * inner.maps["cerebellum"]
        * (0.3 + loss)
    )
    part = inner.maps["cerebrum"]
    white = (part * cortex_white + (1 - part) * white) * (1 - leaves)
    return np.clip(part * cortex_fluid + (1 - part) * fluid + leaves, 0, 1), white


def largest_values(score: np.ndarray, millilitres: float, spacing: float) -> np.ndarray:
    """float32 mask [D, H, W] of the voxels with the highest (finite) scores that together have a volume."""
    finite = np.isfinite(score)
    wanted = min(round(millilitres * 1000 / spacing**3), int(finite.sum()))
    if wanted < 1:
        return np.zeros(score.shape, np.float32)
    threshold = np.partition(score[finite], -wanted)[-wanted]
    return (finite & (score >= threshold)).astype(np.float32)


def replace(
    brain: Brain, tissue: str, share: np.ndarray, of: tuple[str, ...] | None = None
) -> None:
    """Turn a share [D, H, W] of the tissues `of` (default: all) into `tissue`, in place."""
    sources = [name for name in (brain if of is None else of) if name in brain and name != tissue]
    gained = sum(brain[name] * share for name in sources)
    for name in sources:
        brain[name] = brain[name] * (1 - share)
    brain[tissue] = brain[tissue] + gained if tissue in brain else np.asarray(gained)
