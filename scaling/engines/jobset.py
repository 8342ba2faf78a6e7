"""A plan as Kubernetes JobSets: a generated manifest that drives the same `scaling step`.

Kubernetes schedules, but has no dependencies between jobs: each job waits, by `scaling step`, for
nothing. So a JobSet is written for each level of needs, to be applied once the one before is
complete; steps whose needs are not done say so and their job is tried again, `backoffLimit` times.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.engines.jobs import Job, levels, make_jobs, pack
from scaling.processes.signals import INTERRUPTED, SAVED
from scaling.runs.plan import Plan
from scaling.runs.rundir import Status

LONGEST_NAME = 40  # Kubernetes adds to it, and allows 63
KILLED = (137, 140, 143)  # SIGKILL, SIGUSR2, SIGTERM


@dataclass(frozen=True)
class Pods:
    """The facts of a Kubernetes cluster."""

    image: str
    """Container image that has scaling in it."""
    claim: str
    """PersistentVolumeClaim with the studies' folder, which all pods see."""
    mount: str = "/studies"
    """Where it is mounted; the working directory of the pods."""
    devices_per_pod: int = 8
    """Accelerators of a pod."""
    resource: str = "nvidia.com/gpu"
    """What Kubernetes calls a device: "nvidia.com/gpu", "google.com/tpu"."""
    selector: tuple[tuple[str, str], ...] = ()
    """Labels of the nodes, such as ("cloud.google.com/gke-tpu-topology", "4x4")."""
    job_hours: float = 2.0
    """Short steps are packed into jobs of about this length."""
    retries: int = 6
    """Times that a failed job is tried again; one that has saved is always tried again."""
    grace_seconds: int = 120
    """Seconds between SIGTERM and SIGKILL, in which a run saves."""


def job_sets(
    study_dir: Path, plan: Plan, statuses: Mapping[str, Status], pods: Pods
) -> list[dict[str, Any]]:
    """A JobSet for each level of what is not done, to be applied one after the other."""
    left = [step.name for step in plan.steps if statuses[step.name] != "done"]
    jobs = pack(make_jobs(plan, left), pods.job_hours)
    depth = levels(jobs)
    manifests = []
    for level in sorted(set(depth.values())):
        tasks = [job for job in jobs if depth[job.name] == level]
        manifests.append(job_set(study_dir, level, tasks, pods))
    return manifests


def job_set(study_dir: Path, level: int, jobs: Sequence[Job], pods: Pods) -> dict[str, Any]:
    """One JobSet: jobs that may run at the same time."""
    name = plain(f"{study_dir.name}-level{level}")
    replicated = [
        {
            "name": f"job{number}",
            "replicas": 1,
            "template": {"spec": job_spec(study_dir, job, pods)},
        }
        for number, job in enumerate(jobs)
    ]
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": name, "labels": {"study": plain(study_dir.name)}},
        "spec": {
            "network": {"enableDNSHostnames": True},
            "failurePolicy": {"maxRestarts": 0},
            "replicatedJobs": replicated,
        },
    }


def job_spec(study_dir: Path, job: Job, pods: Pods) -> dict[str, Any]:
    """A job of as many pods as its devices need; jax finds the others by the index of its pod.

    A pod that has saved, or was killed, does not count as failed: it goes on where it was.
    """
    count = math.ceil(job.devices / pods.devices_per_pod)
    devices = str(min(job.devices, pods.devices_per_pod))
    command = ["scaling", "step", str(study_dir), *(step.name for step in job.steps)]
    container = {
        "name": "scaling",
        "image": pods.image,
        "workingDir": pods.mount,
        # A list, not a line of shell: nothing in a name is interpreted.
        "command": command,
        "resources": {"limits": {pods.resource: devices}},
        "volumeMounts": [{"name": "studies", "mountPath": pods.mount}],
    }
    template = {
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": pods.grace_seconds,
            "nodeSelector": dict(pods.selector),
            "containers": [container],
            "volumes": [{"name": "studies", "persistentVolumeClaim": {"claimName": pods.claim}}],
        }
    }
    again = {
        "action": "Ignore",
        "onExitCodes": {"operator": "In", "values": sorted((SAVED, INTERRUPTED, *KILLED))},
    }
    evicted = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
    return {
        "completionMode": "Indexed",
        "completions": count,
        "parallelism": count,
        "backoffLimit": pods.retries,
        "podFailurePolicy": {"rules": [evicted, again]},
        "template": template,
    }


def plain(name: str) -> str:
    """A name as Kubernetes allows it: lower-case letters, digits and "-"."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:LONGEST_NAME].rstrip("-")


def as_yaml(manifests: Sequence[Mapping[str, Any]]) -> str:
    """Manifests as one YAML text. JSON is YAML, so no name needs quoting rules of its own."""
    return "".join(f"---\n{json.dumps(manifest, indent=2)}\n" for manifest in manifests)
