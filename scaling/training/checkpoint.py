"""Checkpoints with Orbax: written in the background, verified, readable on another number of
devices.

    checkpoints/STEP/                a complete checkpoint
    checkpoints/STEP/digests.json    the digest of every file in it; written before it got its name
    .saving-STEP/                    one that is being written, or was when its process was killed

Orbax writes beside the checkpoints. Once all its files are on the disk, digested and listed, the
folder is renamed, and only then the checkpoint before it is removed. So at any moment one complete
checkpoint exists, whatever happens to the power. Checkpoints without digests.json are those of
format 1.
"""

import os
import shutil
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from scaling.files import check_before_rename, flush, read_marker, write_json
from scaling.objectives.interface import Parameters
from scaling.processes.distributed import is_main
from scaling.runs.digests import DamagedError, damage, record
from scaling.training.program import State

DIGESTS = "digests.json"
_read: set[Path] = set()  # checkpoints of which this process has read every file


class Checkpoints:
    """The checkpoints of a run, the newest kept. Closing it waits for the last one.

    What a killed process left half-written is removed.
    """

    def __init__(self, folder: Path):
        self.folder = folder.resolve()
        self.writer: threading.Thread | None = None
        self.error: BaseException | None = None
        if is_main():
            self.folder.mkdir(parents=True, exist_ok=True)
            flush(self.folder.parent)
            for abandoned in self.folder.parent.glob(".saving-*"):
                shutil.rmtree(abandoned)
            for abandoned in self.folder.glob("*.orbax-checkpoint-tmp*"):  # of format 1
                shutil.rmtree(abandoned)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.wait()
        elif self.writer is not None:
            self.writer.join()

    def save(self, step: int, state: State) -> None:
        """Start saving `state` as of `step`, once the save before it is complete. Raises OSError
        when the disk has no room for it.
        """
        self.wait()
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        free = shutil.disk_usage(self.folder).free
        if free < 2 * needed:
            raise OSError(
                f"no room for the checkpoint of step {step} in {self.folder}: it takes "
                f"{needed / 1e6:.0f} MB and needs twice that while it is written, {free / 1e6:.0f} "
                "MB are free; free some space and run again to resume from the last checkpoint"
            )
        staged = self.folder.parent / f".saving-{step}"
        with context_of_all():
            response = ocp.save_async(staged, state._asdict(), overwrite=True)

        def complete() -> None:
            try:
                response.result()
                if is_main():
                    commit(staged, self.folder / str(step))
            except BaseException as error:
                self.error = error

        self.writer = threading.Thread(target=complete)
        self.writer.start()

    def wait(self) -> None:
        """Return once the last save is complete. Raises what went wrong in the background."""
        if self.writer is not None:
            self.writer.join()
            self.writer = None
        if self.error is not None:
            error, self.error = self.error, None
            raise error


def context_of_all() -> ocp.Context:
    """Orbax's settings for a save by all processes. With their numbers named they wait for each
    other at jax's coordinator, for minutes; by default in a collective, which gives up after half a
    minute.
    """
    context = ocp.Context()
    if jax.process_count() > 1:
        context.multiprocessing.primary_host = 0
        context.multiprocessing.active_processes = set(range(jax.process_count()))
    return context


def context_of_one() -> ocp.Context:
    """Orbax's settings for a load by this process alone."""
    context, me = ocp.Context(), jax.process_index()
    context.multiprocessing.primary_host = me
    context.multiprocessing.active_processes = {me}
    return context


def commit(staged: Path, final: Path) -> None:
    """Flush and digest what lies in `staged`, name it `final`, and remove older checkpoints."""
    files = [path for path in staged.rglob("*") if path.is_file()]
    folders = [path for path in staged.rglob("*") if path.is_dir()]
    for path in (*files, *folders, staged):
        flush(path)
    write_json(staged / DIGESTS, record(staged, files))
    check_before_rename()
    if final.exists():
        shutil.rmtree(final)
    os.rename(staged, final)
    flush(final.parent)
    for older in complete_steps(final.parent):
        if older != int(final.name):
            shutil.rmtree(final.parent / str(older))


