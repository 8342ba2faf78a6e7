"""What the report is made of: tables, verdicts and curves; nothing knows of images or models."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from scaling.laws import Curve, Findings, Outlook, SelfTest, Verdict

FloatArray = npt.NDArray[np.floating]

COLUMNS: dict[str, tuple[str, ...]] = {
    "results": (
        *("study", "run", "arm", "objective", "size", "params", "duration", "flops", "seed"),
        *("trunk", "task", "protocol", "shots", "draw", "site", "domain", "metric", "value"),
        "cases",
    ),
    "pretraining": (
        *("run", "objective", "size", "params", "duration", "seed", "loss", "flops", "seconds"),
        *("samples_per_second", "input_wait"),
    ),
    "training": (
        *("run", "step", "objective", "size", "params", "seed", "part", "samples", "flops"),
        "loss",
    ),
    "steps": ("name", "kind", "status", "seconds", "flops", "estimated_hours", "accelerator"),
    "rates": ("family", "parametrisation", "width", "rate", "samples", "loss"),
    "schedules": ("size", "duration", "seed", "schedule", "rate", "samples", "loss"),
}


def without_rows() -> pd.DataFrame:
    """A table that was left out."""
    return pd.DataFrame()


@dataclass(frozen=True)
class ReportInput:
    """Everything one page shows. Only `name` and `results` are needed; the rest may be left out.

    Every table has at least the columns that `COLUMNS` lists for it. Raises ValueError when a
    table with rows lacks one.
    """

    name: str
    """Name of the study."""

    results: pd.DataFrame
    """A row per run x task x protocol x shots x draw x site x metric.

    `arm` is "pretrained" or the name of a control.
    `family` and `fraction` are columns too, where there are several."""

    config: dict[str, Any] = field(default_factory=dict)
    """The study as it was run."""

    provenance: dict[str, Any] = field(default_factory=dict)
    """Versions, commit and devices."""

    pretraining: pd.DataFrame = field(default_factory=without_rows)
    """A row per finished cooldown; further columns are shown in its table."""

    training: pd.DataFrame = field(default_factory=without_rows)
    """Points of training curves; `heldout_loss` is a further column where it was logged."""

    steps: pd.DataFrame = field(default_factory=without_rows)
    """A row per step of the plan; what only describes the others is not among them."""

    runs: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Task -> pretrained runs that are finished, and that are planned."""

    verdicts: Sequence[Verdict] = ()
    """At most one per task."""

    curves: dict[tuple[str, str, str], Curve] = field(default_factory=dict)
    """(task, metric, "size" or "duration") -> fitted curve."""

    outlooks: dict[tuple[str, str], Outlook] = field(default_factory=dict)
    """(task, metric) -> what is said beyond the runs."""

    self_tests: dict[str, SelfTest] = field(default_factory=dict)
    """Task -> how its verdict behaves on simulated studies."""

    findings: dict[str, Findings] = field(default_factory=dict)
    """Protocol -> what a challenge found, asked of this study; the first one's ranking is shown."""

    confusions: pd.DataFrame = field(default_factory=without_rows)
    """Cases by task, model, true and predicted class."""

    groups: pd.DataFrame = field(default_factory=without_rows)
    """Values by task, model, metric, variable, what and group: what is "group", "disparity",
    "score" or "fairness"."""

    leaderboard: pd.DataFrame = field(default_factory=without_rows)
    """Published results on the study's tasks: team, track, rank, a column TASK_METRIC each."""

    reconstructions: Sequence[tuple[str, FloatArray, FloatArray, FloatArray]] = ()
    """(label, original, masked, reconstructed), arrays [D, H, W] in RAS order."""

    problems: Sequence[str] = ()
    """One sentence each."""

    collections: Sequence[dict[str, Any]] = ()
    """Per collection of scans: collection, scans, subjects, licence ("" where none is stated)."""

    standing: Sequence[str] = ()
    """What was registered beforehand, and who had looked at the test cases: a sentence each."""

    held_fixed: dict[str, Any] = field(default_factory=dict)
    """What did not change along the axes."""

    rates: pd.DataFrame = field(default_factory=without_rows)
    """A sweep of the learning rate over widths (`scaling.report.tuning`)."""

    schedules: pd.DataFrame = field(default_factory=without_rows)
    """A sweep of schedules over durations (`scaling.report.tuning`)."""

    saving: str = ""
    """A sentence on what sharing trunks saved."""

    protocol: str = "finetune"
    """The protocol that the verdicts are about; shown first, and what curves are fitted to."""

    domain: str = "out"
    """The test sites that the verdicts are about; shown first, and what curves are fitted to."""

    def __post_init__(self) -> None:
        for name, needed in COLUMNS.items():
            table: pd.DataFrame = getattr(self, name)
            missing = [column for column in needed if column not in table]
            if table.empty:
                # An empty table has whatever columns and types its writer gave it.
                empty = pd.DataFrame({column: pd.Series(dtype=float) for column in needed})
                object.__setattr__(self, name, empty)
            elif missing:
                raise ValueError(
                    f"The table of {name} lacks {', '.join(missing)}; "
                    f"a report needs the columns {', '.join(needed)}."
                )

    @property
    def tasks(self) -> list[str]:
        """Tasks in the order of the config, then of the results; also those without results."""
        names = []
        for task in self.config.get("tasks", []):
            if isinstance(task, dict) and "name" in task:
                names.append(task["name"])
        names += [verdict.task for verdict in self.verdicts]
        return list(dict.fromkeys([*names, *self.results["task"].unique()]))

    def verdict(self, task: str) -> Verdict | None:
        """The verdict of a task, if it has one."""
        for verdict in self.verdicts:
            if verdict.task == task:
                return verdict
        return None

    @property
    def progress(self) -> tuple[int, int]:
        """Steps that are done, and all steps."""
        done = self.steps["status"].isin(["done", "skipped", "finished"])
        return int(done.sum()), len(self.steps)

    @property
    def interim(self) -> bool:
        """Whether steps of the study are still missing."""
        done, planned = self.progress
        return done < planned

    def missing_runs(self, task: str) -> bool:
        """Whether planned pretrained runs of a task have no result yet: its verdict is interim."""
        finished, planned = self.runs.get(task, (0, 0))
        return finished < planned
