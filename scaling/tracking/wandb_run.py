"""A Weights & Biases run that is never a reason for training to wait long or to fail.

Everything is written to the study's `wandb` folder first; a server that is away costs a process at
most 30 seconds in all, and `scaling sync` uploads what it missed. The key is wandb's own business:
it is read from the environment or from the user's netrc file, by wandb alone, and written nowhere.
"""

import hashlib
import json
import netrc
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast
from urllib.parse import urlparse

import wandb
from rich.console import Console

from scaling.study.config import Execution

Mode = Literal["online", "offline", "disabled", "shared"]
T = TypeVar("T")

# Seconds. A call to a healthy server takes one or two; what all calls of a process take beyond that
# comes out of its patience.
USUAL, LONGEST, PATIENCE = 2.0, 8.0, 10.0


@dataclass
class Patience:
    """What this process may still lose to a server that is slow or away. After the first call that
    fails nothing is left.
    """

    left: float = PATIENCE

    def spend(self, act: Callable[[], T]) -> T:
        """The result of `act`, or its error, or TimeoutError after the longest time a call may
        take.
        """
        future: Future[T] = Future()

        def work() -> None:
            try:
                future.set_result(act())
            except Exception as error:  # passed on to whoever waits
                future.set_exception(error)

        began = time.monotonic()
        threading.Thread(target=work, daemon=True).start()
        try:
            result = future.result(timeout=LONGEST)
        except Exception:
            self.left = 0.0
            raise
        self.left -= max(0.0, time.monotonic() - began - USUAL)
        return result


PROCESS = Patience()


class WandbRun:
    """An open run. `tell` hands it something; from the first failure on it hears nothing more, and
    training goes on.
    """

    def __init__(self, run: Any, patience: Patience = PROCESS):
        self.run, self.patience, self.deaf = run, patience, False

    def tell(self, act: Callable[[Any], object]) -> None:
        if not self.deaf:
            try:
                self.patience.spend(lambda: act(self.run))
            except Exception as error:  # whatever W&B does, training goes on
                self.deaf = True
                warn(error)

    def finish(self, exit_code: int) -> None:
        try:
            self.patience.spend(lambda: self.run.finish(exit_code=exit_code))
        except Exception as error:  # whatever W&B does, training goes on
            warn(error)


def warn(error: Exception) -> None:
    """Say once why a run is not mirrored."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    Console(stderr=True).print(
        f"W&B cannot be reached ({reason}); training goes on and logs to disk, `scaling sync "
        "STUDY_FOLDER` uploads it later",
        markup=False,
    )


def run_id(study: str, name: str, config: dict[str, Any]) -> str:
    """The id of a step's run: the same for the same config, however often it is resumed."""
    return hashlib.sha256(json.dumps([study, name, config], sort_keys=True).encode()).hexdigest()[
        :12
    ]


def wandb_mode(execution: Execution) -> Mode:
    """Online where a key is at hand, else offline; WANDB_MODE and an explicit setting win, but
    nobody is ever asked for a key.
    """
    wanted = (
        execution.wandb if execution.wandb != "auto" else os.environ.get("WANDB_MODE") or "online"
    )
    return "offline" if wanted == "online" and not has_key() else cast(Mode, wanted)


def has_key() -> bool:
    """Whether wandb will find credentials for its server without asking."""
    tokens = ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")
    return any(os.environ.get(name) for name in tokens) or netrc_has_key(wandb.Settings().base_url)


def netrc_has_key(url: str) -> bool:
    """Whether `wandb login` has left a key for this server in the user's netrc file."""
    try:
        return (
            netrc.netrc(os.environ.get("NETRC")).authenticators(urlparse(url).hostname or "")
            is not None
        )
    except (FileNotFoundError, netrc.NetrcParseError):
        return False


def open_wandb(
    folder: Path, execution: Execution, patience: Patience = PROCESS, **identity: Any
) -> WandbRun | None:
    """The W&B run with this `identity` (project, id, name, group, ...) in `folder`/wandb; offline
    if the server cannot be had, None when W&B is disabled or cannot even be started.
    """
    mode = wandb_mode(execution)
    if mode == "disabled":
        return None
    os.environ.setdefault("WANDB_SILENT", "true")
    settings = wandb.Settings(
        silent=True,
        console="off",
        disable_git=True,
        save_code=False,
        x_transaction_log_flush_interval=1,
        init_timeout=LONGEST - 1,
        finish_timeout=LONGEST - 2,
        finish_timeout_raises=True,
    )

    def start(mode: Mode) -> WandbRun:
        run = patience.spend(
            lambda: wandb.init(
                entity=execution.wandb_entity or None,
                mode=mode,
                dir=folder,
                settings=settings,
                **identity,
            )
        )
        for axis in ("train/samples", "train/flops"):
            run.define_metric(axis)
        run.define_metric("train/*", step_metric="train/samples")
        return WandbRun(run, patience)

    if mode == "online" and patience.left > 0:
        try:
            return start("online")
        except Exception as error:  # whatever W&B does, training goes on
            warn(error)
            wandb.teardown()  # else the id counts as in use
    try:
        return start("offline")
    except Exception as error:  # whatever W&B does, training goes on
        warn(error)
        return None
