"""What the report is made of: tables, verdicts and fitted curves, and nothing that knows of images or models."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from scaling.laws import Curve, Findings, Outlook, SelfTest, Verdict

FloatArray = npt.NDArray[np.floating]

RESULTS = (
    "study", "run", "arm", "objective", "size", "params", "duration", "flops", "seed", "trunk", "task", "protocol", "shots", "draw",
    "site", "domain", "metric", "value", "cases",
)  # fmt: skip
PRETRAINING = (
    "run", "objective", "size", "params", "duration", "seed", "loss", "flops", "seconds", "samples_per_second", "input_wait",
)  # fmt: skip
TRAINING = ("run", "objective", "size", "params", "seed", "part", "samples", "flops", "loss")
LR_TRANSFER = ("family", "parametrisation", "width", "rate", "samples", "loss")
WSD_COSINE = ("size", "duration", "seed", "schedule", "rate", "samples", "loss")
STEPS = ("name", "kind", "status", "seconds", "flops", "estimated_hours", "accelerator")


@dataclass(frozen=True)
class ReportInput:
    """Everything one page shows. Only `name` and `results` are needed; what is left out is left out of the page.

    `results`: one row per run x task x protocol x shots x draw x site x metric (columns `RESULTS`; arm "pretrained" or a control).
    `pretraining`: one row per finished cooldown (`PRETRAINING`; further columns are shown in its table).
    `steps`: one row per step of the plan (`STEPS`). `curves`: (task, metric, "size" | "duration") -> fitted curve.
    `outlooks`: (task, metric) -> what is said beyond the runs. `self_tests`: task -> how its verdict behaves on simulated studies.
    `findings`: protocol -> what FOMO25 found, asked of this study; the first protocol's ranking is shown.
    `reconstructions`: (label, original, masked, reconstructed), arrays [D, H, W] in RAS order. `problems`: one sentence each.
    `rates` and `schedules`: sweeps of the learning rate over widths, and of schedules over durations (`scaling.report.tuning`).
    `saving`: a sentence on what sharing trunks saved. `held_fixed`: what did not change along the axes. `protocol` and `domain`: what the
    verdicts are about; shown first, and what curves were fitted to (`fit_curves` takes the same two).
    Raises ValueError when a table with rows lacks a column."""

    name: str
    results: pd.DataFrame
    config: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    pretraining: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(columns=list(PRETRAINING))
    )
    training: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(TRAINING)))
    runs: dict[str, tuple[int, int]] = field(default_factory=dict)
    steps: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(STEPS)))
    verdicts: Sequence[Verdict] = ()
    curves: dict[tuple[str, str, str], Curve] = field(default_factory=dict)
    outlooks: dict[tuple[str, str], Outlook] = field(default_factory=dict)
    self_tests: dict[str, SelfTest] = field(default_factory=dict)
    findings: dict[str, Findings] = field(default_factory=dict)
    reconstructions: Sequence[tuple[str, FloatArray, FloatArray, FloatArray]] = ()
    problems: Sequence[str] = ()
    held_fixed: dict[str, Any] = field(default_factory=dict)
    rates: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(LR_TRANSFER)))
    schedules: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(WSD_COSINE)))
    saving: str = ""
    protocol: str = "finetune"
    domain: str = "out"

    def __post_init__(self) -> None:
        # An empty table has whatever columns, and types, its writer gave it: the report's own are as good.
        tables = {
            "results": RESULTS,
            "pretraining": PRETRAINING,
            "steps": STEPS,
            "rates": LR_TRANSFER,
            "schedules": WSD_COSINE,
        }
        for table, needed in tables.items():
            given: pd.DataFrame = getattr(self, table)
            missing = [c for c in needed if c not in given]
            if given.empty:
                object.__setattr__(
                    self, table, pd.DataFrame({c: pd.Series(dtype=float) for c in needed})
                )
            elif missing:
                raise ValueError(
                    f"The table of {table} lacks {', '.join(missing)}; a report needs the columns {', '.join(needed)}."
                )

    @property
    def tasks(self) -> list[str]:
        """Tasks in the order of the config, then of the results: a task without results is still named."""
        planned = self.config.get("tasks", [])
        names = [t["name"] for t in planned if isinstance(t, dict) and "name" in t]
        return list(
            dict.fromkeys(
                [*names, *(v.task for v in self.verdicts), *self.results["task"].unique()]
            )
        )

    def verdict(self, task: str) -> Verdict | None:
        return next((v for v in self.verdicts if v.task == task), None)
