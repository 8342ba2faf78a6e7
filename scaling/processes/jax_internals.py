"""What this project uses of jax that jax does not promise to keep;
tests/processes/test_jax_internals.py says what breaks when it goes.
"""

from typing import Any


def coordination_client() -> Any:
    """The client of jax's coordination service, a key-value store that all processes reach.

    jax has no public one. Its collectives (`multihost_utils`) give up after half a minute, while
    one process may prepare data for hours.
    """
    from jax._src import distributed

    return distributed.global_state.client


def processes_are_detected() -> bool:
    """Whether jax finds the other processes by itself: TPU pods, GKE and Kubernetes jobs, Open MPI.

    `jax.distributed.initialize()` detects as well, but raises where there is nothing to detect.
    """
    from jax._src.clusters import ClusterEnv

    kinds = [kind for kind in ClusterEnv._cluster_types if not kind.opt_in_only_method]
    return any(kind.is_env_present() for kind in kinds)
