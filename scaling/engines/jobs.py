"""A plan as jobs for a scheduler: which steps go together, what each job needs, and the facts of a
cluster they run on.
"""

import math
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as config

from scaling.costs.accelerators import ACCELERATORS
from scaling.runs.durations import longest_part, plan_seconds
from scaling.runs.experiment import explain
from scaling.runs.plan import Plan
from scaling.runs.steps import Step, TransferStep
from scaling.study.strict import STRICT

# Beyond the estimate of a job's hours: it may be half as fast as expected, and starting, compiling
# and reading take a while.
SLOWER, START_HOURS = 2.0, 0.25
ALONE = ("prepare", "report")  # jobs that every other waits for, or that wait for every other


@config(frozen=True, config=STRICT)
class Cluster:
    """The facts of a SLURM cluster, read from a TOML file."""

    devices_per_node: int
    """Accelerators of a node; 1 on a cluster of CPU nodes."""
    gres: str = ""
    """What SLURM calls a device: "gpu:a100"; "" on CPU nodes."""
    partition: str = ""
    """Partition of the jobs; "" for the cluster's default."""
    account: str = ""
    """Account that pays; "" for the user's default."""
    cpus_per_device: int = 4
    """CPU cores a device."""
    memory_per_device_gb: int = 0
    """The host's memory a device, in GB; 0 for the cluster's default."""
    device_memory_gb: float = 0
    """A device's own memory, in GB; 0 for that of `execution.accelerator`."""
    max_hours: float = 24.0
    """Time limit of a job. One that needs longer saves before its end and queues itself again."""
    job_hours: float = 2.0
    """Short steps are packed into jobs of about this length by the plan's estimate; 0: not at all.
    """
    max_running: int = 0
    """Jobs of one array that may run at the same time; 0 for no limit."""
    max_array: int = 1000
    """Jobs of one array; SLURM's MaxArraySize is 1001 unless the cluster says otherwise."""
    max_restarts: int = 3
    """Restarts in a row, without a checkpoint or a finished step in between, after which a job
    stops.
    """
    grace_seconds: int = 120
    """Seconds before its time limit at which a job is told to save."""
    command: str = ""
    """What starts scaling on a node, in a container if need be: "apptainer exec --nv scaling.sif
    scaling"; "" for the Python that submits.
    """
    setup: tuple[str, ...] = ()
    """Shell lines before it, such as "module load cuda"."""
    options: tuple[str, ...] = ()
    """Further options of sbatch."""

    def __post_init__(self) -> None:
        positive = (
            "devices_per_node",
            "cpus_per_device",
            "grace_seconds",
            "max_hours",
            "max_array",
        )
        for field in positive:
            if getattr(self, field) <= 0:
                raise ValueError(f"{field} is {getattr(self, field)}; expected more than 0")
        for field in ("job_hours", "max_running", "max_restarts", "memory_per_device_gb"):
            if getattr(self, field) < 0:
                raise ValueError(f"{field} is {getattr(self, field)}; expected 0 or more")


@dataclass(frozen=True)
class Job:
    """Steps that run one after the other on `devices`; `needs` are names of jobs; `expected` hours
    by the plan's estimate.
    """

    name: str
    steps: tuple[Step, ...]
    needs: tuple[str, ...]
    devices: int
    expected: float

    @property
    def hours(self) -> float:
        """A generous time limit."""
        return SLOWER * self.expected + START_HOURS


def load_cluster(file: Path) -> Cluster:
    """Read cluster facts. Raises ValueError naming file and field, and FileNotFoundError."""
    try:
        return TypeAdapter(Cluster).validate_python(tomllib.loads(file.read_text()))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file} is not valid TOML: {error}") from error
    except ValidationError as error:
        raise ValueError(f"{file}: {explain(error)}; experiments/clusters/ has examples") from error


def make_jobs(plan: Plan, left: Collection[str] | None = None) -> list[Job]:
    """Group a plan's steps (or those `left` of them): data; every stretch of pretraining by itself;
    all tasks of one checkpoint or control; table and report.
    """
    seconds = plan_seconds(plan)
    groups: dict[str, list[Step]] = {}
    for step in plan.steps:
        if left is None or step.name in left:
            groups.setdefault(group(step), []).append(step)
    job_of = {step.name: name for name, steps in groups.items() for step in steps}
    jobs = []
    for name, steps in groups.items():
        needs: dict[str, None] = {}
        for step in steps:
            for need in step.needs:
                if need in job_of and job_of[need] != name:
                    needs[job_of[need]] = None
        devices = math.prod(steps[0].mesh)
        expected = sum(seconds[step.name] for step in steps) / 3600 / devices
        jobs.append(Job(name, tuple(steps), tuple(needs), devices, expected))
    return jobs


