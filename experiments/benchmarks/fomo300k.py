"""What does `prepare` make of FOMO300K's mixture: thick slices, sub-millimetre voxels, scans of an
unknown sequence?

Shows:    a tree of small synthetic scans with the published shares of 306,207 scans: 69.3 %
          isotropic (a tenth of these below 0.8 mm), 25.8 % thick slices, 4.9 % anisotropic
          otherwise; 43.9 % named `scan`; one file in 60,000 cut short. CPU time, peak memory, what
          is left out and why. Fields of view are a few centimetres, so that the files are small
Command:  python experiments/benchmarks/fomo300k.py [--files 60000]
Ends in:  lines on the terminal; 11 minutes of one core and 10 GB in a temporary folder
"""

import argparse
import gzip
import os
import resource
import tempfile
import time
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

import nibabel as nib
import numpy as np

from scaling.data.layout import scan_sources
from scaling.data.prepare import prepare
from scaling.study.config import Source, Split, Volumes

# Share of the scans, voxels in mm, shape.
GEOMETRIES = {
    "isotropic, 1 mm": (0.624, (1.0, 1.0, 1.0), (32, 36, 32)),
    "isotropic, 0.7 mm": (0.069, (0.7, 0.7, 0.7), (44, 48, 44)),
    "thick slices, 0.9 x 0.9 x 5 mm": (0.258, (0.9, 0.9, 5.0), (40, 44, 8)),
    "anisotropic, 1 x 1 x 2 mm": (0.049, (1.0, 1.0, 2.0), (32, 36, 18)),
}
SEQUENCES = {
    "scan": 0.439,
    "t1": 0.256,
    "t2": 0.112,
    "dwi": 0.093,
    "flair": 0.072,
    "pd": 0.012,
    "swi": 0.006,
    "t2s": 0.005,
    "angio": 0.005,
}
SESSION = 4  # scans of a session
VOLUMES = Volumes(4.0, (40, 48, 40))


def contents(spacing: tuple[float, ...], shape: tuple[int, ...]) -> bytes:
    """An uncompressed NIfTI file of a textured ellipsoid on zeros."""
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij", sparse=True)
    inside = sum(axis**2 for axis in axes) < 0.8
    texture = np.random.default_rng(0).integers(0, 16, shape) * 8
    voxels = np.where(inside, 400 + texture, 0).astype(np.int16)
    return nib.Nifti1Image(voxels, np.diag([*spacing, 1.0])).to_bytes()


def write_tree(folder: Path, count: int) -> None:
    """Write `count` scans as sub_1/ses_1/t1_1.nii.gz; its number, in its middle voxels, tells each
    from the others.
    """
    rng = np.random.default_rng(1)
    files = [contents(spacing, shape) for _, spacing, shape in GEOMETRIES.values()]
    shares = np.array([share for share, _, _ in GEOMETRIES.values()])
    geometries = rng.choice(len(files), count, p=shares / shares.sum())
    weights = np.array(list(SEQUENCES.values()))
    sequences = rng.choice(list(SEQUENCES), count, p=weights / weights.sum())
    for number in range(count):
        session = folder / f"sub_{number // SESSION}" / "ses_1"
        session.mkdir(parents=True, exist_ok=True)
        content = files[geometries[number]]
        middle = len(content) // 2
        content = content[:middle] + number.to_bytes(4, "little") + content[middle + 4 :]
        packed = gzip.compress(content, 1)
        if number % 60_000 == 30_000:
            packed = packed[: len(packed) // 2]
        path = session / f"{sequences[number]}_{number % SESSION + 1}.nii.gz"
        path.write_bytes(packed)


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tree(folder / "fomo", count)
        cpu, wall = time.process_time(), time.perf_counter()
        table = scan_sources(folder, [Source("fomo")], Split())
        index = prepare(folder, table, VOLUMES, folder / "cache", workers=1)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    usable = index[index["status"] == "ok"]
    print(f"{len(index):,} scans: {cpu:.0f} CPU seconds (waited {wall:.0f}), {peak:.0f} MB at most")
    print(f"left out: {len(index) - len(usable)}")
    for reason in index.loc[index["status"] != "ok", "reason"].head():
        print(f"  {reason}")
    print(f"of an unknown sequence: {(index['sequence'].str.startswith('scan')).mean():.1%}")
    names = usable[~usable["sequence"].str.startswith("scan")]
    pairs = names.groupby(["subject", "session"])["sequence"].nunique() > 1
    sessions = usable.drop_duplicates(["subject", "session"])
    print(f"sessions with two named sequences: {pairs.sum() / len(sessions):.1%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=60_000)
    main(parser.parse_args().files)
