"""The template that all synthetic brains are deformed from: ICBM152 (bundled with nilearn)."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from scaling.phantom.fields import ramp

MARGIN_MM = 9.0  # empty space around the head, so that deformed heads still fit
# Channels of `Template.maps`.
MAPS = (
    "head",  # share of the voxel inside the skull
    "grey",  # share of grey matter
    "white",  # share of white matter
    "ventricle_mm",  # distance to the ventricles' wall, positive outside them
    "surface_mm",  # depth below the surface of the head
    "depth_mm",  # depth below the pia, the surface of the brain
    "cerebrum",  # weight of the folded cortex of the cerebrum
    "cerebellum",  # weight of the folded cortex of the cerebellum
    "deep",  # weight of the deep grey nuclei
)


@dataclass(frozen=True)
class Grid:
    """Cubes of `spacing` mm: their number along the three axes, and the affine to MNI mm."""

    spacing: float
    affine: np.ndarray
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Template:
    """An anatomy as maps on cubes of `spacing` mm, whose `affine` leads to MNI mm."""

    spacing: float
    affine: np.ndarray
    maps: np.ndarray
    """float32 [D, H, W, C], channels in the order of MAPS."""
    foot: np.ndarray
    """int32 [D, H, W]: flat index of the voxel of the pia that is nearest to each voxel."""
    near: np.ndarray
    """bool [D, H, W]: the head and one voxel around it."""
    folds: bool
    """Whether the cortex is still to be folded: an average of many people is smooth."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along the three axes."""
        return self.maps.shape[:3]

    @property
    def grid(self) -> Grid:
        """The voxels of the maps."""
        return Grid(self.spacing, self.affine, self.shape)

    def millimetres(self, coordinates: np.ndarray) -> list[np.ndarray]:
        """MNI x, y and z of voxel coordinates [3, ...]."""
        return [
            coordinates[i] * np.float32(self.spacing) + np.float32(self.affine[i, 3])
            for i in range(3)
        ]


@lru_cache(maxsize=2)
def load_template(spacing: float) -> Template:
    """Tissue maps of ICBM152 2009a (symmetric, skull-stripped) on cubes of `spacing` mm."""
    from nilearn import datasets  # heavy, and only the parent process needs it

    brain = datasets.load_mni152_brain_mask(resolution=1)
    images = [
        brain,
        datasets.load_mni152_gm_template(resolution=1),
        datasets.load_mni152_wm_template(resolution=1),
    ]
    arrays = [np.asarray(image.get_fdata(), np.float32) for image in images]
    inside = np.argwhere(arrays[0] > 0.5)
    origin = brain.affine[:3, :3] @ inside.min(0) + brain.affine[:3, 3] - MARGIN_MM
    shape = np.ceil((np.ptp(inside, axis=0) + 2 * MARGIN_MM) / spacing).astype(int) + 1
    start = (origin - brain.affine[:3, 3]) / np.diag(brain.affine)[:3]
    # A Gaussian whose full width at half maximum is about the new voxel averages the 1 mm maps.
    sigma = spacing / 2.8 if spacing > 1 else 0.0

    def resampled(array: np.ndarray) -> np.ndarray:
        smooth = ndimage.gaussian_filter(array, sigma)
        out = ndimage.affine_transform(smooth, np.full(3, spacing), start, tuple(shape), order=1)
        return out.clip(0, 1).astype(np.float32)

    head, grey, white = (resampled(array) for array in arrays)
    grey, white = sharpen(grey, white)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = origin
    ventricle = ventricle_mask(head, grey, white, spacing, origin)
    return make_template(spacing, affine, head, grey * head, white * head, ventricle, folds=True)


