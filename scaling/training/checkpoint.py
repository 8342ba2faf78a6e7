"""Checkpoints with Orbax: written in the background, committed atomically, readable on another number of devices."""

import shutil
from pathlib import Path
from typing import Any

import jax
from absl import flags
from orbax.checkpoint import v1 as ocp

from scaling.objectives.interface import Parameters
from scaling.training.program import State

# Processes wait for each other at jax's coordinator, for minutes; by default in a collective, which gives up after half a minute.
flags.FLAGS.mark_as_parsed()
flags.FLAGS["experimental_orbax_use_distributed_barrier"].value = True


def open_checkpoints(folder: Path) -> ocp.training.Checkpointer:
    """The checkpoints of a run, newest kept; what a killed process left half-written is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    return ocp.training.Checkpointer(
        folder.resolve(),
        preservation_policy=ocp.training.preservation_policies.LatestN(1),
        cleanup_tmp_directories=True,
    )


def save(checkpoints: ocp.training.Checkpointer, step: int, state: State) -> None:
    """Start saving `state` as of `step`. Raises OSError when the disk has no room for it."""
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    free = shutil.disk_usage(str(checkpoints.directory)).free
    if free < 2 * needed:
        raise OSError(
            f"no room for the checkpoint of step {step} in {checkpoints.directory}: it takes {needed / 1e6:.0f} MB and needs twice "
            f"that while it is written, {free / 1e6:.0f} MB are free; free some space and run again to resume from the last checkpoint"
        )
    # Orbax skips a save while the one before is still being written, and by its own policy: here every save counts.
    checkpoints.wait()
    checkpoints.save_async(step, state._asdict(), force=True)


def latest_step(folder: Path) -> int | None:
    """The last step with a complete checkpoint in a run's folder, if there is one."""
    if not folder.exists():
        return None
    with ocp.training.Checkpointer(folder.resolve()) as checkpoints:
        return checkpoints.latest.step if checkpoints.latest else None


def restore(folder: Path, abstract: State) -> State:
    """The newest state in `folder`, laid out as `abstract` says."""
    return State(**load_newest(folder, abstract._asdict()))


def restore_encoder(folder: Path, abstract_encoder: Any) -> Parameters:
    """The encoder's parameters of the newest checkpoint in `folder`, nothing else of it, for this process alone."""
    context, me = ocp.Context(), jax.process_index()
    context.multiprocessing.primary_host, context.multiprocessing.active_processes = me, {me}
    context.pytree.loading.partial_load = True
    with context:
        complete = [
            int(each.name)
            for each in folder.glob("*")
            if each.name.isdecimal() and ocp.is_orbax_checkpoint(each.resolve())
        ]
        if not complete:
            raise FileNotFoundError(
                f"{folder} has no complete checkpoint; delete its step's folder and run again"
            )
        newest = folder.resolve() / str(max(complete))
        return ocp.load(newest, {"parameters": {"encoder": abstract_encoder}})["parameters"][
            "encoder"
        ]


def load_newest(folder: Path, abstract: dict[str, Any]) -> dict[str, Any]:
    """The newest checkpoint in `folder`. Raises FileNotFoundError when there is none."""
    with ocp.training.Checkpointer(folder.resolve()) as checkpoints:
        if checkpoints.latest is None:
            raise FileNotFoundError(
                f"{folder} has no complete checkpoint; delete its step's folder and run again"
            )
        return checkpoints.load(abstract_state=abstract)
