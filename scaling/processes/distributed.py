"""Several processes as one program: how they find each other, agree, and stop together when told to.

Every host runs the same command. `connect` finds out who belongs together; process 0 alone writes files (Orbax's checkpoints
apart, of which each process writes its shards). SIGTERM and SIGUSR2, sent to any process before its node is taken away,
make all of them save the same step and exit with code `SAVED`: the job is to be queued again.
"""

import itertools
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

from scaling.processes.parallel import cores

Value = TypeVar("Value")

SAVED = 85  # exit code: everything is saved, run the same command again
PORT = "8476"
PATIENCE = (
    30 * 24 * 3600
)  # seconds: process 0 may prepare data for long, and one that is alone may be suspended

_turns, _safe_points = itertools.count(), itertools.count()


def connect(devices: int = 1) -> None:
    """Start `jax.distributed`, also for one process: without it SIGTERM kills a run unsaved. The second call does nothing.

    On CPUs a process that is alone gets `devices` devices, at most one per core, unless the environment says how many.

    Raises ValueError when the environment names other processes but not how to reach them.
    """
    # Until jax listens there is nothing to save.
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, lambda *_: sys.exit(SAVED))
    import jax

    if jax.distributed.is_initialized():
        return
    processes = find_processes(os.environ)
    told = "JAX_NUM_CPU_DEVICES" in os.environ or "device_count" in os.environ.get("XLA_FLAGS", "")
    if processes.get("num_processes") == 1 and not told:
        jax.config.update("jax_num_cpu_devices", min(devices, cores()))
    jax.distributed.initialize(**processes)
    # jax has replaced the handler of SIGTERM, and only of that: it tells every process.
    signal.signal(signal.SIGUSR2, lambda *_: os.kill(os.getpid(), signal.SIGTERM))


def find_processes(environment: Mapping[str, str]) -> dict[str, Any]:
    """Arguments of `jax.distributed.initialize`, from the first that fits: explicit addresses, SkyPilot, SLURM's srun, what jax
    detects by itself (TPU pods, GKE and Kubernetes jobs, Open MPI), or this process alone.

    Raises ValueError when only a part of what is needed is there.
    """
    explicit = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    given = [name for name in explicit if name in environment]
    if given and len(given) < len(explicit):
        missing = ", ".join(name for name in explicit if name not in given)
        raise ValueError(
            f"{', '.join(given)} is set but not {missing}; set all of {', '.join(explicit)} on every host, or none"
        )
    if given:
        address, count, place = (environment[name] for name in explicit)
        return addressed(
            address, number("JAX_NUM_PROCESSES", count), number("JAX_PROCESS_ID", place)
        )
    if "SKYPILOT_NODE_IPS" in environment:
        hosts = environment["SKYPILOT_NODE_IPS"].split()
        address = f"{hosts[0]}:{environment.get('JAX_COORDINATOR_PORT', PORT)}"
        return addressed(
            address,
            len(hosts),
            number("SKYPILOT_NODE_RANK", environment.get("SKYPILOT_NODE_RANK", "")),
        )
    if "SLURM_JOB_ID" in environment:
        return slurm(environment)
    from jax._src.clusters import ClusterEnv

    if any(
        not kind.opt_in_only_method and kind.is_env_present() for kind in ClusterEnv._cluster_types
    ):
        return {}
    return alone()


def slurm(environment: Mapping[str, str]) -> dict[str, Any]:
    """Within srun one process per device or one per node; a batch script or an interactive shell of one task is alone."""
    tasks = int(environment.get("SLURM_NTASKS", "1"))
    if "SLURM_STEP_NODELIST" not in environment:
        if tasks > 1:
            raise ValueError(
                f"SLURM job {environment['SLURM_JOB_ID']} has {tasks} tasks, but this process was not started by srun; "
                "put `srun` before the command, so that every task runs it"
            )
        return alone()
    if int(environment.get("SLURM_STEP_NUM_TASKS", tasks)) == 1:
        return alone()
    # jax's own detection takes one device per process, the one of its number on the node.
    nodes = int(environment.get("SLURM_STEP_NUM_NODES", "1"))
    own_node = int(environment.get("SLURM_STEP_NUM_TASKS", tasks)) == nodes
    visible = environment.get("CUDA_VISIBLE_DEVICES", "")
    return (
        {"local_device_ids": list(range(len(visible.split(","))))} if own_node and visible else {}
    )


def addressed(address: str, processes: int, place: int) -> dict[str, Any]:
    """Arguments for processes that know where to meet."""
    return {
        "coordinator_address": address,
        "num_processes": processes,
        "process_id": place,
        "cluster_detection_method": "deactivate",
    }


def alone() -> dict[str, Any]:
    """Arguments for one process, on a free port of this machine. One that was suspended (a laptop asleep, `scontrol suspend`, Ctrl-Z)
    goes on when woken: without a word from itself for 100 seconds jax would end it.
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
    """What `decide()` gives on process 0 (a JSON value), on every process: they meet here. Its failure fails all of them."""
    import jax
    from jax._src import distributed

    if jax.process_count() == 1:
        return decide()
    client: Any = distributed.global_state.client
    key = f"agreed/{next(_turns)}"
    if is_main():
        try:
            value = decide()
        except Exception as error:
            client.key_value_set(key, json.dumps({"error": str(error)}))
            raise
        client.key_value_set(key, json.dumps({"value": value}))
        return value
    answer = json.loads(client.blocking_key_value_get(key, 1000 * PATIENCE))
    if "error" in answer:
        raise RuntimeError(f"process 0 failed: {answer['error']}")
    return answer["value"]


def meet() -> None:
    """Wait for all processes. Compiling, which takes some longer than others, belongs before it, and collectives behind it: those
    wait for each other half a minute only."""
    agreed(lambda: None)


def stopping() -> bool:
    """Whether to save and leave here, the same on every process if each calls this equally often: about a microsecond."""
    from jax._src import distributed
    from jax.experimental import multihost_utils

    if distributed.global_state.preemption_sync_manager is None:
        return False
    return multihost_utils.reached_preemption_sync_point(next(_safe_points))


def leave(what: str) -> NoReturn:
    """End this process, everything saved."""
    if is_main():
        print(
            f"told to stop; {what}; the same command goes on from here", file=sys.stderr, flush=True
        )
    sys.exit(SAVED)


def part(code: int) -> NoReturn:
    """End all processes at the same moment: srun kills those that are left after the first exits with anything but 0."""
    import jax

    jax.distributed.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
