"""Laws of repeated data against the published law, written out in its own units."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from scaling.cli import app
from scaling.laws.curves.repeated import fit_repeated, worth_of_repeats

A, B, E, ALPHA, BETA, R_D, R_N = 521.0, 1488.0, 1.87, 0.353, 0.353, 15.39, 5.31


def muennighoff(size: float, unique: float, seen: float) -> float:
    """Muennighoff et al. 2023, equations 5 to 7, with their published constants."""
    G = (ALPHA * A / (BETA * B)) ** (1 / (ALPHA + BETA))
    optimal = G * (G * unique) ** (BETA / ALPHA)
    used = min(size, optimal)
    excess = size / used - 1
    N = used + used * R_N * (1 - np.exp(-excess / R_N))
    D = unique + unique * R_D * (1 - np.exp(-(seen / unique - 1) / R_D))
    return float(A / N**ALPHA + B / D**BETA + E)


def _runs(noise: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = []
    for size in (1e7, 5e7, 2.5e8, 1e9):
        for unique in (1e8, 1e9, 1e10):
            for epochs in (1, 4, 16, 64):
                loss = muennighoff(size, unique, epochs * unique) * np.exp(noise * rng.normal())
                rows.append((size, unique, epochs * unique, loss))
    return pd.DataFrame(rows, columns=["size", "unique", "duration", "loss"])


def test_fit_repeated_published_law_recovers_its_constants() -> None:
    law = fit_repeated(_runs(), "loss", bounds=None, lower_is_better=True, resamples=3)
    assert law.chosen == "effective"
    effective = {fit.name: fit for fit in law.fits}["effective"]
    for name, truth in {"alpha": ALPHA, "beta": BETA, "E": E, "R_D": R_D}.items():
        assert effective.parameters[name] == pytest.approx(truth, rel=0.08), name
    at = (np.array([3e9]), np.array([1e10]), np.array([3e11]))
    mean, _, _ = law.predict(*at)
    assert mean[0] == pytest.approx(muennighoff(3e9, 1e10, 3e11), rel=0.01)


def test_worth_of_repeats_follows_the_published_law() -> None:
    law = fit_repeated(_runs(), "loss", bounds=None, lower_is_better=True, resamples=3)
    epochs = np.array([2.0, 40.0])
    repeats, fresh = worth_of_repeats(law, 1e9, 1e10, epochs)
    for i, e in enumerate(epochs):
        now = np.log(muennighoff(1e9, 1e10, e * 1e10))
        assert repeats[i] == pytest.approx(
            now - np.log(muennighoff(1e9, 1e10, 2 * e * 1e10)), abs=0.004
        )
        assert fresh[i] == pytest.approx(
            now - np.log(muennighoff(1e9, 2e10, 2 * e * 1e10)), abs=0.004
        )


def test_fit_verb_three_columns_gives_constants_and_when_data_beat_epochs(tmp_path) -> None:
    runs = _runs(0.003).rename(columns={"duration": "tokens"})
    runs.to_csv(tmp_path / "runs.csv", index=False)
    arguments = ["fit", str(tmp_path / "runs.csv"), "--x", "size,unique,tokens", "--y", "loss"]
    points = [(n, u, e * u) for n in (2e7, 5e8) for u in (3e8, 3e9) for e in (2, 8, 30)]
    at = ",".join("/".join(f"{value:.17g}" for value in point) for point in points)
    arguments += ["--at", at, "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    curve = json.loads(result.stdout)["curves"][0]
    assert [fit["name"] for fit in curve["fits"]] == ["chinchilla", "effective", "overfitting"]
    assert any("more unique data beat more epochs" in text for text in curve["sentences"])
    covered = [
        prediction["low"] < muennighoff(*point) < prediction["high"]
        for point, prediction in zip(points, curve["predictions"], strict=True)
    ]
    assert np.mean(covered) >= 0.75


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"unique": 1e8}, "same unique data"),
        ({"duration": 1e7}, "No run saw its data more than once"),
        ({"size": -1.0}, "Column size holds 48"),
    ],
)
def test_fit_repeated_impossible_table_says_what_is_missing(change, words) -> None:
    with pytest.raises(ValueError, match=words):
        fit_repeated(_runs().assign(**change), "loss", bounds=None, lower_is_better=True)
