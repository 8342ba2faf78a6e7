"""How fast are collections read? Volumes per second per core into the cache, and files per second
of the check.

Shows:    nii.gz of 160 x 192 x 160 int16 voxels -> float16 shards without resampling, by stage,
          beside decompression alone (the floor); `scaling data check` of many small files, first
          and again, and what 60,000 would take
Command:  python experiments/benchmarks/ingest.py [--files 60000] [--volumes 24]
Ends in:  a table on the terminal; about five minutes and 400 MB in a temporary folder, all on one
          core
"""

import argparse
import gzip
import os
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

import nibabel as nib
import numpy as np
from scipy import ndimage

from scaling.data.check import check
from scaling.data.head import find_head
from scaling.data.layout import scan_sources
from scaling.data.opening import gunzip
from scaling.data.prepare import prepare
from scaling.data.reading import read_scan
from scaling.data.volume import scan_to_grid, session_grid
from scaling.study.config import Source, Split, Volumes

SHAPE = (160, 192, 160)


def seconds(function: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall seconds of a call: on a shared machine the first is the figure, the second what
    was waited.
    """
    cpu, wall = time.process_time(), time.perf_counter()
    function()
    return time.process_time() - cpu, time.perf_counter() - wall


def brain(seed: int) -> np.ndarray:
    """int16 [160, 192, 160]: a textured, noisy ellipsoid of a third of the voxels, zero outside, as
    a skull-stripped scan.
    """
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(
        *[np.linspace(-1, 1, n, dtype=np.float32) for n in SHAPE], indexing="ij", sparse=True
    )
    inside = sum(axis**2 for axis in axes) < 0.74
    texture = ndimage.zoom(
        rng.normal(0, 60, [n // 8 for n in SHAPE]).astype(np.float32), 8, order=1
    )
    return np.where(inside, 400 + texture + rng.normal(0, 6, SHAPE), 0).astype(np.int16)


def volumes(folder: Path, count: int) -> None:
    print(f"{count} volumes of {SHAPE}, int16, nii.gz")
    for n in range(count):
        path = folder / "scans" / f"sub_{n}" / "ses_1" / "t1.nii.gz"
        path.parent.mkdir(parents=True)
        nib.save(nib.Nifti1Image(brain(n), np.eye(4)), path)
    grid = Volumes(1.0, SHAPE)
    contents = [path.read_bytes() for path in sorted(folder.rglob("*.nii.gz"))]
    path = folder / "scans" / "sub_0" / "ses_1" / "t1.nii.gz"
    scan = read_scan(path)
    head = find_head(path, scan.voxels, scan.spacing)
    place = session_grid(scan, grid, head.inside)
    table = scan_sources(folder, [Source("scans")], Split())
    stages: dict[str, Callable[[], object]] = {
        "decompress, zlib": lambda: [zlib.decompress(content, 31) for content in contents],
        "decompress, ISA-L": lambda: [gunzip(content) for content in contents],
        "read (RAS, float32)": lambda: [read_scan(path) for _ in range(count)],
        "foreground": lambda: [find_head(path, scan.voxels, scan.spacing) for _ in range(count)],
        "grid, normalise": lambda: [
            scan_to_grid(path, scan, grid, place, head) for _ in range(count)
        ],
        "content hash": lambda: [scan.content_hash() for _ in range(count)],
        "all of it, into the cache": lambda: prepare(
            folder, table, grid, folder / "cache", workers=1
        ),
    }
    for name, function in stages.items():
        cpu, wall = seconds(function)
        print(
            f"  {name:28s} {count / cpu:7.1f} volumes per CPU second   {1000 * cpu / count:6.0f} "
            f"ms   (waited {1000 * wall / count:.0f} ms)"
        )


def files(folder: Path, count: int) -> None:
    content = nib.Nifti1Image(np.arange(336, dtype=np.int16).reshape(6, 7, 8), np.eye(4)).to_bytes()
    for n in range(count):
        path = (
            folder
            / "fomo60k"
            / f"sub_{n // 5}"
            / "ses_1"
            / f"{('t1', 't2', 'flair', 'swi', 'adc')[n % 5]}.nii.gz"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content[:-8] + n.to_bytes(8, "little"), 1))
    print(f"check of {count:,} files")
    for name in ("first", "again, nothing changed"):
        cpu, wall = seconds(
            lambda: check(folder / "fomo60k", folder / "manifest.parquet", workers=1)
        )
        whole = 60_000 / count * cpu / 60
        print(
            f"  {name:28s} {count / cpu:7.0f} files per CPU second, waited {wall:.1f} s; 60,000: "
            f"{whole:.1f} minutes of one core"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=60_000)
    parser.add_argument("--volumes", type=int, default=24)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        volumes(Path(name) / "a", options.volumes)
        files(Path(name) / "b", options.files)
