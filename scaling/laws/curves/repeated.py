"""Repeated data: a law of size, unique data and data seen, and when more scans beat more epochs.

Three laws (`repeated_forms`) are fitted. Which one is used is decided by rolling origin: each is
fitted to the runs of least compute (size x data seen) and predicts the others.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import pandas as pd
from scipy.stats import norm
from scipy.stats import t as student_t

from scaling.laws.arrays import FloatArray
from scaling.laws.columns import require_columns
from scaling.laws.curves.link import Link, links_for
from scaling.laws.curves.repeated_fit import (
    ORIGINS,
    backtest_errors,
    bootstrap,
    point_estimate,
    runs_at,
)
from scaling.laws.curves.repeated_forms import REPEATED_FORMS, RepeatedForm
from scaling.laws.plain import plain

FEWEST_RUNS = 10
HALF = 0.5


@dataclass(frozen=True)
class RepeatedFit:
    """One law: its constants in the units of the table, and how it predicts later runs."""

    name: str
    formula: str
    parameters: dict[str, float]
    low: dict[str, float]
    high: dict[str, float]
    residual_sd: float
    """Of logarithms of the loss, so relative."""
    backtest: tuple[float, ...]
    """Per origin: root mean squared relative error of the later runs."""


@dataclass(frozen=True)
class Repeated:
    """A fitted law of repeated data. `predict` gives mean and 90 % interval of the mean."""

    fits: tuple[RepeatedFit, ...]
    chosen: str
    later_runs: tuple[int, ...]
    """Runs that are predicted at every origin of the backtest."""
    rows: int
    epochs: tuple[float, float]
    """Fewest and most epochs that were run."""
    sentences: tuple[str, ...]
    link: Link = field(repr=False)
    centre: tuple[float, float] = field(repr=False)
    typical: float = field(repr=False)
    draws: FloatArray = field(repr=False)
    """Of the chosen law: bootstrap parameters [B, P], the point estimate first."""

    def predict(
        self, size: FloatArray, unique: FloatArray, seen: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Mean, low and high [m] of the metric at sizes, unique data and data seen [m]."""
        form = next(form for form in REPEATED_FORMS if form.name == self.chosen)
        x = centred(size, unique, seen, self.centre)
        # [B, m]: the point estimate first, then the bootstrap.
        logs = np.stack([form.log_loss(theta, *x) for theta in self.draws]) + self.typical
        # A bootstrap of few runs spreads too little by the degrees of freedom that a fit takes.
        df = max(self.rows - len(form.parameters), 1)
        stretch = math.sqrt(self.rows / df) * student_t.ppf(0.95, df) / norm.ppf(0.95)
        logs[1:] = logs[0] + stretch * (logs[1:] - logs[0])
        log_low, log_high = np.percentile(logs, [5, 95], axis=0)
        mean = self.link.metric(logs[0])
        one_end, other_end = self.link.metric(log_low), self.link.metric(log_high)
        # A larger error is a smaller metric where higher is better.
        return mean, np.minimum(one_end, other_end), np.maximum(one_end, other_end)

    def to_dict(self) -> dict[str, Any]:
        return cast(dict[str, Any], plain(self, leave_out=("draws", "link", "centre", "typical")))


def fit_repeated(
    table: pd.DataFrame,
    y: str,
    *,
    bounds: tuple[float, float] | None,
    lower_is_better: bool,
    resamples: int = 100,
    seed: int = 0,
) -> Repeated:
    """Fit the laws to a table with a row per run: columns size, unique, duration (data seen, in
    the unit of `unique`) and y.

    Where less was seen than there is, the data seen are the unique data. Raises ValueError on
    missing columns or numbers, fewer than ten runs, one amount of unique data, or no repetition."""
    size, unique, seen, scores = _read(table, y)
    link = links_for(bounds, lower_is_better, scores, y)[0]
    log_errors = link.log_error(scores)
    typical = float(np.median(log_errors))
    z = log_errors - typical
    centre = (float(np.exp(np.log(size).mean())), float(np.exp(np.log(seen).mean())))
    x = centred(size, unique, seen, centre)
    by_compute = np.argsort(x[0] + x[2], kind="stable")
    rng = np.random.default_rng(seed)
    draws, fits = {}, []
    for form in REPEATED_FORMS:
        point, scale = point_estimate(form, x, z)
        draws[form.name] = bootstrap(form, x, z, point, scale, resamples, rng)
        backtest = backtest_errors(form, x, z, by_compute, scale)
        residual = z - form.log_loss(point, *x)
        fits.append(_in_units(form, draws[form.name], centre, typical, residual, backtest))
    chosen = min(fits, key=lambda fit: float(np.log(fit.backtest).mean())).name
    bare = Repeated(
        fits=tuple(fits),
        chosen=chosen,
        later_runs=tuple(len(z) - runs_at(origin, len(z)) for origin in ORIGINS),
        rows=len(z),
        epochs=(float((seen / unique).min()), float((seen / unique).max())),
        sentences=(),
        link=link,
        centre=centre,
        typical=typical,
        draws=draws[chosen],
    )
    sentences = (_backtest_sentence(bare), *_scans_or_epochs(bare, size, unique[seen > unique]))
    return replace(bare, sentences=sentences)


def centred(
    size: FloatArray, unique: FloatArray, seen: FloatArray, centre: tuple[float, float]
) -> FloatArray:
    """Logarithms [3, m] of size, unique data and data seen, relative to `centre`."""
    seen = np.asarray(seen, float)
    unique = np.minimum(unique, seen)
    return np.stack(
        [np.log(size / centre[0]), np.log(unique / centre[1]), np.log(seen / centre[1])]
    )


