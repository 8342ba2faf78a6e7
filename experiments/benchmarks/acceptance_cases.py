"""The cases of `acceptance.py`, most telling first: what each measures, and how long it may take.

Imports no jax: the process that starts the cases leaves the device to them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

STEPS = "Training steps"
TUNING = "Fine-tuning"
TORCH = "The same networks in PyTorch"
AROUND = "Around the step"
STUDY = "A study"

NO_TRITON = "--xla_gpu_enable_triton_gemm=false"
CHANNELS_LAST = {"xla_gpu_force_conv_nhwc": True}
EQUAL_BITS = "--xla_gpu_exclude_nondeterministic_ops=true"

# Functions of acceptance_steps, acceptance_input and acceptance_runs.
Measure = Literal[
    "training_step",
    "one_program_or_many",
    "beside_pytorch",
    "input_wait",
    "crops_a_second",
    "save_stall",
    "kill_and_resume",
    "study_against_plan",
]


@dataclass(frozen=True)
class Case:
    """One measurement, in a process of its own."""

    name: str
    stage: str
    """The table that it is in."""
    minutes: float
    """How long it may take."""
    measure: Measure
    """The function that measures it."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """What the function is given."""
    flags: str = ""
    """Flags of XLA beside those of the environment."""


def cases(reduced: bool) -> list[Case]:
    """All cases for one accelerator, or `reduced` to what a CPU does in seconds."""
    return list(reduced_cases() if reduced else device_cases())


def step_case(name: str, flags: str = "", **arguments: Any) -> Case:
    """A pretraining step."""
    return Case(name, STEPS, 3.0, "training_step", arguments, flags)


def device_cases() -> Iterator[Case]:
    """Figures of one accelerator: 96^3 crops in bfloat16."""
    unet = partial(step_case, family="unet", batch=4)
    resenc = partial(step_case, family="resenc", batch=4)
    vit = partial(step_case, family="vit", batch=16)
    yield unet("U-Net b, batch 4", size="b")
    yield unet("U-Net b, channels last", size="b", compiler_options=CHANNELS_LAST)
    yield vit("ViT l", size="l")
    yield vit("ViT l, blocks scanned", size="l", scanned=True)
    yield vit("ViT 4xl, dots", size="4xl", remat="dots")
    yield Case("16 fine-tunings of ViT s", TUNING, 4.0, "one_program_or_many")
    yield vit("ViT s", size="s")
    yield vit('ViT l, augment "all"', size="l", augment="all")
    yield vit("ViT l, dots", size="l", remat="dots")
    yield Case("ViT l, crops read by the host", AROUND, 3.0, "input_wait")
    yield Case("saving ViT 2xl", AROUND, 3.0, "save_stall")
    yield Case("kill and resume", AROUND, 5.0, "kill_and_resume")
    yield Case("first minutes of fomo25 small", STUDY, 7.0, "study_against_plan")
    for network in ("vit-96", "unet-64"):
        yield Case(f"{network}, batch 8", TORCH, 5.0, "beside_pytorch", {"network": network})
    yield Case("crops a second of this host", AROUND, 2.0, "crops_a_second")
    yield vit("ViT l, equal bits", size="l", flags=EQUAL_BITS)
    yield unet("U-Net b, no Triton products", size="b", flags=NO_TRITON)
    yield resenc("ResEnc b, batch 4", size="b")
    yield resenc("ResEnc l, blocks", size="l", remat="blocks")
    for size in ("m", "xl", "2xl", "3xl"):
        yield vit(f"ViT {size}", size=size)
    yield vit("ViT l, blocks", size="l", remat="blocks")
    yield unet("U-Net xs, batch 4", size="xs")


def reduced_cases() -> Iterator[Case]:
    """One case of each kind on the smallest networks, in float32."""
    tiny = {"size": "xxs", "crop": 16, "batch": 2, "dtype": "float32", "steps": 2}
    yield step_case("ViT xxs", family="vit", **tiny)
    yield step_case("ViT xxs, blocks scanned", family="vit", scanned=True, **tiny)
    yield step_case("U-Net xxs", family="unet", **tiny)
    small = {"size": "xxs", "side": 16, "rows": 2, "steps": 1, "dtype": "float32"}
    yield Case("2 fine-tunings of ViT xxs", TUNING, 2.0, "one_program_or_many", small)
    yield Case("ViT xxs, crops read by the host", AROUND, 2.0, "input_wait", tiny)
    yield Case("saving ViT xxs", AROUND, 2.0, "save_stall", tiny)
    few = {"volumes": 4, "crop": 16, "seconds": 0.1, "most": 2}
    yield Case("crops a second of this host", AROUND, 2.0, "crops_a_second", few)
    yield Case("kill and resume", AROUND, 8.0, "kill_and_resume", {"samples": 320})
    minute = {"scale": "", "minutes": 1.0}
    yield Case("first minutes of the micro study", STUDY, 8.0, "study_against_plan", minute)
    one = {"network": "vit-64", "batch": 1, "rounds": 1}
    yield Case("vit-64, batch 1", TORCH, 8.0, "beside_pytorch", one)
