"""How long the steps of a plan take, and what they leave on disk: estimates before anything runs,
and what was measured once steps are done.

The seconds beside the networks were measured on two cores of a server CPU.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import assert_never

from scaling.costs.accelerators import ACCELERATORS
from scaling.costs.flops import longest_part_flops
from scaling.costs.memory import FLOAT16, FLOAT32, trained_parameters
from scaling.costs.seconds import pretraining_step_seconds, transfer_network_seconds
from scaling.runs.plan import Plan
from scaling.runs.rundir import Status, attempts
from scaling.runs.steps import (
    CollectStep,
    PhantomStep,
    PrepareStep,
    PretrainStep,
    ReportStep,
    Step,
    TransferStep,
)
from scaling.study.phantom import Phantom

START = 6.0  # from the command to its first step: imports, most of it
COMPILING = {"cpu": 12.0, "gpu": 25.0, "tpu": 130.0}  # a program, by platform
PRETRAINING = 1.5  # restoring, evaluating and saving of a stretch of pretraining
TRANSFER, CLASSICAL, COLLECT = 1.0, 0.4, 0.3
REPORT, REPORT_TASK = 5.0, 6.0  # imports and page; bootstraps of a task
WRITING, READING = 0.07, 0.08  # a synthetic subject written, and its scans prepared


def plan_seconds(plan: Plan, spent: Mapping[str, float] | None = None) -> dict[str, float]:
    """Name of a step -> device-seconds. A step that is done takes what was `spent` on it, and what
    is left of its kind is scaled by what that is of its estimate.
    """
    spent = spent or {}
    estimates = estimated_seconds(plan)
    estimated: dict[str, float] = defaultdict(float)
    measured: dict[str, float] = defaultdict(float)
    for step in plan.steps:
        if step.name in spent:
            estimated[kind_of_work(step)] += estimates[step.name]
            measured[kind_of_work(step)] += spent[step.name]
    seconds = {}
    for step in plan.steps:
        kind = kind_of_work(step)
        if step.name in spent:
            seconds[step.name] = spent[step.name]
        elif estimated[kind] > 0:
            seconds[step.name] = estimates[step.name] * measured[kind] / estimated[kind]
        else:
            seconds[step.name] = estimates[step.name]
    return seconds


def kind_of_work(step: Step) -> str:
    """Steps that are as far from their estimates as each other."""
    return "pretraining" if isinstance(step.config, PretrainStep) else step.kind


def estimated_seconds(plan: Plan) -> dict[str, float]:
    """Name of a step -> device-seconds by estimate. The first step of a shape compiles its programs
    for all others.
    """
    accelerator = plan.study.execution.accelerator
    platform = ACCELERATORS[accelerator].platform
    compiled: set[Hashable] = set()
    seconds = {}
    for step in plan.steps:
        total = network_seconds_of(step, accelerator)
        beside = seconds_beside(step, plan)
        program = program_of(step)
        if program is not None and program not in compiled:
            compiled.add(program)
            beside += COMPILING[platform]
        # All devices of a mesh wait; those of a CPU are its cores.
        devices = 1 if platform == "cpu" else math.prod(step.mesh)
        seconds[step.name] = total + devices * beside
    return seconds


def network_seconds_of(step: Step, accelerator: str) -> float:
    """Device-seconds of a step's networks."""
    config = step.config
    if isinstance(config, PretrainStep):
        each = pretraining_step_seconds(
            config.objective, config.encoder, config.decoder, config.pretrain, accelerator
        )
        return step.steps * each
    if isinstance(config, TransferStep) and config.encoder is not None:
        volume = (config.task.volumes or config.data.volumes).shape
        return transfer_network_seconds(
            step.flops, config.encoder, config.transfer.finetune, volume, accelerator
        )
    return 0.0


