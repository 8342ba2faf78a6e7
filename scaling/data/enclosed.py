"""What a mask [D, H, W] encloses: holes filled in the volume, or in each of its planes."""

import numpy as np
from scipy import ndimage


def enclosed(mask: np.ndarray) -> np.ndarray:
    """The mask with its holes filled: what no path of voxels outside joins to the volume's
    faces.
    """
    box = bounding_box(mask)  # what is outside reaches the faces of the box as well
    labels, count = ndimage.label(~mask[box])
    holes = ~_reaches_faces(labels, count, (0, 1, 2))
    if not holes.any():
        return mask
    filled = mask.copy()
    filled[box] |= holes[labels]
    return filled


def bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box that holds all True voxels, of which there is at least one."""
    box = []
    for axis in range(3):
        others = tuple(i for i in range(3) if i != axis)
        occupied = np.flatnonzero(mask.any(others))
        box.append(slice(int(occupied[0]), int(occupied[-1]) + 1))
    return tuple(box)


def enclosed_in_planes(mask: np.ndarray) -> np.ndarray:
    """The mask with what it encloses in any sagittal, coronal or axial plane.

    Ventricles that the field of view cuts open are enclosed in the plane of the cut.
    """
    filled = mask.copy()
    for axis in range(3):
        in_plane = ndimage.generate_binary_structure(3, 1)
        in_plane[tuple(slice(None) if i == axis else 1 for i in range(3))] = False
        in_plane[1, 1, 1] = True
        labels, count = ndimage.label(~mask, in_plane)
        others = tuple(i for i in range(3) if i != axis)
        filled |= ~_reaches_faces(labels, count, others)[labels]
    return filled


def _reaches_faces(labels: np.ndarray, count: int, axes: tuple[int, ...]) -> np.ndarray:
    """bool [count + 1]: labels on the faces across `axes`; the mask itself, label 0, counts too."""
    reaches = np.zeros(count + 1, bool)
    for axis in axes:
        reaches[np.take(labels, [0, -1], axis)] = True
    reaches[0] = True
    return reaches
