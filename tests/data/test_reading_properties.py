"""Whatever the affine, type, slope and shape of a file: what nibabel and SciPy make of it."""

import gzip
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from scaling.data.reading import read_scan
from scaling.data.volume import resample

BOUNDED = settings(max_examples=30, deadline=None, derandomize=True)
TYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8", ">i2", ">f4")


@st.composite
def affines(draw: st.DrawFn) -> np.ndarray:
    """Axes in any order and direction, turned by up to half a radian, voxels of .5 to 6 mm."""
    order = draw(st.permutations(range(3)))
    signs = [draw(st.sampled_from((-1.0, 1.0))) for _ in range(3)]
    angles = [draw(st.floats(-0.5, 0.5)) for _ in range(3)]
    sizes = [draw(st.floats(0.5, 6.0)) for _ in range(3)]
    axes = nib.eulerangles.euler2mat(*angles) @ (np.eye(3)[list(order)] * signs)
    affine = np.eye(4)
    affine[:3, :3] = axes * sizes
    affine[:3, 3] = [draw(st.floats(-100, 100)) for _ in range(3)]
    return affine


@st.composite
def files(draw: st.DrawFn) -> nib.Nifti1Image:
    """A NIfTI image of any type, shape, affine and slope."""
    shape = tuple(draw(st.integers(4, 9)) for _ in range(3))
    dtype = np.dtype(draw(st.sampled_from(TYPES)))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    stored = rng.integers(0, 100, shape).astype(dtype)
    header = nib.Nifti1Header(endianness=">" if dtype.byteorder == ">" else "<")
    header.set_data_dtype(dtype)
    image = nib.Nifti1Image(stored, draw(affines()), header)
    if draw(st.booleans()):
        image.header.set_slope_inter(draw(st.floats(0.01, 50)), draw(st.floats(-100, 100)))
    return image


@BOUNDED
@given(files(), st.booleans())
def test_a_file_is_read_as_nibabel_reads_it(image: nib.Nifti1Image, zipped: bool) -> None:
    slope, intercept = image.header.get_slope_inter()
    content = bytearray(image.to_bytes())
    if slope is not None:  # nibabel stores the slope, and scales what it is given by it
        header = nib.Nifti1Header(bytes(content[:348]), check=False)
        header["scl_slope"], header["scl_inter"] = slope, intercept
        content[:348] = header.binaryblock
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("a.nii.gz" if zipped else "a.nii")
        path.write_bytes(gzip.compress(content) if zipped else content)
        expected = nib.as_closest_canonical(nib.load(path))
        scan = read_scan(path)
        values = np.asarray(expected.dataobj, np.float32)
    np.testing.assert_allclose(scan.voxels, values, rtol=1e-6)
    np.testing.assert_allclose(scan.affine, expected.affine, atol=2e-4)


@BOUNDED
@given(affines(), st.integers(0, 2**16))
def test_a_scan_is_resampled_as_scipy_resamples_it(affine: np.ndarray, seed: int) -> None:
    from scaling.data.reading import Scan

    image = np.random.default_rng(seed).random((12, 14, 11), dtype=np.float32)
    canonical = nib.as_closest_canonical(nib.Nifti1Image(image, affine))
    scan = Scan(np.asarray(canonical.dataobj, np.float32), canonical.affine)
    grid = np.diag([3.0, 3.0, 3.0, 1.0])
    middle = nib.affines.apply_affine(scan.affine, (np.array(scan.voxels.shape) - 1) / 2)
    grid[:3, 3] = middle - 3.0 * 4.5
    (ours,) = resample(scan, [scan.voxels], (10, 10, 10), grid)
    ratio = 3.0 / scan.spacing
    sigma = np.where(ratio > 1.01, np.sqrt(np.maximum(ratio**2 - 1, 0)) / 2.3548, 0)
    smooth = ndimage.gaussian_filter(scan.voxels.astype(float), sigma, mode="constant")
    to_scan = np.linalg.inv(scan.affine) @ grid
    expected = ndimage.affine_transform(
        smooth, to_scan[:3, :3], to_scan[:3, 3], (10, 10, 10), order=1, mode="grid-constant"
    )
    np.testing.assert_allclose(ours, expected, atol=2e-4)
