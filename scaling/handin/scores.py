"""What scoring a folder of predictions returns."""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Scores:
    """Scores of a folder of predictions."""

    kind: str
    """classification, segmentation, regression or embedding."""
    metrics: dict[str, float]
    """Metric -> value; NaN where it does not exist."""
    cases: pd.DataFrame
    """A row per case."""
    expected: int
    """Number of labelled cases."""
    problems: list[str]
    """A sentence for every case that is missing, invalid or odd."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values; a metric that does not exist is None."""
        scores = {
            name: value if math.isfinite(value) else None for name, value in self.metrics.items()
        }
        return {
            "kind": self.kind,
            "metrics": scores,
            "cases": len(self.cases),
            "expected": self.expected,
            "problems": self.problems,
        }
