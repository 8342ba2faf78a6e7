"""A plan as jobs for a scheduler: which steps go together, what each job needs, and the facts of a cluster they run on."""

import math
import tomllib
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as config

from scaling.costs.flops import ACCELERATORS, hours
from scaling.runs.experiment import explain
from scaling.runs.plan import Plan, Step, TransferStep
from scaling.study.strict import STRICT

# Beyond the estimate of a job's hours: it may be half as fast as expected, and starting, compiling and reading take a while.
SLOWER, START_HOURS = 2.0, 0.25


@config(frozen=True, config=STRICT)
class Cluster:
    """The facts of a SLURM cluster, read from a TOML file.

    `gres` is what SLURM calls a device ("gpu:a100"; "" on CPU nodes); `command` starts scaling on a node, in a container if need be
    ("apptainer exec --nv scaling.sif scaling"; "" for the Python that submits); `setup` are shell lines before it, such as
    "module load cuda"; `memory_per_device_gb` is the host's, `device_memory_gb` a device's own (0: that of `execution.accelerator`);
    `options` are further options of sbatch. A job that needs longer than `max_hours` saves
    `grace_seconds` before its end and queues itself again.
    """

    devices_per_node: int
    gres: str = ""
    partition: str = ""
    account: str = ""
    cpus_per_device: int = 4
    memory_per_device_gb: int = 0
    device_memory_gb: float = 0
    max_hours: float = 24.0
    grace_seconds: int = 120
    command: str = ""
    setup: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field in ("devices_per_node", "cpus_per_device", "grace_seconds", "max_hours"):
            if getattr(self, field) <= 0:
                raise ValueError(f"{field} is {getattr(self, field)}; expected more than 0")


@dataclass(frozen=True)
class Job:
    """Steps that run one after the other on `devices`; `needs` are names of jobs; `hours` is generous."""

    name: str
    steps: tuple[Step, ...]
    needs: tuple[str, ...]
    devices: int
    hours: float


def load_cluster(file: Path) -> Cluster:
    """Read cluster facts. Raises ValueError naming file and field, and FileNotFoundError."""
    try:
        return TypeAdapter(Cluster).validate_python(tomllib.loads(file.read_text()))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file} is not valid TOML: {error}") from error
    except ValidationError as error:
        raise ValueError(f"{file}: {explain(error)}; experiments/clusters/ has examples") from error


def make_jobs(plan: Plan) -> list[Job]:
    """Group a plan's steps: data; every stretch of pretraining by itself; all tasks of one checkpoint or control; table and report."""
    accelerator = plan.study.execution.accelerator
    groups: dict[str, list[Step]] = {}
    for step in plan.steps:
        groups.setdefault(group(step), []).append(step)
    place = {step.name: name for name, steps in groups.items() for step in steps}
    jobs = []
    for name, steps in groups.items():
        needs = dict.fromkeys(
            place[need] for step in steps for need in step.needs if place[need] != name
        )
        devices = math.prod(steps[0].mesh)
        expected = sum(hours(step.flops, accelerator) for step in steps) / devices
        jobs.append(Job(name, tuple(steps), tuple(needs), devices, SLOWER * expected + START_HOURS))
    return jobs


def does_not_fit(plan: Plan, device_memory_gb: float = 0) -> str:
    """One sentence on the step that takes the most memory if a device has less; else nothing. 0: as much as the named accelerator has."""
    accelerator = plan.study.execution.accelerator
    room = device_memory_gb * 1e9 or ACCELERATORS[accelerator].memory
    largest = max(plan.steps, key=lambda step: step.memory)
    if largest.memory <= room:
        return ""
    return (
        f"{largest.name} does not fit: it needs {largest.memory / 1e9:.1f} GB on each of {math.prod(largest.mesh)} devices, "
        f"and {'a device of this cluster' if device_memory_gb else accelerator} has {room / 1e9:.0f} GB; "
        "use more devices in execution.mesh, execution.accumulate, pretrain.remat or a smaller batch"
    )


def group(step: Step) -> str:
    """The name of the job a step belongs to."""
    match step.kind:
        case "phantom" | "prepare":
            return "prepare"
        case "collect" | "report":
            return "report"
        case "transfer":
            assert isinstance(step.config, TransferStep)
            return step.name.removesuffix(f"-{step.config.task.name}")
        case _:
            return step.name