def group(step: Step) -> str:
    """The name of the job a step belongs to."""
    match step.kind:
        case "phantom" | "prepare":
            return "prepare"
        case "collect" | "report":
            return "report"
        case "transfer":
            assert isinstance(step.config, TransferStep)
            return step.name.rsplit(f"-{step.config.task.name}", 1)[0]
        case _:
            return step.name


def pack(jobs: Sequence[Job], target: float) -> list[Job]:
    """Merge short jobs into jobs of up to `target` expected hours, in an order that respects needs.

    First along chains: a job that needs one other joins it, so that no third has to wait for both.
    Then side by side: jobs of one level (none needs another) and of as many devices share a job.
    """
    return pack_levels(pack_chains(jobs, target), target)


def pack_chains(jobs: Sequence[Job], target: float) -> list[Job]:
    """Let each job that needs exactly one other run behind it, where both together are short."""
    merged: dict[str, list[Job]] = {}
    place: dict[str, str] = {}
    for job in jobs:
        needs = {place[need] for need in job.needs}
        only = needs.pop() if len(needs) == 1 else ""
        chain = merged.get(only, [])
        fits = sum(other.expected for other in chain) + job.expected <= target
        same = bool(chain) and chain[0].devices == job.devices
        if same and fits and only not in ALONE and job.name not in ALONE:
            chain.append(job)
            place[job.name] = only
        else:
            merged[job.name] = [job]
            place[job.name] = job.name
    return [merge(chain, place) for chain in merged.values()]


def pack_levels(jobs: Sequence[Job], target: float) -> list[Job]:
    """Let jobs of one level and of as many devices share a job while that is short."""
    depth = levels(jobs)
    bins: list[list[Job]] = []
    place: dict[str, str] = {}
    open_bins: dict[tuple[int, int], list[Job]] = {}
    for job in sorted(jobs, key=lambda job: depth[job.name]):
        key = (depth[job.name], job.devices)
        together = open_bins.get(key, [])
        hours = sum(other.expected for other in together) + job.expected
        if not together or hours > target or job.name in ALONE or together[0].name in ALONE:
            together = open_bins[key] = []
            bins.append(together)
        together.append(job)
        place[job.name] = together[0].name
    return [merge(together, place) for together in bins]


def merge(jobs: Sequence[Job], place: Mapping[str, str]) -> Job:
    """One job that runs `jobs` one after the other; `place` is what each job has become a part
    of.
    """
    first = jobs[0]
    needs = {place[need]: None for job in jobs for need in job.needs if place[need] != first.name}
    steps = tuple(step for job in jobs for step in job.steps)
    expected = sum(job.expected for job in jobs)
    return Job(first.name, steps, tuple(needs), first.devices, expected)


def levels(jobs: Sequence[Job]) -> dict[str, int]:
    """How many jobs have to run one after the other before each job. `jobs` are in order of
    needs.
    """
    depth: dict[str, int] = {}
    for job in jobs:
        depth[job.name] = max((depth[need] + 1 for need in job.needs), default=0)
    return depth


def does_not_fit(plan: Plan, device_memory_gb: float = 0) -> str:
    """One sentence on the step that takes the most memory if a device has less; else nothing. 0: as
    much as the named accelerator has.
    """
    accelerator = plan.study.execution.accelerator
    room = device_memory_gb * 1e9 or ACCELERATORS[accelerator].usable
    largest = max(plan.steps, key=lambda step: step.memory)
    if largest.memory <= room:
        return ""
    help_with = {
        "transfer": "set transfer.finetune.dtype=bfloat16, a transfer.finetune.window, smaller "
        "transfer.finetune.batch or data.volumes.shape, or leave out this size"
    }
    remedy = help_with.get(
        largest.kind,
        "use more devices in execution.mesh, execution.accumulate, pretrain.remat or a smaller "
        "batch",
    )
    device = "a device of this cluster" if device_memory_gb else accelerator
    return (
        f"{largest.name} does not fit: it needs {largest.memory / 1e9:.1f} GB on each of "
        f"{math.prod(largest.mesh)} devices, and {device} has {room / 1e9:.0f} GB for "
        f"programs; {remedy}"
    )


def takes_too_long(steps: Sequence[Step], accelerator: str, max_hours: float) -> str:
    """One sentence on the step whose longest part takes longer than a job may run, since it would
    begin that again and again; else nothing.
    """
    hours = {step.name: longest_part(step, accelerator) / 3600 for step in steps}
    name = max(hours, key=lambda name: hours[name], default="")
    if not name or hours[name] <= max_hours:
        return ""
    return (
        f"{name} cannot be run in jobs of {max_hours:g} hours (max_hours): its longest part, which "
        f"is saved only once it is whole, takes {hours[name]:.0f} hours on one {accelerator} by "
        "the plan's estimate; set dtype=bfloat16, fewer steps or draws, or a window in "
        "transfer.finetune and transfer.supervised, or leave out this size"
    )