def worth_of_repeats(
    law: Repeated, size: float, unique: float, epochs: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """What twice as many epochs gain, and what twice as many unique data at the same epochs gain
    (in the logarithm of the error) [m], from `epochs` [m] of `unique` data. Both see twice as
    much."""
    form = next(form for form in REPEATED_FORMS if form.name == law.chosen)
    sizes, uniques = np.full(len(epochs), size), np.full(len(epochs), unique)
    seen = epochs * unique

    def log_loss(of_unique: FloatArray, of_seen: FloatArray) -> FloatArray:
        return form.log_loss(law.draws[0], *centred(sizes, of_unique, of_seen, law.centre))

    now = log_loss(uniques, seen)
    return now - log_loss(uniques, 2 * seen), now - log_loss(2 * uniques, 2 * seen)


def _read(table: pd.DataFrame, y: str) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    require_columns(table, ["size", "unique", "duration", y])
    columns = []
    for name in ("size", "unique", "duration", y):
        numbers = pd.to_numeric(table[name], errors="coerce").to_numpy(float)
        wrong = ~np.isfinite(numbers) | ((numbers <= 0) & (name != y))
        if wrong.any():
            raise ValueError(
                f"Column {name} holds {int(wrong.sum())} entries that are missing or not positive "
                f"(first at row {table.index[wrong][0]}): drop those rows first."
            )
        columns.append(numbers)
    size, unique, seen, scores = columns
    if len(scores) < FEWEST_RUNS:
        raise ValueError(
            f"The table has {len(scores)} runs: a law of repeated data needs {FEWEST_RUNS}."
        )
    if len(np.unique(unique)) < 2:
        raise ValueError(
            f"All runs have the same unique data ({unique[0]:g}): what more data would give "
            "cannot be told from them. Give two columns (size, duration), or pretrain on a "
            "fraction of the data too."
        )
    if (seen <= unique * (1 + 1e-9)).all():
        raise ValueError(
            "No run saw its data more than once: give two columns (size, duration). The third, "
            "data seen, is counted in the unit of the second."
        )
    return size, np.minimum(unique, seen), seen, scores


def _in_units(
    form: RepeatedForm,
    draws: FloatArray,
    centre: tuple[float, float],
    typical: float,
    residual: FloatArray,
    backtest: tuple[float, ...],
) -> RepeatedFit:
    """Constants in the units of the table, with 90 % intervals of the bootstrap."""
    values = dict(zip(form.parameters, draws.T, strict=True))
    log_size, log_data = np.log(centre)
    natural = {
        "A": np.exp(values["log_A"] + typical + np.exp(values["log_alpha"]) * log_size),
        "B": np.exp(values["log_B"] + typical + np.exp(values["log_beta"]) * log_data),
        "E": np.exp(values["log_E"] + typical),
    }
    if "log_P" in values:
        shift = values["q"] * log_data - values["p"] * log_size
        natural["P"] = np.exp(values["log_P"] + typical + shift)
    for name, value in values.items():
        short = name.removeprefix("log_")
        if short not in natural:
            natural[short] = np.exp(value) if name.startswith("log_") else value
    ends = {name: np.percentile(value, [5, 95]) for name, value in natural.items()}
    return RepeatedFit(
        form.name,
        form.formula,
        {name: float(value[0]) for name, value in natural.items()},
        {name: float(end[0]) for name, end in ends.items()},
        {name: float(end[1]) for name, end in ends.items()},
        math.sqrt(float(residual @ residual) / max(len(residual) - len(form.parameters), 1)),
        backtest,
    )


def _backtest_sentence(law: Repeated) -> str:
    """Which law predicts the runs of more compute best, and by how much."""
    errors = {fit.name: float(np.exp(np.log(fit.backtest).mean())) for fit in law.fits}
    ranked = sorted(errors, key=lambda name: errors[name])
    listed = ", ".join(f"{name} {errors[name]:.1%}" for name in ranked)
    return (
        f"Fitted to the runs of least compute ({', '.join(f'{s:.0%}' for s in ORIGINS)} of them), "
        f"the laws miss the others by {listed}: {ranked[0]} is used."
    )


def _scans_or_epochs(law: Repeated, size: FloatArray, unique: FloatArray) -> list[str]:
    """When more unique data beat more epochs, for the smallest and largest size that was run.

    `unique`: the amounts of data of the runs that saw them more than once."""
    if law.chosen == "chinchilla":
        return [
            "Within these runs a repeated sample is worth a new one: more epochs do as well as "
            "more unique data."
        ]
    most = float(unique.max())
    lowest, highest = max(law.epochs[0], 1.0), law.epochs[1]
    epochs = np.geomspace(lowest, max(highest, lowest * 1.001), 200)
    sentences = []
    for of_size in dict.fromkeys([float(size.min()), float(size.max())]):
        repeats, fresh = worth_of_repeats(law, of_size, most, epochs)
        start = f"At size {of_size:.3g} with {most:.3g} unique data:"
        less = np.flatnonzero(repeats < HALF * fresh)
        harm = np.flatnonzero(repeats <= 0)
        parts = []
        if less.size:
            parts.append(
                f"from {epochs[less[0]]:.2g} epochs on, more unique data beat more epochs (twice "
                "the epochs gain less than half of what twice the data gain)"
            )
        else:
            parts.append(
                f"up to {highest:.2g} epochs, the most that were run, twice the epochs gain at "
                "least half of what twice the data gain"
            )
        if harm.size:
            parts.append(f"from {epochs[harm[0]]:.2g} epochs on, more epochs gain nothing")
        sentences.append(f"{start} {'; '.join(parts)}.")
    return sentences