def ventricle_mask(
    head: np.ndarray, grey: np.ndarray, white: np.ndarray, spacing: float, origin: np.ndarray
) -> np.ndarray:
    """Lateral and third ventricles, bool [D, H, W]: fluid deep inside, near the middle of MNI."""
    x, y, z = (np.indices(head.shape, dtype=np.float32)[i] * spacing + origin[i] for i in range(3))
    box = (np.abs(x) < 42) & (y > -58) & (y < 42) & (z > -16) & (z < 34)
    fluid = head - grey * head - white * head > 0.5
    # 25 mm below the surface of the head there are no sulci.
    deep_inside = ndimage.distance_transform_edt(head > 0.5, spacing) > 25
    ventricle = fluid & box & deep_inside
    labels, count = ndimage.label(ventricle)
    if count > 1:
        sizes = ndimage.sum_labels(ventricle, labels, np.arange(1, count + 1))
        ventricle = np.isin(labels, 1 + np.flatnonzero(sizes > 0.2 * sizes.max()))
    return ventricle


def sharpen(grey: np.ndarray, white: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Make the tissue shares of an average of 152 people as crisp as one person's.

    The largest of the three shares of a voxel is raised (a soft maximum).
    """
    shares = np.stack([grey, white, np.clip(1 - grey - white, 0, 1)]) ** 2.0
    shares /= shares.sum(0) + 1e-6
    return shares[0], shares[1]


def make_template(
    spacing: float,
    affine: np.ndarray,
    head: np.ndarray,
    grey: np.ndarray,
    white: np.ndarray,
    ventricle: np.ndarray,
    folds: bool,
) -> Template:
    """Template of tissue shares and a mask of the ventricles [D, H, W], near MNI space."""
    brain = ndimage.binary_fill_holes((grey + white > 0.5) | ventricle)
    # The foot of a voxel's perpendicular to the pia: the nearest voxel outside the brain.
    depth_inside, foot = ndimage.distance_transform_edt(brain, return_indices=True)
    depth_outside = ndimage.distance_transform_edt(~brain)
    # Distances in mm with a sign: positive inside the brain, and outside the ventricles.
    depth = ndimage.gaussian_filter((depth_inside - depth_outside) * spacing, 0.6)
    from_wall = (
        ndimage.distance_transform_edt(~ventricle) - ndimage.distance_transform_edt(ventricle)
    ) * spacing
    x, y, z = (
        np.indices(head.shape, dtype=np.float32)[i] * spacing + affine[i, 3] for i in range(3)
    )
    cerebellum, stem = hindbrain(x, y, z)
    deep = deep_nuclei(x, y, z)
    # The cortex folds outside of hindbrain and nuclei, and not in the ventricles' wall.
    cerebrum = (1 - np.maximum(cerebellum, stem)) * (1 - deep) * ramp((from_wall - 5) / 3)
    channels = (
        head,
        grey,
        white,
        from_wall,
        ndimage.distance_transform_edt(head > 0.5) * spacing,
        depth,
        cerebrum,
        cerebellum * (1 - stem),
        deep,
    )
    foot_index = np.ravel_multi_index(tuple(foot), head.shape).astype(np.int32)
    return Template(
        spacing,
        affine,
        np.stack(channels, -1).astype(np.float32),
        foot_index,
        ndimage.binary_dilation(head > 0),
        folds,
    )


def hindbrain(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights of the cerebellum (below the tentorium) and of the brain stem at MNI mm."""
    tentorium = (
        -18 + 15 * np.exp(-((x / 16) ** 2) - ((y + 52) / 18) ** 2) - 0.15 * np.maximum(-75 - y, 0)
    )
    cerebellum = ramp((tentorium - z) / 4) * ramp((-36 - y) / 4)
    stem = ramp((19 - np.abs(x)) / 4) * ramp((-6 - z) / 4) * ramp((y + 48) / 4) * ramp((-4 - y) / 6)
    return cerebellum, stem


def deep_nuclei(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Weight of the deep grey nuclei at MNI mm: an ellipsoid with a soft edge on either side."""
    away = ((np.abs(x) - 18) / 16) ** 2 + ((y + 2) / 28) ** 2 + ((z - 4) / 16) ** 2
    return np.exp(-(away**2))
