"""From a network's outputs to the answer that is written: numbers, or a mask on the scan's voxels.

Part of what runs in a submission container.
"""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage
from scipy.special import expit, softmax

from scaling.data.forms import mended_header, scan_affine
from scaling.data.opening import open_image
from scaling.data.reading import read_scan


def class_probabilities(outputs: np.ndarray) -> list[float]:
    """Probability of the second of two classes from a logit, of every class from several."""
    logits = outputs.astype(np.float64)
    if logits.ndim == 0:
        return [float(expit(logits))]
    return softmax(logits).tolist()


def numbers_text(numbers: list[float]) -> str:
    """Numbers as one line of text."""
    return " ".join(f"{number:.9g}" for number in numbers) + "\n"


def label_probabilities(outputs: np.ndarray) -> np.ndarray:
    """Probability of every label [C, D, H, W], without the background.

    Outputs are logits [D, H, W] of one label, or [1 + C, D, H, W] of the background and C labels.
    """
    logits = outputs.astype(np.float64)
    if logits.ndim == 3:
        return expit(logits)[None]
    return softmax(logits, axis=0)[1:]


def mask_like(
    path: Path,
    probabilities: np.ndarray,
    grid: np.ndarray,
    labels: tuple[int, ...] = (1,),
    empty: bool = True,
) -> nib.Nifti1Image:
    """The mask on a file's own voxels, in its own axis order.

    `probabilities` [C, D, H, W] are interpolated; a voxel has the most probable of its labels and
    the background. Unless `empty` masks are allowed, a mask of one label has both values.
    """
    scan, image = read_scan(path), open_image(path)
    to_grid = np.linalg.inv(grid) @ scan.affine
    on_scan = np.stack(
        [
            ndimage.affine_transform(
                probability,
                to_grid[:3, :3],
                to_grid[:3, 3],
                scan.voxels.shape,
                order=1,
                mode="constant",
            )
            for probability in probabilities
        ]
    )
    affine = scan_affine(path, image)
    ras, stored = nib.orientations.axcodes2ornt("RAS"), nib.orientations.io_orientation(affine)
    voxels = most_probable(on_scan, labels) if empty else both_values(on_scan[0])
    mask = nib.orientations.apply_orientation(voxels, nib.orientations.ornt_transform(ras, stored))
    return image_like(image, affine, mask.reshape(image.shape))


def image_like(image: Any, affine: np.ndarray, voxels: np.ndarray) -> nib.Nifti1Image:
    """A mask uint8 [D, H, W] with the affine, units and header of an opened image."""
    kind, header = nib.Nifti1Image, nib.Nifti1Header()
    if isinstance(image, nib.Nifti1Pair):
        # The input's own affine, units and header, whatever they are.
        header = mended_header(image)
        affine = header.get_best_affine()
        kind = nib.Nifti2Image if isinstance(image, nib.Nifti2Pair) else nib.Nifti1Image
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    return kind(voxels, affine, header)


def most_probable(probabilities: np.ndarray, labels: tuple[int, ...]) -> np.ndarray:
    """uint8 [D, H, W] from the labels' probabilities [C, D, H, W]; 0 where the background's, the
    rest of 1, is highest.
    """
    background = 1 - probabilities.sum(0)
    highest = probabilities.argmax(0)
    mask = np.asarray(labels, np.uint8)[highest]
    return np.where(probabilities.max(0) > background, mask, 0).astype(np.uint8)


def both_values(probability: np.ndarray) -> np.ndarray:
    """uint8 [D, H, W], 1 where a probability is above 0.5, with at least one voxel of either value.

    Some challenges reject a mask of one value: where no voxel is above 0.5 the most probable one
    is 1, and where all are the least probable one is 0.
    """
    mask = (probability > 0.5).astype(np.uint8)
    if not mask.any():
        mask.flat[probability.argmax()] = 1
    elif mask.all():
        mask.flat[probability.argmin()] = 0
    return mask
