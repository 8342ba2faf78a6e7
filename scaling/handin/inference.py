"""One case through a handed-in model: files in, one number or one mask out. All that runs in a submission container.

`export` copies this file and what it imports, so it needs no training package: the network is a program in StableHLO with its weights
beside it, and reading is the study's own code.
"""

import argparse
import hashlib
import json
import platform
import sys
from pathlib import Path
from typing import Any

import jax
import jax.export
import nibabel as nib
import numpy as np
from safetensors.numpy import load_file
from scipy import ndimage
from scipy.special import expit

from scaling.data.forms import mended_header, scan_affine
from scaling.data.opening import UnreadableVolume, open_image
from scaling.data.reading import read_scan
from scaling.data.volume import session_volume
from scaling.study.config import Volumes

SEQUENCES = (
    "flair",
    "adc",
    "dwi_b1000",
    "t2s",
    "swi",
    "t1",
    "t2",
)  # what FOMO25 calls with; those a model does not use are ignored


def main(app: Path) -> None:
    """What app/predict.py does: one case, in a process of its own that finds the network compiled, if `--warm` ran on this machine."""
    folder = app / "compiled" / machine()
    if "--warm" in sys.argv:
        folder.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    sys.exit(run(app, sys.argv[1:]))


def run(app: Path, arguments: list[str]) -> int:
    """`--flair FILE ... --output FILE`, in any order; or `--warm`, which compiles the network. Returns the exit code."""
    description = read_description(app)
    parser = argparse.ArgumentParser(
        prog="predict.py", allow_abbrev=False, description=description["what"]
    )
    for sequence in sorted({*SEQUENCES, *"|".join(description["sequences"]).split("|")}):
        parser.add_argument(f"--{sequence}", type=Path, metavar="FILE")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="a mask (.nii.gz) or a text file with one number",
    )
    parser.add_argument(
        "--warm",
        action="store_true",
        help="compile for this kind of machine, into compiled/ beside this file",
    )
    given = vars(parser.parse_args(arguments))
    output, warm = given.pop("output"), given.pop("warm")
    files = {sequence: path for sequence, path in given.items() if path is not None}
    if not warm and (output is None or not files):
        parser.error("expected --output FILE and at least one sequence")
    if output is not None and (description["kind"] == "segmentation") != output.name.endswith(
        (".nii", ".nii.gz")
    ):
        parser.error(
            f"--output is {output}; expected a .nii.gz file for a mask, a text file for a number"
        )
    try:
        if warm:
            warm_up(app)
        else:
            predict_case(app, files, output)
    except (UnreadableVolume, OSError) as error:
        print(f"predict.py: {error}", file=sys.stderr)
        return 2
    return 0


def read_description(app: Path) -> dict[str, Any]:
    """What `export` wrote of the model."""
    return json.loads((app / "model.json").read_text())


def predict_case(app: Path, files: dict[str, Path], output: Path) -> None:
    """Write the prediction for one session, given as a file per sequence.

    Raises UnreadableVolume when none of the model's sequences can be used.
    """
    description = read_description(app)
    volumes = Volumes(description["spacing_mm"], tuple(description["shape"]))
    images, chosen, grid = read_session(files, description["sequences"], volumes)
    outputs = run_network(app, images, np.array([sequence != "" for sequence in chosen]))
    output.parent.mkdir(parents=True, exist_ok=True)
    match description["kind"]:
        case "segmentation":
            reference = files[next(sequence for sequence in chosen if sequence)]
            nib.save(mask_like(reference, expit(outputs.astype(np.float64)), grid), output)
        case "classification":
            output.write_text(f"{expit(float(outputs)):.9g}\n")
        case "regression":
            mean, deviation = description["scaling"]
            output.write_text(f"{float(outputs) * deviation + mean:.9g}\n")


def read_session(
    files: dict[str, Path], slots: list[str], volumes: Volumes
) -> tuple[np.ndarray, list[str], np.ndarray]:
    """A session as the study saw its own: float16 [S, D, H, W], the sequence in each slot ("" and zeros where there is none) and the
    grid's matrix.

    All scans are brought to the grid of the first usable one; of a slot such as "t2s|swi" the first usable is taken.
    """
    grid: np.ndarray | None = None
    read, problems = {}, []
    for sequence, path in sorted(files.items()):
        try:
            read[sequence], _, grid = session_volume(path, read_scan(path), volumes, grid)
        except UnreadableVolume as error:
            problems.append(str(error))
    chosen = [
        next((sequence for sequence in slot.split("|") if sequence in read), "") for slot in slots
    ]
    if grid is None or not any(chosen):
        raise UnreadableVolume(
            f"no usable scan: expected one of {', '.join(slots)}, found {'; '.join(problems) or ', '.join(files)}"
        )
    for problem in problems:
        print(f"predict.py: left out: {problem}", file=sys.stderr)
    missing = np.zeros(volumes.shape, np.float16)
    return np.stack([read.get(sequence, missing) for sequence in chosen]), chosen, grid


def run_network(app: Path, images: np.ndarray, present: np.ndarray) -> np.ndarray:
    """The network's output for one session: a logit, a standardised number, or logits [D, H, W]."""
    program = jax.export.deserialize(bytearray((app / "program.bin").read_bytes()))
    return np.asarray(
        jax.jit(program.call)(load_file(app / "weights.safetensors"), images, present)
    )


def warm_up(app: Path) -> None:
    """Run the network once on nothing: compiles it."""
    description = read_description(app)
    count, shape = len(description["sequences"]), description["shape"]
    run_network(app, np.zeros((count, *shape), np.float16), np.ones(count, bool))


def machine() -> str:
    """Names this kind of processor: compiled code may crash on another one, and XLA's own cache key does not tell them apart."""
    flags = platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        flags += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return hashlib.blake2b(flags.encode(), digest_size=8).hexdigest()


def mask_like(path: Path, probability: np.ndarray, grid: np.ndarray) -> nib.Nifti1Image:
    """The mask on a file's own voxels, in its own axis order: 1 where the interpolated probability [D, H, W] is above 0.5.

    A mask is never empty, as the challenge rejects those: where no voxel is above 0.5, the most probable one is 1 (and where all are,
    the least probable one is 0).
    """
    scan, image = read_scan(path), open_image(path)
    to_grid = np.linalg.inv(grid) @ scan.affine
    on_scan = ndimage.affine_transform(
        probability, to_grid[:3, :3], to_grid[:3, 3], scan.voxels.shape, order=1, mode="constant"
    )
    affine = scan_affine(path, image)
    ras, own = nib.orientations.axcodes2ornt("RAS"), nib.orientations.io_orientation(affine)
    mask = nib.orientations.apply_orientation(
        both_values(on_scan), nib.orientations.ornt_transform(ras, own)
    )
    kind, header = nib.Nifti1Image, nib.Nifti1Header()
    if isinstance(image, nib.Nifti1Pair):
        # The input's own affine, units and header, whatever they are.
        header = mended_header(image)
        affine = header.get_best_affine()
        kind = nib.Nifti2Image if isinstance(image, nib.Nifti2Pair) else nib.Nifti1Image
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    return kind(mask.reshape(image.shape), affine, header)


def both_values(probability: np.ndarray) -> np.ndarray:
    """uint8 [D, H, W], 1 where a probability is above 0.5, with at least one voxel of either value."""
    mask = (probability > 0.5).astype(np.uint8)
    if not mask.any():
        mask.flat[probability.argmax()] = 1
    elif mask.all():
        mask.flat[probability.argmin()] = 0
    return mask