def complete_steps(folder: Path) -> list[int]:
    """The steps of the checkpoints in a run's folder, newest first, whole or not."""
    steps = []
    for path in folder.glob("*"):
        if path.name.isdecimal() and ocp.is_orbax_checkpoint(path.resolve()):
            steps.append(int(path.name))
    return sorted(steps, reverse=True)


def damage_of_checkpoint(checkpoint: Path) -> str:
    """What is wrong with a checkpoint, in one sentence; "" when nothing is. Every file is read once
    in a process; later, only those that were touched since.
    """
    digests = read_marker(checkpoint / DIGESTS)
    if digests is None:
        return f"{checkpoint / DIGESTS} is damaged" if (checkpoint / DIGESTS).exists() else ""
    if checkpoint in _read:
        return damage(checkpoint, digests)
    # A time that cannot be is one that differs: `damage` then compares the digest.
    unread = {name: {**written, "modified": -1} for name, written in digests.items()}
    sentence = damage(checkpoint, unread)
    if not sentence:
        _read.add(checkpoint)
    return sentence


def newest(folder: Path) -> Path | None:
    """The newest whole checkpoint in a run's folder, if there is one. A damaged one is named on
    standard error, and passed over.
    """
    for step in complete_steps(folder):
        checkpoint = folder.resolve() / str(step)
        damaged = damage_of_checkpoint(checkpoint)
        if not damaged:
            return checkpoint
        print(f"scaling: {damaged}; it is not used", file=sys.stderr, flush=True)
    return None


def latest_step(folder: Path) -> int | None:
    """The step of the newest whole checkpoint in a run's folder, if there is one."""
    checkpoint = newest(folder)
    return None if checkpoint is None else int(checkpoint.name)


def require_newest(folder: Path) -> Path:
    """The newest whole checkpoint in `folder`. Raises FileNotFoundError when there is none,
    DamagedError when there are only damaged ones.
    """
    checkpoint = newest(folder)
    if checkpoint is not None:
        return checkpoint
    steps = complete_steps(folder)
    if steps:
        damaged = folder / str(steps[0])
        raise DamagedError(damaged, damage_of_checkpoint(damaged.resolve()))
    raise FileNotFoundError(f"{folder} has no complete checkpoint; run its step again")


def restore(folder: Path, abstract: State) -> State:
    """The newest whole state in `folder`, laid out as `abstract` says. Raises as
    `require_newest`.
    """
    return load_state(require_newest(folder), abstract)


def load_state(checkpoint: Path, abstract: State) -> State:
    """The state of one checkpoint, laid out as `abstract` says. Raises DamagedError."""
    return State(**loaded(checkpoint, abstract._asdict(), context_of_all()))


def restore_encoder(folder: Path, shapes: Any) -> Parameters:
    """The encoder's parameters of the newest checkpoint in `folder`, as `restore_parts`."""
    return restore_parts(folder, {"encoder": shapes})["encoder"]


def restore_parts(folder: Path, shapes: dict[str, Any]) -> dict[str, Parameters]:
    """Some parts of the parameters of the newest checkpoint in `folder`, nothing else of it, for
    this process alone and on its first device. Raises as `require_newest`.
    """
    device = first_device()
    abstract = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), shapes
    )
    context = context_of_one()
    context.pytree.loading.partial_load = True
    parts: dict[str, Parameters] = loaded(
        require_newest(folder), {"parameters": abstract}, context
    )["parameters"]
    return parts


def first_device() -> jax.sharding.SingleDeviceSharding:
    """Where networks lie that are tried on tasks: on one device, so that they share programs."""
    return jax.sharding.SingleDeviceSharding(jax.devices()[0])


def loaded(checkpoint: Path, abstract: dict[str, Any], context: ocp.Context) -> dict[str, Any]:
    """A checkpoint as `abstract` says. Raises ValueError, naming it, when Orbax cannot read it."""
    try:
        with context:
            return ocp.load(checkpoint, abstract)
    except (OSError, KeyError, ValueError) as error:
        if (checkpoint / DIGESTS).exists():
            cure = "its files are whole: it was written for another model, or by another version"
        else:
            cure = "it has no digests; delete it, and its run goes on from what is before it"
        raise ValueError(f"{checkpoint} cannot be loaded ({first_line(error)}); {cure}") from error


def first_line(error: Exception) -> str:
    """The first line of an error's text."""
    return (str(error).splitlines() or [type(error).__name__])[0]
