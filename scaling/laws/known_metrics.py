"""What is known of a metric from its name, in whatever table it stands (see `scaling.metrics`)."""

import re

from scaling.metrics import METRICS, UNIT, Metric

__all__ = ["METRICS", "UNIT", "KnownMetric", "known_metric", "label_of", "lower_is_better"]

KnownMetric = Metric


def known_metric(name: str) -> KnownMetric | None:
    """The metric of this name, or of the last word in it that is a metric ("val/mae_loss" is a
    loss, that of a masked autoencoder); None if there is none."""
    words = re.split(r"[^a-z0-9]+", name.lower())
    metrics = [METRICS[word] for word in (*words, name.lower()) if word in METRICS]
    return metrics[-1] if metrics else None


def lower_is_better(name: str) -> bool:
    """Whether a metric of this name is an error."""
    known = known_metric(name)
    return known is not None and known.lower_is_better


def label_of(name: str) -> str:
    """How a metric is written within a sentence: its name, if nothing is known of it."""
    return METRICS[name].label if name in METRICS else name
