"""Where and how a study runs. Nothing here changes a result beyond rounding."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from scaling.study.objectives import Count
from scaling.study.strict import STRICT

Mesh = tuple[Count, Count, Count]  # replica, fsdp, tensor: see Execution


@dataclass(frozen=True, config=STRICT)
class Execution:
    """Where and how a study runs: no part of the identity of its results."""

    mesh: tuple[Count, Count] | Mesh | Count = (1, 1)
    """(replica, fsdp) or (replica, fsdp, tensor): copies of the parameters, devices that share a
    copy, devices that share a sample's attention heads and MLPs; or a number of devices, which
    the plan divides by the batch and the memory of `accelerator`."""
    accumulate: Count = 1
    """Parts of a batch that are computed one after the other."""
    resident_gib: float = 1.0
    """Training volumes up to this many GiB stay on every device, which cuts its crops itself; of
    more, the host reads the crops."""
    workers: int = 2
    """Processes that read scans."""
    checkpoint_every: int = 500
    """Steps between checkpoints."""
    log_every: int = 20
    """Steps between lines of metrics."""
    heldout_evaluations: Annotated[int, Field(ge=0)] = 8
    """Evaluations of the held-out loss along a run, evenly spaced, beside the one at its end."""
    profile: tuple[Annotated[int, Field(ge=0)], int] | None = None
    """First and last training step to trace into the folder `profile` of a pretraining run."""
    deterministic: bool = False
    """Equal bits of equal runs on GPUs too, where XLA's fastest kernels add in any order."""
    accelerator: Literal["cpu-2", "a100", "h100", "h200", "tpu-v5e"] = "cpu-2"
    """Device whose memory and speed the plan's estimates are for."""
    anonymous: bool = False
    """Subject ids and paths stay out of pages and of W&B; the tables of the study have them."""
    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"
    """Weights & Biases; "auto" follows the environment."""
    wandb_entity: str = ""
    """User or team to log under; "" is the account's default."""

    def __post_init__(self) -> None:
        if self.profile is not None and self.profile[1] < self.profile[0]:
            raise ValueError(
                f"execution.profile is {self.profile}; expected the first and the last step to "
                "trace"
            )
