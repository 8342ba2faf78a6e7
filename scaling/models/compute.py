"""How a network is computed: what changes its speed and its memory, and no parameter of it."""

from dataclasses import dataclass, field

import jax

from scaling.study.config import Remat
from scaling.study.shapes import Platform

PLATFORMS: dict[str, Platform] = {
    "cpu": "cpu",
    "gpu": "gpu",
    "cuda": "gpu",
    "rocm": "gpu",
    "tpu": "tpu",
}


def platform_of(device: jax.Device) -> Platform:
    """The kind of a device. Raises ValueError for one that networks have no form for."""
    if device.platform not in PLATFORMS:
        raise ValueError(
            f"devices of platform {device.platform!r} are not supported; "
            f"expected one of {', '.join(PLATFORMS)}"
        )
    return PLATFORMS[device.platform]


def here() -> Platform:
    """The kind of the devices that jax uses by default."""
    return PLATFORMS[jax.default_backend()]


@dataclass(frozen=True)
class Compute:
    """What the builders of networks are told."""

    dtype: str = "float32"
    """Type of the activations; parameters are always float32."""
    remat: Remat = "none"
    """What the backward pass computes again (`scaling.models.remat`)."""
    platform: Platform = field(default_factory=here)
    """Kind of device: attention and convolutions have the form that is fast on it."""
