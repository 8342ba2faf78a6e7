"""What the synthetic cohort looks like: five people in all eight sequences, and any real scans
beside them.

Shows:    a young and an old healthy brain, an acute infarct, a meningioma at a 3 T scanner of 2 mm,
          and a patient at a 1 T scanner with thick slices; axial, through the lesion where there is
          one
Command:  python experiments/benchmarks/mosaic.py OUT.png [--beside SCAN...] [--set FIELD=VALUE...]
Ends in:  OUT.png, after about fifteen seconds
"""

import argparse
import tempfile
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
from nibabel.spatialimages import SpatialImage
from PIL import Image

from scaling.phantom.people import Subject
from scaling.phantom.subject import start_worker, truth_folder, write_subject
from scaling.phantom.template import load_template
from scaling.runs.experiment import override
from scaling.study.phantom import Phantom, Scanner

SEQUENCES = ("t1", "t1c", "t2", "flair", "dwi_b1000", "adc", "t2s", "swi")
SHARP = Scanner("sharp", 3.0, (2.0, 2.0, 2.0))
THICK = Scanner(
    "thick", 1.0, (1.8, 1.8, 6.0), "LPI", bias=0.15, noise=0.03, blur_mm=1.0, gap_mm=1.0
)
PEOPLE = (
    Subject("fomo60k", 1, SHARP, SEQUENCES, age=25.0),
    Subject("fomo60k", 2, SHARP, SEQUENCES, age=82.0),
    Subject("fomo60k", 3, SHARP, SEQUENCES, age=62.0, acute=True),
    Subject("fomo60k", 4, SHARP, SEQUENCES, age=55.0, meningioma=True),
    Subject("fomo60k", 5, THICK, SEQUENCES, age=70.0, acute=True, old=True),
)
WIDTH, HEIGHT = 146, 184  # pixels of a picture
MM = 0.97  # pixels per mm


def load(file: Path) -> tuple[np.ndarray, tuple[float, ...]]:
    """Voxels in RAS order and their sizes."""
    image = nib.as_closest_canonical(cast(SpatialImage, nib.load(file)))
    return np.asarray(image.dataobj, np.float32), image.header.get_zooms()[:3]


def picture(voxels: np.ndarray, zooms: tuple[float, ...], slice_share: float) -> Image.Image:
    """One axial slice, windowed as a viewer does."""
    low, high = np.percentile(voxels[voxels > 0], (1, 99.7))
    plane = np.clip(
        (voxels[:, :, int(voxels.shape[2] * slice_share)] - 0.6 * low) / (high - 0.6 * low), 0, 1
    )
    size = round(plane.shape[0] * zooms[0] * MM), round(plane.shape[1] * zooms[1] * MM)
    drawn = Image.fromarray((255 * plane.T[::-1]).astype(np.uint8)).resize(
        size, Image.Resampling.BICUBIC
    )
    framed = Image.new("L", (WIDTH, HEIGHT))
    framed.paste(drawn, ((WIDTH - size[0]) // 2, (HEIGHT - size[1]) // 2))
    return framed


def row(root: Path, person: Subject) -> list[Image.Image]:
    """All sequences of a person, at the height where the lesion is largest."""
    share = 0.54
    lesions = sorted(
        file
        for file in truth_folder(root, person).glob("*.nii.gz")
        if file.name[:3] in ("inf", "seg")
    )
    if lesions:
        mask, _ = load(lesions[0])
        share = (int(mask.sum((0, 1)).argmax()) + 0.5) / mask.shape[2]
    folder = root / "fomo60k" / person.name / "ses_1"
    return [picture(*load(folder / f"{sequence}.nii.gz"), share) for sequence in person.sequences]


def main(out: Path, beside: list[Path], overrides: list[str]) -> None:
    """Write the sheet: real scans in the first rows, people in the others."""
    rows = [
        [picture(*load(file), 0.54) for file in beside[first : first + len(SEQUENCES)]]
        for first in range(0, len(beside), len(SEQUENCES))
    ]
    phantom = override(Phantom(spacing_mm=2.0, seed=1), overrides)
    with tempfile.TemporaryDirectory() as name:
        start_worker(
            Path(name), phantom, None if phantom.label_maps else load_template(phantom.spacing_mm)
        )
        for person in PEOPLE:
            write_subject(person)
            rows.append(row(Path(name), person))
    sheet = Image.new("L", (WIDTH * len(SEQUENCES), HEIGHT * len(rows)))
    for r, pictures in enumerate(rows):
        for c, drawn in enumerate(pictures):
            sheet.paste(drawn, (WIDTH * c, HEIGHT * r))
    sheet.quantize(24).save(out, optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--beside", type=Path, nargs="*", default=[])
    parser.add_argument("--set", dest="overrides", nargs="*", default=[])
    options = parser.parse_args()
    main(options.out, options.beside, options.overrides)
