"""The frontier against the closed optimum of Chinchilla's law, and the gate on curves that do and
do not go on."""

import numpy as np
import pandas as pd
import pytest

from scaling.laws import fit
from scaling.laws.curves.frontier import frontier, iso_compute
from scaling.laws.curves.gate import extrapolation_gate

ALPHA, BETA = 0.35, 0.30


def _runs(noise: float = 0.002) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    N, D = (
        v.ravel()
        for v in np.meshgrid(np.geomspace(1e6, 1e8, 6), np.geomspace(1e8, 1e10, 6), indexing="ij")
    )
    loss = 1.5 + 400 * N**-ALPHA + 500 * D**-BETA
    return pd.DataFrame({"N": N, "D": D, "loss": loss * np.exp(noise * rng.normal(size=len(N)))})


def _surface():
    return fit(
        _runs(),
        ("N", "D"),
        "loss",
        bounds=None,
        lower_is_better=True,
        forms=("chinchilla",),
        resamples=40,
    )


def test_frontier_chinchilla_law_has_its_closed_optimum() -> None:
    surface = _surface()
    compute = np.array([1e16, 1e17])
    found = frontier(surface, compute, flops_per=6)
    G = (ALPHA * 400 / (BETA * 500)) ** (1 / (ALPHA + BETA))  # Hoffmann et al. 2022, equation 4
    exact = G * (compute / 6) ** (BETA / (ALPHA + BETA))
    np.testing.assert_allclose(found.table["size"], exact, rtol=0.25)
    step = 1.04  # of the grid of sizes
    assert (
        (found.table["size_low"] / step <= exact) & (exact <= found.table["size_high"] * step)
    ).all()
    assert found.exponent == pytest.approx(BETA / (ALPHA + BETA), abs=0.05)
    assert found.exponent_low <= found.exponent <= found.exponent_high
    assert found.table["inside"].all()


def test_iso_compute_lowest_loss_is_the_frontier() -> None:
    surface = _surface()
    curve = iso_compute(surface, 1e16, points=200, flops_per=6)
    best = curve.loc[curve["mean"].idxmin(), "size"]
    assert best == pytest.approx(frontier(surface, [1e16], flops_per=6).table["size"][0], rel=0.05)
    np.testing.assert_allclose(6 * curve["size"] * curve["duration"], 1e16)


def test_frontier_of_a_curve_in_size_alone_is_refused() -> None:
    alone = fit(
        _runs(), "N", "loss", bounds=None, lower_is_better=True, forms=("power",), resamples=5
    )
    with pytest.raises(ValueError, match="needs a surface"):
        frontier(alone, [1e16])


def test_gate_opens_for_a_law_that_goes_on_and_stays_shut_for_one_that_breaks() -> None:
    runs = _runs(0.01)
    gates = extrapolation_gate(runs, ("N", "D"), "loss", bounds=None, lower_is_better=True)
    assert [g.axis for g in gates] == ["N", "D"]
    assert all(g.opens for g in gates)
    broken = runs.assign(loss=np.where(runs["N"] == runs["N"].max(), 6.0, runs["loss"]))
    assert not extrapolation_gate(broken, ("N", "D"), "loss", bounds=None, lower_is_better=True)[
        0
    ].opens


def test_gate_three_levels_stay_shut() -> None:
    runs = _runs()
    few = runs[runs["N"].isin(np.unique(runs["N"])[:3])]
    gate = extrapolation_gate(few, ("N",), "loss", bounds=None, lower_is_better=True)[0]
    assert not gate.opens
    assert "too few" in gate.sentence
