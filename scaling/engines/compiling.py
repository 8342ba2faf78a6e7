"""`scaling plan --compile`: the programs of a plan compiled for an accelerator that need not be at
hand, and what XLA says of them.
"""

import dataclasses
import hashlib
import importlib.metadata
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from scaling.costs.accelerators import ACCELERATORS
from scaling.costs.roofline import work_of
from scaling.engines.plan_programs import PlanProgram, plan_programs
from scaling.files import read_json, write_json
from scaling.processes.xla import user_cache
from scaling.runs.plan import Plan
from scaling.training.topology import devices_of

FORMAT = 1  # raised when what is kept of a program, or how it is counted, changes
NOT_COMPILED = "not compiled"
COMPILERS = ("jaxlib", "jax-cuda12-pjrt", "jax-cuda13-pjrt", "libtpu")

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Compiled:
    """What XLA says of one program, on each device."""

    memory: int
    """Bytes of arguments, results that are not in their place, and temporaries."""
    kernels: int
    """Kernels launched in one call."""
    bytes: float
    """Bytes read and written."""
    flops: float
    """FLOPs of matrix products and convolutions."""
    seconds: float
    """The least time, by the roofline of every kernel."""
    launched_seconds: float
    """The same, a kernel taking at least the time of its launch."""


@dataclass(frozen=True)
class Outcome:
    """A program and what became of it: what XLA says, or why it does not compile."""

    program: PlanProgram
    compiled: Compiled | None
    reason: str = ""


def compile_plan(plan: Plan, minutes: float, tell: Tell) -> Iterator[Outcome]:
    """Compile the distinct programs of a plan for its accelerator, largest first.

    Results are kept in the user's cache. Once `minutes` are spent on programs that were not there,
    the next such program and all after it are left out, with the reason `NOT_COMPILED`. `tell`
    gets a line of progress before each program.

    Raises ValueError where the accelerator's compiler is not installed.
    """
    accelerator = plan.study.execution.accelerator
    programs = plan_programs(plan)
    largest = max((program.devices for program in programs), default=1)
    devices = devices_of(accelerator, largest)
    spent: list[float] = []  # seconds of each program that was compiled now
    for number, program in enumerate(programs):
        seconds_left = 60 * minutes - sum(spent)
        ahead = time_ahead(spent, len(programs) - number, seconds_left)
        tell(f"[{number + 1}/{len(programs)}] {program.kind} of {program.network}{ahead}")
        began = time.monotonic()
        outcome, was_kept = compile_program(program, devices, accelerator, seconds_left <= 0)
        if not was_kept:
            spent.append(time.monotonic() - began)
        yield outcome
        if outcome.reason == NOT_COMPILED:
            yield from (Outcome(later, None, NOT_COMPILED) for later in programs[number + 1 :])
            return


def time_ahead(spent: Sequence[float], programs: int, seconds_left: float) -> str:
    """How long it will take yet, in words: by the programs so far, at most what is left."""
    if not spent:
        return ""
    seconds = min(programs * sum(spent) / len(spent), max(seconds_left, 0.0))
    return f", about {seconds / 60:.1f} minutes left"


def compile_program(
    program: PlanProgram, devices: Sequence[jax.Device], accelerator: str, only_kept: bool
) -> tuple[Outcome, bool]:
    """One program compiled, or what was kept of it, and which of both; `only_kept` compiles
    nothing.
    """
    try:
        lowered = program.lower(devices)
        file = user_cache() / "plans" / f"{digest_of(lowered, accelerator)}.json"
        compiled = load(file)
        if compiled is not None:
            return Outcome(program, compiled), True
        if only_kept:
            return Outcome(program, None, NOT_COMPILED), False
        compiled = account(lowered.compile(), accelerator)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, dataclasses.asdict(compiled))
    except (jax.errors.JaxRuntimeError, NotImplementedError) as error:
        # One program that XLA refuses leaves the others: cuDNN may be missing, or room.
        return Outcome(program, None, str(error).strip().partition("\n")[0]), False
    return Outcome(program, compiled), False


def digest_of(lowered: jax.stages.Lowered, accelerator: str) -> str:
    """A name for a program on an accelerator under the compilers that are installed."""
    versions = []
    for package in COMPILERS:
        try:
            versions.append(f"{package}=={importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    told = "\n".join([str(FORMAT), accelerator, *versions, flags(), lowered.as_text()])
    return hashlib.blake2b(told.encode(), digest_size=16).hexdigest()


def flags() -> str:
    """XLA's flags, but for the number of virtual devices."""
    words = os.environ.get("XLA_FLAGS", "").split()
    return " ".join(sorted(word for word in words if "device_count" not in word))


def load(file: Path) -> Compiled | None:
    """What was kept of a program; None where nothing was, or the file is damaged."""
    if not file.exists():
        return None
    try:
        return Compiled(**read_json(file))
    except (ValueError, TypeError):
        return None


def account(compiled: jax.stages.Compiled, accelerator: str) -> Compiled:
    """What XLA says of a compiled program."""
    sizes: Any = compiled.memory_analysis()
    memory = (
        sizes.argument_size_in_bytes
        + sizes.output_size_in_bytes
        - sizes.alias_size_in_bytes
        + sizes.temp_size_in_bytes
    )
    work = work_of(compiled.as_text() or "", ACCELERATORS[accelerator])
    return Compiled(
        memory, work.kernels, work.bytes, work.flops, work.seconds, work.launched_seconds
    )
