"""What XLA is told before JAX starts: where compiled programs are kept, and which kernels it may
use.
"""

import hashlib
import os
import platform
from pathlib import Path

# Without it GPUs add in any order, and equal runs differ in their last bits (openxla#12520).
DETERMINISTIC = "--xla_gpu_exclude_nondeterministic_ops=true"
# Collectives of several GPUs run beside what does not wait for them.
OVERLAPPING = "--xla_gpu_enable_latency_hiding_scheduler=true"


def configure_xla(deterministic: bool, gpus: int = 0) -> None:
    """Keep compiled programs for later processes, ask for equal bits where that is wanted, and
    overlap the collectives of a run on several `gpus`.

    What the environment says wins: `JAX_COMPILATION_CACHE_DIR` ("" for no cache), `XLA_FLAGS`. Call
    it before JAX is imported.
    """
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(compilation_cache()))
    if deterministic:
        add_flag(DETERMINISTIC)
    if gpus > 1:
        add_flag(OVERLAPPING)


def add_flag(flag: str) -> None:
    """Add NAME=VALUE to XLA's flags, unless the environment has a value of that name."""
    flags = os.environ.get("XLA_FLAGS", "")
    if flag.partition("=")[0] not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {flag}".strip()


def configure_compiler(devices: int) -> None:
    """Let this process compile for any accelerator without touching one, with `devices` virtual
    devices of the CPU. Call it before JAX is imported.
    """
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")
    # Away from Google's cloud libtpu would ask for a machine's metadata, and wait.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    flags = os.environ.get("XLA_FLAGS", "")
    if "device_count" not in flags:
        flags = f"{flags} --xla_force_host_platform_device_count={devices}"
        os.environ["XLA_FLAGS"] = flags.strip()


def user_cache() -> Path:
    """The folder of what this package keeps for later processes of the user."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "brain-mri-scaling"


def compilation_cache() -> Path:
    """The user's folder of compiled programs of this kind of machine.

    Programs for a CPU use its instructions: on a file system that machines of several kinds share,
    each kind has a folder of its own. JAX's own keys tell accelerators and versions apart.
    """
    return user_cache() / "compiled" / machine_kind()


def machine_kind() -> str:
    """A name of the processor's architecture and instructions."""
    instructions = ""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                instructions = line
                break
    except OSError:
        instructions = platform.processor()
    digest = hashlib.blake2b(instructions.encode(), digest_size=6).hexdigest()
    return f"{platform.machine()}-{digest}"
