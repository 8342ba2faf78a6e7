"""How many scans under a second name does `scaling data prepare --twins` find?

Shows:    every person of a real collection once more, under another name and in one of ten altered
          forms (noise, a cut face, other voxels); found of each form, how near the nearest two
          different people are, and how many of these are taken for one
Needs:    a folder of one T1 per person, sub_1/ses_1/t1.nii.gz, at least 16 people
Command:  python experiments/benchmarks/twins.py FOLDER
Ends in:  a table on the terminal; about two minutes of one core for 121 people
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

import nibabel as nib
import numpy as np
from scipy import ndimage

from scaling.data import twins
from scaling.data.cache import open_cache
from scaling.data.layout import scan_sources
from scaling.data.prepare import prepare
from scaling.study.config import Source, Split, Volumes

VOLUMES = Volumes(4.0, (40, 48, 40))
Altered = tuple[np.ndarray, np.ndarray]  # voxels and affine


def noisy(voxels: np.ndarray, affine: np.ndarray) -> Altered:
    head = voxels != 0
    noise = np.random.default_rng(0).normal(0, 0.1 * voxels[head].std(), voxels.shape)
    return np.where(head, voxels + noise, 0), affine


def defaced(voxels: np.ndarray, affine: np.ndarray) -> Altered:
    out = voxels.copy()
    out[:, voxels.shape[1] * 3 // 4 :, : voxels.shape[2] // 3] = 0
    return out, affine


def resampled(
    voxels: np.ndarray, affine: np.ndarray, mm: tuple[float, ...], order: int, smooth: bool
) -> Altered:
    """Voxels of another size, off the old grid; smoothed before it to the new size or not."""
    ratio = np.array(mm) / np.linalg.norm(affine[:3, :3], axis=0)
    if smooth:
        voxels = ndimage.gaussian_filter(voxels, np.where(ratio > 1, 0.42 * ratio, 0))
    offset = (ratio - 1) / 2 + 0.3
    shape = tuple(int(size) for size in np.floor(np.array(voxels.shape) / ratio))
    moved = affine.copy()
    moved[:3, :3] = affine[:3, :3] * ratio
    moved[:3, 3] = affine[:3, 3] + affine[:3, :3] @ offset
    return ndimage.affine_transform(voxels, ratio, offset, shape, order=order), moved


def cubes(mm: float, order: int, smooth: bool) -> Callable[[np.ndarray, np.ndarray], Altered]:
    return partial(resampled, mm=(mm, mm, mm), order=order, smooth=smooth)


FORMS: dict[str, Callable[[np.ndarray, np.ndarray], Altered]] = {
    "noise of 10 %": noisy,
    "face cut off": defaced,
    "1.3 mm, linear": cubes(1.3, 1, False),
    "2 mm, linear": cubes(2.0, 1, False),
    "2.6 mm, linear": cubes(2.6, 1, False),
    "2.6 mm, smoothed, cubic": cubes(2.6, 3, True),
    "3 mm, linear": cubes(3.0, 1, False),
    "3 mm, smoothed, linear": cubes(3.0, 1, True),
    "3 mm, nearest neighbour": cubes(3.0, 0, False),
    "slices of 5 mm, smoothed": partial(resampled, mm=(1.0, 1.0, 5.0), order=1, smooth=True),
}


def write_scans(folder: Path, scans: list[Path]) -> None:
    """Write the collections "one" and "other": person 7 is sub_7 there and sub_1007 here."""
    for person, scan in enumerate(scans):
        session_folder(folder / "one", person).joinpath("t1.nii.gz").write_bytes(scan.read_bytes())
        image = nib.as_closest_canonical(nib.load(scan))
        alter = list(FORMS.values())[person % len(FORMS)]
        voxels, affine = alter(image.get_fdata(dtype=np.float32), image.affine)
        path = session_folder(folder / "other", 1000 + person) / "t1.nii.gz"
        nib.save(nib.Nifti1Image(voxels.astype(np.float32), affine), path)


def session_folder(source: Path, number: int) -> Path:
    folder = source / f"sub_{number}" / "ses_1"
    folder.mkdir(parents=True)
    return folder


def person_of(path: str) -> int:
    """The person of a scan's path: sub_1007 is sub_7."""
    return int(Path(path).parts[-3].removeprefix("sub_")) % 1000


def nearest_people(cache: Path) -> float:
    """The highest correlation, in register, of two different people of one collection."""
    opened = open_cache(cache)
    rows = np.flatnonzero(opened.index["source"] == "one")
    rows, signatures = twins.read_signatures((cache, rows))
    mean = signatures.sum(0, dtype=np.float32) / np.maximum((signatures != 0).sum(0), 1)
    values = twins.less_mean(signatures, mean)
    highest = -1.0
    for one, other in twins.candidates(values, rows):
        pattern = twins.pattern_at(opened, int(rows[other]))
        assert pattern is not None
        highest = max(highest, twins.in_register(values[one], pattern, mean))
    return highest


def main(collection: Path) -> None:
    scans = sorted(collection.rglob("*t1*.nii.gz"))
    with tempfile.TemporaryDirectory() as name:
        folder, cache = Path(name), Path(name) / "cache"
        write_scans(folder, scans)
        table = scan_sources(folder, [Source("one"), Source("other")], Split())
        prepare(folder, table, VOLUMES, cache, workers=1)
        pairs = twins.find_twins(cache, workers=1).pairs
        nearest = nearest_people(cache)
    people = [(person_of(row.path), person_of(row.twin)) for row in pairs.itertuples()]
    same = {one for one, other in people if one == other}
    print(f"{len(scans)} people; found in another form:")
    for form, label in enumerate(FORMS):
        of_form = set(range(form, len(scans), len(FORMS)))
        print(f"  {label:26s} {len(of_form & same):3d} of {len(of_form)}")
    print(f"pairs of different people: {sum(one != other for one, other in people)}")
    print(f"nearest two different people: {nearest:.2f} (the limit is {twins.NEAR_EQUAL})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("collection", type=Path, metavar="FOLDER")
    main(parser.parse_args().collection)
