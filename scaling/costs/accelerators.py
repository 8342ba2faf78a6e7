"""The devices that a plan is estimated for."""

from dataclasses import dataclass

from scaling.study.shapes import Platform


@dataclass(frozen=True)
class Accelerator:
    """One device."""

    peak: float
    """Peak FLOP/s of the type it trains in: the vendors' dense bfloat16 figures."""
    utilisation: float
    """Share of the peak that is realistic here."""
    memory: float
    """Bytes."""
    bandwidth: float
    """Bytes/s of the memory."""
    kind: str
    """What stands in the name that jax gives it."""
    platform: Platform
    """Which of a network's forms it is given."""
    share: float = 1.0
    """Share of the memory that JAX hands out."""
    launch: float = 0.0
    """Seconds that a kernel takes at least."""

    @property
    def usable(self) -> float:
        """Bytes that programs may take."""
        return self.share * self.memory


# By default JAX takes three quarters of a GPU's memory (XLA_PYTHON_CLIENT_MEM_FRACTION).
JAX_SHARE = 0.75

LAUNCH = 3e-6  # seconds of the smallest kernel on a GPU

# cpu-2 is two cores of a current server CPU in float32, as measured. The others' peaks and
# bandwidths are the vendors'.
ACCELERATORS = {
    "cpu-2": Accelerator(2.0e11, 0.35, 16e9, 2e10, "cpu", "cpu"),
    "a100": Accelerator(3.12e14, 0.30, 80e9, 2.039e12, "A100", "gpu", JAX_SHARE, LAUNCH),
    "h100": Accelerator(9.89e14, 0.30, 80e9, 3.35e12, "H100", "gpu", JAX_SHARE, LAUNCH),
    "h200": Accelerator(9.89e14, 0.30, 141e9, 4.8e12, "H200", "gpu", JAX_SHARE, LAUNCH),
    "tpu-v5e": Accelerator(1.97e14, 0.30, 16e9, 8.19e11, "TPU v5 lite", "tpu"),
}


def peak_of(kind: str, devices: int) -> float | None:
    """Peak FLOP/s of devices of a kind as jax names it; None for what is not in `ACCELERATORS`.

    Virtual devices of one CPU count together.
    """
    for accelerator in ACCELERATORS.values():
        if accelerator.kind in kind:
            return accelerator.peak * (1 if accelerator.platform == "cpu" else devices)
    return None


def accelerator_of(kind: str, platform: str) -> str:
    """The name of a device of a kind as jax names it; the first of its platform for what is not in
    `ACCELERATORS`.
    """
    of_platform = [name for name, one in ACCELERATORS.items() if one.platform == platform]
    for name in of_platform:
        if ACCELERATORS[name].kind in kind:
            return name
    return of_platform[0]