def longest_part(step: Step, accelerator: str) -> float:
    """Device-seconds of the longest part of a transfer, which is lost when a job ends in the middle
    of it; 0 for steps that save at any moment.
    """
    config = step.config
    if not isinstance(config, TransferStep) or config.encoder is None or not step.flops:
        return 0.0
    volume = (config.task.volumes or config.data.volumes).shape
    untrained = config.arm == "scratch"
    flops = longest_part_flops(config.task, config.transfer, config.encoder, volume, untrained)
    return network_seconds_of(step, accelerator) * flops / step.flops


def seconds_beside(step: Step, plan: Plan) -> float:
    """Seconds of a step beside its networks and their compilation."""
    match step.config:
        case PhantomStep() as config:
            return WRITING * subjects(config.phantom)
        case PrepareStep() as config:
            # How many scans a user's own data has is not known before they are read.
            reading = READING * subjects(config.data.phantom) if config.data.phantom else 0.0
            return START + reading / plan.study.execution.workers
        case PretrainStep():
            return PRETRAINING
        case TransferStep() as config:
            return CLASSICAL if config.encoder is None else TRANSFER
        case CollectStep():
            return COLLECT
        case ReportStep():
            return REPORT + REPORT_TASK * len(plan.study.tasks)
        case _:
            assert_never(step.config)


def subjects(phantom: Phantom) -> int:
    """Subjects of a synthetic cohort of three tasks."""
    count = phantom.pretraining_subjects
    sites = 1 + len(phantom.test_scanners)
    for cohort in (phantom.infarct, phantom.meningioma, phantom.brain_age):
        count += cohort.train + sites * cohort.test
    return count


def program_of(step: Step) -> Hashable | None:
    """What steps that run the same compiled programs have in common; None without a network."""
    config = step.config
    if isinstance(config, PretrainStep):
        return (config.objective, config.encoder, config.decoder, config.pretrain, step.mesh)
    if isinstance(config, TransferStep) and config.encoder is not None:
        task = config.task
        volume = (task.volumes or config.data.volumes).shape
        # The controls that learn from every case run a program more, of the same shape.
        return (config.encoder, task.kind, task.sequences, task.shots, volume, config.transfer)
    return None


def seconds_measured(
    study_dir: Path, plan: Plan, statuses: Mapping[str, Status]
) -> dict[str, float]:
    """Name of a finished step -> device-seconds of all its attempts."""
    on_cpu = ACCELERATORS[plan.study.execution.accelerator].platform == "cpu"
    measured = {}
    for step in plan.steps:
        if statuses[step.name] != "done":
            continue
        total = 0.0
        for attempt in attempts(study_dir / step.name):
            devices = 1 if on_cpu else attempt["devices"]
            total += attempt["seconds"] * devices
        if total > 0:
            measured[step.name] = total
    return measured


def scan_bytes(plan: Plan) -> int:
    """Bytes of one prepared scan on the grid of pretraining: float16."""
    return FLOAT16 * math.prod(plan.study.data.volumes.shape)


def cache_bytes(plan: Plan) -> float:
    """Bytes of the prepared volumes of a synthetic cohort; 0 for a study of real scans, whose
    number is not known before they are read.
    """
    phantom = plan.study.data.phantom
    if phantom is None:
        return 0.0
    unlabelled = phantom.pretraining_subjects
    scans = unlabelled * len(phantom.sequences) * (1 - phantom.missing)
    total = scans * scan_bytes(plan)
    # The tasks' subjects shared out evenly: estimates of disk need no better.
    per_task = (subjects(phantom) - unlabelled) / max(1, len(plan.study.tasks))
    for task in plan.study.tasks:
        shape = (task.volumes or plan.study.data.volumes).shape
        total += per_task * len(task.sequences) * FLOAT16 * math.prod(shape)
    return total


def checkpoint_bytes(plan: Plan) -> float:
    """Bytes of the checkpoints that a finished study keeps, one a stretch of pretraining:
    parameters, two moments and running means in float32.
    """
    total = 0.0
    for step in plan.steps:
        config = step.config
        if isinstance(config, PretrainStep):
            trained, means = trained_parameters(config.objective, config.encoder, config.decoder, 1)
            total += FLOAT32 * (3 * trained + means)
    return total
