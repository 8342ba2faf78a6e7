"""What is stated before a verdict: the smallest effect of interest and the better direction."""

from scaling.laws.known_metrics import KnownMetric, known_metric


def stated(
    metric: str, smallest: float | None, relative: bool | None, lower: bool | None
) -> tuple[float, bool, bool]:
    """The smallest effect of interest, whether it is relative, and whether lower is better: as
    given, else what the metric's name says.

    Raises ValueError when the smallest effect is not a positive number."""
    known = known_metric(metric) or KnownMetric(metric)
    smallest = known.smallest_effect if smallest is None else smallest
    if smallest is None or smallest <= 0:
        raise ValueError(
            f"The smallest effect of interest is {smallest} for metric {metric}: state a positive "
            "number."
        )
    return (
        smallest,
        known.relative if relative is None else relative,
        known.lower_is_better if lower is None else lower,
    )
