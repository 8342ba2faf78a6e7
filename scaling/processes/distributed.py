"""Several processes as one program: how they find each other, agree, and stop together.

Every host runs the same command. `connect` finds out who belongs together; process 0 alone writes
files (Orbax's checkpoints apart, of which each process writes its shards). SIGTERM, SIGUSR2, SIGHUP
or Ctrl-C, sent to any process before its node is taken away, makes all of them save the same step
and raise `Stopped`: the job is to be queued again.
"""

import itertools
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

from scaling.processes import signals
from scaling.processes.jax_internals import coordination_client, processes_are_detected
from scaling.processes.parallel import cores
from scaling.processes.signals import SAVED as SAVED
from scaling.processes.signals import Stopped

Value = TypeVar("Value")

PORT = "8476"
# Seconds: process 0 may prepare data for long, and one that is alone may be suspended.
PATIENCE = 30 * 24 * 3600

_turns, _safe_points = itertools.count(), itertools.count()


def connect(devices: int = 1) -> None:
    """Start `jax.distributed`, for several processes and for one. The second call does nothing.

    On CPUs a process that is alone gets `devices` devices, at most one per core, unless the
    environment says how many.

    Raises ValueError when the environment names other processes but not how to reach them.
    """
    signals.listen()
    import jax

    if jax.distributed.is_initialized():
        return
    processes = find_processes(os.environ)
    alone = processes.get("num_processes") == 1
    flags = os.environ.get("XLA_FLAGS", "")
    counted = "JAX_NUM_CPU_DEVICES" in os.environ or "device_count" in flags
    if alone and not counted:
        jax.config.update("jax_num_cpu_devices", min(devices, cores()))
    jax.distributed.initialize(**processes)
    # jax has replaced the handler of SIGTERM, by one that tells every process. One that is alone
    # needs none of that; of several, each hands its other signals to it.
    if jax.process_count() == 1:
        signals.listen()
        signals.save_before_leaving()
    else:
        signals.save_before_leaving(lambda: os.kill(os.getpid(), signal.SIGTERM))


def find_processes(environment: Mapping[str, str]) -> dict[str, Any]:
    """Arguments of `jax.distributed.initialize`, from the first that fits: explicit addresses,
    SkyPilot, SLURM's srun, what jax detects by itself (TPU pods, GKE and Kubernetes jobs, Open
    MPI), or this process alone.

    Raises ValueError when only a part of what is needed is there.
    """
    explicit = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    given = [name for name in explicit if name in environment]
    if given and len(given) < len(explicit):
        missing = ", ".join(name for name in explicit if name not in given)
        raise ValueError(
            f"{', '.join(given)} is set but not {missing}; set all of {', '.join(explicit)} on "
            "every host, or none"
        )
    if given:
        address, count, place = (environment[name] for name in explicit)
        processes = number("JAX_NUM_PROCESSES", count)
        return addressed(address, processes, number("JAX_PROCESS_ID", place))
    if "SKYPILOT_NODE_IPS" in environment:
        hosts = environment["SKYPILOT_NODE_IPS"].split()
        address = f"{hosts[0]}:{environment.get('JAX_COORDINATOR_PORT', PORT)}"
        rank = number("SKYPILOT_NODE_RANK", environment.get("SKYPILOT_NODE_RANK", ""))
        return addressed(address, len(hosts), rank)
    if "SLURM_JOB_ID" in environment:
        return slurm(environment)
    return {} if processes_are_detected() else alone_here()


def slurm(environment: Mapping[str, str]) -> dict[str, Any]:
    """Within srun one process per device or one per node; a batch script or an interactive shell of
    one task is alone.
    """
    tasks = int(environment.get("SLURM_NTASKS", "1"))
    if "SLURM_STEP_NODELIST" not in environment:
        if tasks > 1:
            raise ValueError(
                f"SLURM job {environment['SLURM_JOB_ID']} has {tasks} tasks, but this process was "
                "not started by srun; put `srun` before the command, so that every task runs it"
            )
        return alone_here()
    step_tasks = int(environment.get("SLURM_STEP_NUM_TASKS", tasks))
    if step_tasks == 1:
        return alone_here()
    # jax's own detection takes one device per process, the one of its number on the node.
    one_per_node = step_tasks == int(environment.get("SLURM_STEP_NUM_NODES", "1"))
    visible = environment.get("CUDA_VISIBLE_DEVICES", "")
    if one_per_node and visible:
        return {"local_device_ids": list(range(len(visible.split(","))))}
    return {}


def addressed(address: str, processes: int, place: int) -> dict[str, Any]:
    """Arguments for processes that know where to meet."""
    return {
        "coordinator_address": address,
        "num_processes": processes,
        "process_id": place,
        "cluster_detection_method": "deactivate",
    }


def alone_here() -> dict[str, Any]:
    """Arguments for one process, on a free port of this machine. One that was suspended (a laptop
    asleep, `scontrol suspend`, Ctrl-Z) goes on when woken: without a word from itself for 100
    seconds jax would end it.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    return {
        **addressed(address, 1, 0),
        "coordinator_bind_address": address,
        "heartbeat_timeout_seconds": PATIENCE,
    }


def number(name: str, text: str) -> int:
    """The number in an environment variable. Raises ValueError naming it."""
    if not text.isdecimal():
        raise ValueError(f"{name} is {text!r}; expected a number")
    return int(text)


def is_main() -> bool:
    """Whether this is process 0, the only one that writes files."""
    import jax

    return jax.process_index() == 0


def agreed(decide: Callable[[], Value]) -> Value:
    """What `decide()` gives on process 0 (a JSON value), on every process: they meet here. Its
    failure fails all of them, its being told to stop stops all of them.
    """
    import jax

    if jax.process_count() == 1:
        return decide()
    client = coordination_client()
    key = f"agreed/{next(_turns)}"
    if is_main():
        try:
            value = decide()
        except Stopped as stopped:
            client.key_value_set(key, json.dumps({"stopped": [str(stopped), stopped.code]}))
            raise
        except Exception as error:
            client.key_value_set(key, json.dumps({"error": str(error)}))
            raise
        client.key_value_set(key, json.dumps({"value": value}))
        return value
    answer = json.loads(client.blocking_key_value_get(key, 1000 * PATIENCE))
    if "stopped" in answer:
        raise Stopped(*answer["stopped"])
    if "error" in answer:
        raise RuntimeError(f"process 0 failed: {answer['error']}")
    return answer["value"]


def meet() -> None:
    """Wait for all processes. Compiling, which takes some longer than others, belongs before it,
    and collectives behind it: those wait for each other half a minute only.
    """
    agreed(lambda: None)


def stopping() -> bool:
    """Whether to save and stop here, the same on every process if each calls this equally often:
    about a microsecond.
    """
    import jax

    if not jax.distributed.is_initialized() or jax.process_count() == 1:
        return signals.state.stop.is_set()
    from jax.experimental import multihost_utils

    return multihost_utils.reached_preemption_sync_point(next(_safe_points))


def stop(where: str) -> NoReturn:
    """Raise `Stopped`, everything being saved; `where` says how far it came."""
    raise Stopped(where, signals.state.code)


def end_together(code: int) -> NoReturn:
    """End all processes at the same moment: srun kills those that are left after the first exits
    with anything but 0.
    """
    import jax

    jax.distributed.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
