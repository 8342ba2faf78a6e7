"""One synthetic person: age-related anatomy, and where the deformed head lies in the template."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, sparse

from scaling.data.resample import apply_weights, axis_weights
from scaling.phantom.fields import interpolation, rotation, smooth_noise
from scaling.phantom.template import MAPS, Template
from scaling.study.phantom import Phantom


@dataclass(frozen=True)
class Person:
    """The truth about the age-related anatomy of one brain."""

    age: float
    ventricles_mm: float
    atrophy: float
    lesions_ml: float


def draw_person(
    phantom: Phantom, age: float, rng: np.random.Generator, anatomy_age: float = np.nan
) -> Person:
    """Draw what ageing does at an age, with personal scatter.

    Growth of the ventricles and of white matter lesions accelerates; atrophy is steady. Where
    the anatomy is that of a person of a known age, only the years between are added.
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


def deformation(
    template: Template, person: Person, millimetres: float, rng: np.random.Generator
) -> np.ndarray:
    """Template voxel coordinates float32 [3, D, H, W] of each voxel of this person's brain.

    Computed about every 4 mm and interpolated: nothing in it is finer.
    """
    spacing = template.spacing
    stride = max(1, round(4.0 / spacing))
    sizes = tuple(-(-(n - 1) // stride) + 1 for n in template.shape)
    angles = np.deg2rad(rng.normal(0, 4, 3))
    scales = 1 + rng.normal(0, 0.04, 3) + rng.normal(0, 0.03)
    shift = rng.normal(0, 2.0, 3) / spacing
    middle = (np.asarray(template.shape) - 1)[:, None, None, None] / 2
    centred = (np.indices(sizes) * stride - middle).astype(np.float32)
    moved = np.tensordot((rotation(angles) / scales).astype(np.float32), centred, 1) + np.float32(
        middle + shift[:, None, None, None]
    )
    for axis in range(3):
        # Head shape varies over 40 mm, lobes over 18 mm.
        coarse = smooth_noise(sizes, spacing * stride, 40.0, rng)
        field = coarse + 0.4 * smooth_noise(sizes, spacing * stride, 18.0, rng)
        moved[axis] += field * np.float32(millimetres / spacing)
    # Ventricles grow: points just outside of their wall take tissue from nearer to it.
    distance = template.maps[..., MAPS.index("ventricle_mm")]
    wall = (interpolation(template.shape, moved.reshape(3, -1)) @ distance.ravel()).reshape(sizes)
    normal = np.array(np.gradient(ndimage.gaussian_filter(wall, 3.0 / spacing / stride)))
    normal /= np.linalg.norm(normal, axis=0) + 1e-3
    near_wall = np.exp(-np.square(np.maximum(wall, 0) / 16.0)).astype(np.float32)
    moved -= normal * near_wall * np.float32(person.ventricles_mm / spacing)
    first, second, third = (
        axis_weights(m, 0.0, 1 / stride, n) for m, n in zip(sizes, template.shape, strict=True)
    )
    return np.stack([apply_weights(part, (first, second, third)) for part in moved])


@dataclass(frozen=True)
class Outline:
    """The n voxels of a person's head, and the template there."""

    inside: np.ndarray
    """bool [D, H, W] with n voxels True."""
    coordinates: np.ndarray
    """Template voxel coordinates [3, n]."""
    matrix: sparse.csr_array
    """Matrix [n, D H W] that interpolates in the template."""
    maps: dict[str, np.ndarray]
    """The template's maps, name -> [n]."""

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
    """The same voxels with the template's maps at other places [3, n]."""
    matrix = interpolation(template.shape, places)
    flat_maps = template.maps.reshape(-1, len(MAPS))  # [D, H, W, C] -> [D H W, C]
    maps = dict(zip(MAPS, (matrix @ flat_maps).T, strict=True))
    return Outline(inside, places, matrix, maps)
