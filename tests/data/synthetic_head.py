"""A whole head of known parts: brain with ventricles, skull, scalp, neck and a nose, in air."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

SHAPE = (84, 96, 88)
SPACING = 2.5  # mm
# A T1-weighted scan's levels, white matter at 1: ventricles and skull are almost as dark as air.
LEVELS = {"scalp": 0.85, "skull": 0.06, "cortex": 0.6, "white": 0.95, "ventricle": 0.12}


@dataclass(frozen=True)
class Head:
    """`signal` float32 [D, H, W], 0 in air; bool masks of the `brain`, `ventricles` and `head`."""

    signal: np.ndarray
    brain: np.ndarray
    ventricles: np.ndarray
    head: np.ndarray


def make_head(seed: int = 0, level: float = 600.0) -> Head:
    """Ellipsoids at 2.5 mm, edges softened as a scanner does, with texture and a bias field."""
    mm = (np.indices(SHAPE) - np.array([42, 48, 46])[:, None, None, None]) * SPACING

    def ellipsoid(
        radii: tuple[float, float, float], centre: tuple[float, float, float]
    ) -> np.ndarray:
        offset = mm - np.array(centre)[:, None, None, None]
        return ((offset / np.array(radii)[:, None, None, None]) ** 2).sum(0) < 1

    scalp = ellipsoid((80, 98, 90), (0, 0, 4))
    neck = (mm[0] ** 2 + (mm[1] + 8) ** 2 < 52**2) & (mm[2] < 0)
    nose = ellipsoid((14, 22, 20), (0, 98, -25))
    skull = ellipsoid((74, 92, 84), (0, 0, 4))
    brain = ellipsoid((67, 84, 76), (0, 0, 6))
    white = ellipsoid((52, 68, 60), (0, 0, 6))
    ventricles = ellipsoid((9, 30, 12), (12, 0, 10)) | ellipsoid((9, 30, 12), (-12, 0, 10))
    signal = np.zeros(SHAPE, np.float32)
    signal[scalp | neck | nose] = LEVELS["scalp"]
    for part, name in ((skull, "skull"), (brain, "cortex"), (white, "white")):
        signal[part] = LEVELS[name]
    signal[ventricles] = LEVELS["ventricle"]
    rng = np.random.default_rng(seed)
    texture = ndimage.gaussian_filter(rng.normal(size=SHAPE), 2)
    signal *= 1 + 0.08 * texture / texture.std()
    signal *= 1 + 0.1 * mm[1] / 120  # the coil is more sensitive in front
    signal = ndimage.gaussian_filter(signal, 0.4)
    head = ndimage.binary_fill_holes(scalp | neck | nose)
    signal[~ndimage.binary_dilation(head)] = 0
    return Head((signal * level).astype(np.float32), brain, ventricles, head)


def in_noise(head: Head, deviation: float, seed: int = 1) -> np.ndarray:
    """float32 [D, H, W]: the magnitude of the signal in complex noise (Rician)."""
    rng = np.random.default_rng(seed)
    real = head.signal + rng.normal(0, deviation, SHAPE)
    return np.hypot(real, rng.normal(0, deviation, SHAPE)).astype(np.float32)


def with_border(voxels: np.ndarray, value: float, width: int = 4) -> np.ndarray:
    """The volume with a border of one value, as gradient correction and padding leave it."""
    out = np.full_like(voxels, value)
    inner = (slice(width, -width),) * 3
    out[inner] = voxels[inner]
    return out


def defaced(voxels: np.ndarray, value: float = 0.0) -> np.ndarray:
    """The volume with the face's box set to one value."""
    out = voxels.copy()
    out[:, 80:, :40] = value
    return out


def turned(voxels: np.ndarray, degrees: float = 10.0) -> np.ndarray:
    """The volume turned about the first axis inside its field of view: zero wedges at the faces."""
    return ndimage.rotate(voxels, degrees, (1, 2), reshape=False, order=1).astype(np.float32)
