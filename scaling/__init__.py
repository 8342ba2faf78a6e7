"""Designed scaling studies of 3D brain-MRI foundation models.

Data flows one way; a folder imports only from those above it:

    files          the one writer: whole files that survive a kill or a loss of power
    metrics        facts about every metric: better end, bounds, smallest effect worth having
    study/         what to run: Study, a frozen config, and the ladder of sizes
    costs/         what it costs: parameters, FLOPs, memory, hours, the mesh that fits
    runs/          the plan: a list of Steps with every number resolved; run directories, locks
    processes/     processes of a run: how they find each other, end together, share work
    data/          NIfTI trees -> checked, normalised volume cache -> batches
    phantom/       the synthetic cohort, in the layouts of the challenges
    models/        volumes -> tokens: ViTs and 3D U-Nets behind one interface, decoders, heads
    augmentation/  random changes of crops, on the device
    objectives/    what is learned: masked autoencoding, contrast, both, across sequences
    tracking/      metrics.jsonl and Weights & Biases
    training/      mesh and shardings, batches on the devices, optimiser, loop, checkpoints
    transfer/      few-shot fine-tuning, probes, classical controls -> one tidy results table
    handin/        submission containers, embeddings, scores of predictions
    laws/          results table -> fitted curves (curves/) and verdicts (verdicts/); no MRI
    report/        tables, curves, verdicts -> figures and one HTML page
    engines/       carry a Plan out
    cli/           the verbs

What experiment files use is here: `from scaling import Study, Data, Task, Mae, ViT`. It is
imported when it is first used, and imports no jax.

Start reading at `scaling.study.config.Study`, then `scaling.runs.plan.make_plan` and
`scaling.engines.run_step.run_step`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scaling.study.config import Study
    from scaling.study.data import Data, Source, Split, Volumes
    from scaling.study.execution import Execution
    from scaling.study.families import ResEnc, UNet, ViT
    from scaling.study.objectives import Contrastive, CrossSequence, Hybrid, Mae, Momentum
    from scaling.study.phantom import Ageing, Cohort, Infarcts, Meningiomas, Phantom, Scanner
    from scaling.study.pretraining import Pretrain
    from scaling.study.protocols import Classical, Finetune, Probe, SgdProbe, Transfer
    from scaling.study.question import Estimand, SmallestEffects
    from scaling.study.references import Features, Function, Predictions, Weights
    from scaling.study.tasks import Task

# Module of scaling.study -> what experiment files use of it.
PUBLIC = {
    "config": ("Study",),
    "data": ("Data", "Source", "Split", "Volumes"),
    "execution": ("Execution",),
    "families": ("ResEnc", "UNet", "ViT"),
    "objectives": ("Contrastive", "CrossSequence", "Hybrid", "Mae", "Momentum"),
    "phantom": ("Ageing", "Cohort", "Infarcts", "Meningiomas", "Phantom", "Scanner"),
    "pretraining": ("Pretrain",),
    "protocols": ("Classical", "Finetune", "Probe", "SgdProbe", "Transfer"),
    "question": ("Estimand", "SmallestEffects"),
    "references": ("Features", "Function", "Predictions", "Weights"),
    "tasks": ("Task",),
}

__all__ = [
    "Ageing",
    "Classical",
    "Cohort",
    "Contrastive",
    "CrossSequence",
    "Data",
    "Estimand",
    "Execution",
    "Features",
    "Finetune",
    "Function",
    "Hybrid",
    "Infarcts",
    "Mae",
    "Meningiomas",
    "Momentum",
    "Phantom",
    "Predictions",
    "Pretrain",
    "Probe",
    "ResEnc",
    "Scanner",
    "SgdProbe",
    "SmallestEffects",
    "Source",
    "Split",
    "Study",
    "Task",
    "Transfer",
    "UNet",
    "ViT",
    "Volumes",
    "Weights",
]


def __getattr__(name: str) -> Any:
    """A public name, imported now. Raises AttributeError for any other."""
    for module, names in PUBLIC.items():
        if name in names:
            return getattr(importlib.import_module(f"scaling.study.{module}"), name)
    raise AttributeError(f"module 'scaling' has no attribute {name!r}")


def __dir__() -> list[str]:
    """What completion offers."""
    return sorted([*globals(), *__all__])
