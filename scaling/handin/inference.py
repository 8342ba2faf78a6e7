"""One case through a handed-in model: files in; a number, a mask or an embedding out.

This is all that runs in a submission container. `export` copies this file and what it imports, so
that it needs no training package: the network is a program in StableHLO with its weights beside it,
and reading is the study's own code. model.json says what the program expects and returns.
"""

import argparse
import hashlib
import json
import platform
import sys
import traceback
from pathlib import Path
from typing import Any

import jax
import jax.export
import nibabel as nib
import numpy as np
from safetensors.numpy import load_file

from scaling.data.forms import scan_affine
from scaling.data.opening import UnreadableVolume, open_image
from scaling.data.reading import read_scan
from scaling.data.volume import session_volume
from scaling.handin.answers import (
    class_probabilities,
    image_like,
    label_probabilities,
    mask_like,
    numbers_text,
)
from scaling.study.config import Volumes

# The network as a CPU computes it, which runs everywhere, and as a GPU does.
PROGRAM, PROGRAM_CUDA = "program.bin", "program_cuda.bin"
ENDINGS = {
    "classification": (".txt",),
    "regression": (".txt",),
    "segmentation": (".nii.gz", ".nii"),
    "embedding": (".npy",),
}


def main(app: Path) -> None:
    """What app/predict.py does: one case, in a process of its own.

    The process finds the network compiled if `--warm` ran on this kind of machine.
    """
    folder = app / "compiled" / machine()
    warm = "--warm" in sys.argv
    if warm:
        folder.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        # What compiles faster than this is not written: later calls only read, as the folder of an
        # image may not be written to.
        longest = 0.0 if warm else 1e9
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", longest)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    sys.exit(run(app, sys.argv[1:]))


def run(app: Path, arguments: list[str]) -> int:
    """Run `--flair FILE ... --output FILE`, in any order, or `--warm`. Returns the exit code.

    A model that always answers writes its prior where a case cannot be read, and says why.
    """
    description = read_description(app)
    parser = argument_parser(description)
    given = vars(parser.parse_args(arguments))
    output, warm = given.pop("output"), given.pop("warm")
    if warm:
        warm_up(app)
        return 0
    files = {description["flags"][flag]: path for flag, path in given.items() if path is not None}
    if output is None or not files:
        parser.error("expected --output FILE and at least one sequence")
    endings = ENDINGS[description["kind"]]
    # Any name is accepted for a number.
    if endings != (".txt",) and not output.name.endswith(endings):
        parser.error(f"--output is {output}; expected a name that ends in {endings[0]}")
    if endings == (".txt",) and output.name.endswith((".nii", ".nii.gz", ".npy")):
        parser.error(f"--output is {output}; expected a text file for a number")
    try:
        predict_case(app, files, output)
    except Exception as error:
        expected = isinstance(error, UnreadableVolume | OSError)
        if not description["always_answers"]:
            if not expected:
                raise
            print(f"predict.py: {error}", file=sys.stderr)
            return 2
        # A missing answer costs a challenge's case, or a whole task: the prior costs less.
        print(f"predict.py: the prior is written, for {error}", file=sys.stderr)
        if not expected:
            traceback.print_exc()
        return write_prior(description, files, output)
    return 0


def argument_parser(description: dict[str, Any]) -> argparse.ArgumentParser:
    """The program's options: a flag per sequence, those that the model ignores included."""
    parser = argparse.ArgumentParser(
        prog="predict.py", allow_abbrev=False, description=description["what"]
    )
    for flag in sorted(description["flags"]):
        parser.add_argument(f"--{flag}", type=Path, metavar="FILE", dest=flag)
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help=f"file to write, {ENDINGS[description['kind']][0]}",
    )
    parser.add_argument(
        "--warm",
        action="store_true",
        help="compile for this kind of machine, into compiled/ beside this file",
    )
    return parser


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
    if not np.isfinite(outputs).all():
        raise FloatingPointError("the network's output is not finite")
    output.parent.mkdir(parents=True, exist_ok=True)
    match description["kind"]:
        case "segmentation":
            reference = files[next(sequence for sequence in chosen if sequence)]
            mask = mask_like(
                reference,
                label_probabilities(outputs),
                grid,
                tuple(description["labels"]),
                description["empty_masks"],
            )
            nib.save(mask, output)
        case "classification":
            output.write_text(numbers_text(class_probabilities(outputs)))
        case "regression":
            mean, deviation = description["scaling"]
            output.write_text(numbers_text([float(outputs) * deviation + mean]))
        case "embedding":
            np.save(output, outputs.astype(np.float32), allow_pickle=False)


def write_prior(description: dict[str, Any], files: dict[str, Path], output: Path) -> int:
    """Write what is known without a scan: the training cases' share or median, an empty mask, a
    vector of zeros. Returns the exit code: 2 where a mask cannot even have a shape.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    match description["kind"]:
        case "classification" | "regression":
            output.write_text(numbers_text(description["prior"]))
        case "embedding":
            vector = np.zeros(description["length"], np.float32)
            np.save(output, vector, allow_pickle=False)
        case "segmentation":
            for file in files.values():
                try:
                    image = open_image(file)
                    affine = scan_affine(file, image)
                except (UnreadableVolume, OSError):
                    continue
                nib.save(image_like(image, affine, np.zeros(image.shape, np.uint8)), output)
                return 0
            print("predict.py: no input has a readable header", file=sys.stderr)
            return 2
    return 0


def read_session(
    files: dict[str, Path], slots: list[str], volumes: Volumes
) -> tuple[np.ndarray, list[str], np.ndarray]:
    """A session as the study saw its own.

    Returns float16 [S, D, H, W], the sequence in each slot ("" and zeros where there is none) and
    the grid's matrix. All scans are brought to the grid of the first usable one; of a slot such as
    "t2s|swi" the first usable is taken.
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
            f"no usable scan: expected one of {', '.join(slots)}, found "
            f"{'; '.join(problems) or ', '.join(files)}"
        )
    for problem in problems:
        print(f"predict.py: left out: {problem}", file=sys.stderr)
    missing = np.zeros(volumes.shape, np.float16)
    return np.stack([read.get(sequence, missing) for sequence in chosen]), chosen, grid


def run_network(app: Path, images: np.ndarray, present: np.ndarray) -> np.ndarray:
    """The network's output for one session: a logit, a standardised number, logits [D, H, W] or
    [1 + C, D, H, W], or an embedding [d].
    """
    file = app / PROGRAM
    if jax.default_backend() == "gpu" and (app / PROGRAM_CUDA).exists():
        file = app / PROGRAM_CUDA
    program = jax.export.deserialize(bytearray(file.read_bytes()))
    return np.asarray(
        jax.jit(program.call)(load_file(app / "weights.safetensors"), images, present)
    )


def warm_up(app: Path) -> None:
    """Run the network once on zeros: compiles it."""
    description = read_description(app)
    count, shape = len(description["sequences"]), description["shape"]
    run_network(app, np.zeros((count, *shape), np.float16), np.ones(count, bool))


def machine() -> str:
    """Names this kind of processor: compiled code may crash on another one, and XLA's own cache key
    does not distinguish them.
    """
    flags = platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        flags += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return hashlib.blake2b(flags.encode(), digest_size=8).hexdigest()
