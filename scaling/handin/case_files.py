"""Files of predictions and labels, by case.

PREDICTIONS/sub_1.txt                  one number: a probability, or an age
PREDICTIONS/sub_1.nii.gz               a mask on the voxels of the case
PREDICTIONS/sub_1.npy                  an embedding
LABELS/[labels/]sub_1[/ses_1]/label.txt | labels.txt | seg.nii.gz
"""

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from scaling.data.delimited import decoded
from scaling.data.forms import scan_affine
from scaling.data.opening import BROKEN, open_image, unreadable

LABEL_FILES = ("label.txt", "labels.txt")
MASK_FILES = ("seg.nii.gz", "seg.nii", "seg.mgz")


def find_labels(folder: Path, names: tuple[str, ...]) -> dict[str, Path]:
    """Case -> label file with one of the names, in the layouts of challenges."""
    root = folder
    if (folder / "labels").is_dir():
        root = folder / "labels"
    files = []
    for name in dict.fromkeys(name for name in names if name):
        files += [(file.relative_to(root).parts[0], file) for file in root.glob(f"*/**/{name}")]
    return by_case(sorted(files))


def find_predictions(folder: Path, endings: tuple[str, ...]) -> dict[str, Path]:
    """Case -> file of a folder with one of the endings, also in capitals; the case is the name up
    to the ending.
    """
    files = []
    for file in sorted(folder.iterdir()):
        name = file.name.lower()
        ending = next((ending for ending in endings if name.endswith(ending)), "")
        if ending:
            files.append((file.name[: -len(ending)], file))
    return by_case(files)


def by_case(files: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """Case -> file. Raises ValueError when a case has two."""
    result: dict[str, Path] = {}
    for case, file in files:
        if case in result:
            raise ValueError(f"{case} has both {result[case]} and {file}; expected one")
        result[case] = file
    return result


def require_folders(*folders: Path) -> None:
    """Raise FileNotFoundError for a folder that does not exist."""
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{folder} is not a folder; expected sub_1.txt or sub_1.nii.gz, ... and "
                "sub_1/label.txt or sub_1/seg.nii.gz"
            )


def read_number(file: Path) -> float:
    """The one finite number in a text file. Raises ValueError naming the file."""
    try:
        text = decoded(file, file.read_bytes()).strip()
    except OSError as error:
        raise ValueError(f"{file} cannot be read ({error.strerror})") from error
    try:
        number = math.nan if "_" in text else float(text)  # Python reads 1_0 as ten
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{file} holds {text[:40]!r}; expected one finite number")
    return number


def read_volume(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels [D, H, W] of a mask and its affine. Raises ValueError naming the file.

    Values within a thousandth of a whole number are that number (masks are stored scaled),
    NaN stays NaN.
    """
    image = open_image(file, whole=True)
    try:
        voxels = np.asarray(image.dataobj)
    except BROKEN as error:
        raise unreadable(file, error) from error
    while voxels.ndim > 3 and voxels.shape[-1] == 1:
        voxels = voxels[..., 0]
    if voxels.ndim != 3 or voxels.dtype.names:
        raise ValueError(f"{file} has shape {voxels.shape}; expected a mask [D, H, W]")
    whole = np.where(np.isnan(voxels), voxels, np.rint(voxels))
    if not (np.abs(voxels - whole) > 1e-3).any():
        voxels = whole
    return voxels, scan_affine(file, image)
