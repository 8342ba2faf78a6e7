"""A study resolved into a plan: a list of steps in an order that respects their needs, every number
explicit.

    phantom -> prepare -> trunk ... trunk -> collect -> report
                            |         |
                         cooldown  cooldown -> transfer (one per task)

One trunk per (objective, family, size, fraction of the subjects, seed) is trained at a constant
rate, in segments that end where a cooldown branches off; each cooldown decays the rate to zero and
ends at one duration.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import assert_never

from scaling.costs.choose_mesh import choose_mesh
from scaling.costs.flops import pretraining_flops, transfer_flops
from scaling.costs.transfer_memory import transfer_memory
from scaling.runs.few_shot import FewShot, few_shot_tasks
from scaling.runs.steps import (
    Arm,
    CollectStep,
    Kind,
    PhantomStep,
    PrepareStep,
    PretrainStep,
    ReferenceStep,
    ReportStep,
    Step,
    TransferStep,
)
from scaling.study.config import Study
from scaling.study.families import Family
from scaling.study.ladder import Encoder, resolve_decoder, resolve_encoder
from scaling.study.objectives import ObjectiveConfig
from scaling.study.references import Weights


@dataclass(frozen=True)
class Plan:
    """The steps of a study, and the FLOPs that training every duration on its own would take beyond
    the shared trunks.
    """

    study: Study
    steps: tuple[Step, ...]
    flops_saved: float

    @cached_property
    def step_of(self) -> dict[str, Step]:
        """Name -> step."""
        return {step.name: step for step in self.steps}


def make_plan(study: Study) -> Plan:
    """Resolve a study. Raises ValueError naming the field for a size that is not on the ladder."""
    steps: list[Step] = []
    if study.data.phantom:
        cohort = PhantomStep(study.data.root, study.data.phantom)
        steps.append(Step("phantom", "phantom", cohort, ()))
    before = tuple(step.name for step in steps)
    steps.append(Step("prepare", "prepare", PrepareStep(study.data, study.tasks), before))

    saved = 0.0
    tasks = few_shot_tasks(study)
    # Competitors first: what does not fit is told before anything is trained.
    transfers = reference_steps(study, tasks)
    steps += transfers
    names = [step.name for step in transfers]
    transfers = []
    for seed in study.seeds:
        for family in study.families:
            for rung in family.sizes or study.sizes:
                pretraining, tried, unshared = steps_of_size(study, tasks, family, rung, seed)
                steps += pretraining
                transfers += tried
                saved += unshared
    for task in tasks:
        if task.recipes.classical:
            transfers.append(
                transfer_step(study, "classical", "none", "", "", None, 0.0, 0, 0, task)
            )

    steps += transfers
    names += [step.name for step in transfers]
    groups = tuple((task.name, task.groups) for task in study.tasks if task.groups)
    steps.append(Step("collect", "collect", CollectStep(groups), tuple(names)))
    verdicts = ReportStep(study.estimand, study.smallest_effects)
    steps.append(Step("report", "report", verdicts, ("collect",)))
    return Plan(study, tuple(steps), saved)


def steps_of_size(
    study: Study, tasks: Sequence[FewShot], family: Family, rung: str, seed: int
) -> tuple[list[Step], list[Step], float]:
    """The pretraining and the transfer steps of one size of a family for one seed, and the FLOPs
    that sharing trunks saves.
    """
    encoder = resolve_encoder(family, rung, study.pretrain.parametrisation)
    size = size_name(family, rung)
    pretraining: list[Step] = []
    transfers: list[Step] = []
    saved = 0.0
    for objective, fraction in product(study.objectives, study.fractions):
        runs, unshared = pretraining_steps(study, objective, family, size, encoder, fraction, seed)
        pretraining += runs
        saved += unshared - sum(run.flops for run in runs)
        ends = [
            run.config.end
            for run in runs
            if isinstance(run.config, PretrainStep) and run.kind == "cooldown"
        ]
        for end, task in product(ends, tasks):
            transfers.append(
                transfer_step(
                    study,
                    "pretrained",
                    objective.label,
                    family.label,
                    size,
                    encoder,
                    fraction,
                    end,
                    seed,
                    task,
                )
            )
    for task in tasks:
        transfers.append(
            transfer_step(study, "scratch", "none", family.label, size, encoder, 0.0, 0, seed, task)
        )
    return pretraining, transfers, saved


def reference_steps(study: Study, tasks: Sequence[FewShot]) -> list[Step]:
    """Every competitor on every task that it answers."""
    steps = []
    for reference, task in product(study.references, tasks):
        if not reference.answers(task.task):
            continue
        encoder = reference.encoder if isinstance(reference, Weights) else None
        name, samples = reference.name, reference.samples
        step = transfer_step(study, "reference", "none", "", name, encoder, 0.0, samples, 0, task)
        assert isinstance(step.config, TransferStep)
        fields = {
            field.name: getattr(step.config, field.name)
            for field in dataclasses.fields(step.config)
        }
        resolved = ReferenceStep(**fields, reference=reference)
        parameters = reference.parameters or step.parameters
        steps.append(dataclasses.replace(step, config=resolved, parameters=parameters))
    return steps


def size_name(family: Family, rung: str) -> str:
    """What a rung is called in runs and tables: plainly for a ViT, with its family for any
    other.
    """
    return rung if family.label == "vit" else f"{family.label}-{rung}"


def trunk_name(objective: str, size: str, fraction: float, seed: int) -> str:
    """Name of what all durations of one (objective, size, fraction, seed) share."""
    share = "" if fraction == 1 else f"-data{fraction:g}"
    return f"{objective}-{size}{share}-seed{seed}"


def run_name(trunk: str, duration: int) -> str:
    """Name of a pretraining run that ends at one duration; also the folder of its cooldown."""
    return f"pretrain/{trunk}-{duration}"


def pretraining_steps(
    study: Study,
    objective: ObjectiveConfig,
    family: Family,
    size: str,
    encoder: Encoder,
    fraction: float,
    seed: int,
) -> tuple[list[Step], float]:
    """Trunk segments and cooldowns of one (objective, size, fraction, seed), and the FLOPs of the
    same durations trained apart.
    """
    decoder = resolve_decoder(family)
    pretrain = study.pretrain
    per_sample = pretraining_flops(objective, encoder, decoder, pretrain)
    mesh, memory = choose_mesh(objective, encoder, decoder, pretrain, study.execution)
    parameters = encoder.parameters

    def step(
        name: str, kind: Kind, start: int, end: int, decay_from: int | None, need: str
    ) -> Step:
        run = PretrainStep(
            objective,
            family.label,
            size,
            encoder,
            decoder,
            pretrain,
            study.data,
            seed,
            fraction,
            end,
            decay_from,
        )
        samples = end - start
        flops = float(per_sample * samples)
        count = samples // pretrain.batch
        return Step(name, kind, run, (need,), parameters, samples, count, flops, memory, mesh)

    steps: list[Step] = []
    shared = trunk_name(objective.label, size, fraction, seed)
    branch, trunk = 0, "prepare"
    for duration in sorted(study.durations):
        start, need = branch, trunk
        branch = duration - round(pretrain.decay_share * duration)
        trunk = f"pretrain/{shared}-trunk-{branch}"
        cooldown = run_name(shared, duration)
        steps.append(step(trunk, "trunk", start, branch, None, need))
        steps.append(step(cooldown, "cooldown", branch, duration, branch, trunk))
    return steps, float(per_sample * sum(study.durations))


def transfer_step(
    study: Study,
    arm: Arm,
    objective: str,
    backbone: str,
    size: str,
    encoder: Encoder | None,
    fraction: float,
    duration: int,
    seed: int,
    few_shot: FewShot,
) -> Step:
    """One arm on one task. A pretrained arm needs its cooldown, a control only the data."""
    trunk = trunk_name(objective, size, fraction, seed)
    match arm:
        case "pretrained":
            source, needs = f"{trunk}-{duration}", (run_name(trunk, duration),)
        case "scratch":
            source, needs = f"scratch-{size}-seed{seed}", ("prepare",)
        case "classical":
            source, needs = "classical", ("prepare",)
        case "reference":
            source, needs = f"reference-{size}", ("prepare",)
        case _:
            assert_never(arm)
    task, recipes = few_shot.task, few_shot.recipes
    name = f"transfer/{source}-{few_shot.folder}"
    resolved = TransferStep(
        arm,
        objective,
        backbone,
        size,
        encoder,
        fraction,
        duration,
        seed,
        task,
        study.data,
        recipes,
    )
    flops, parameters, memory = 0, 0, 0
    if encoder is not None:
        shape = (task.volumes or study.data.volumes).shape
        accelerator = study.execution.accelerator
        memory = transfer_memory(task, recipes, encoder, shape, accelerator)
        flops = transfer_flops(task, recipes, encoder, shape, arm == "scratch")
        parameters = encoder.parameters
    return Step(name, "transfer", resolved, needs, parameters, flops=float(flops), memory=memory)
