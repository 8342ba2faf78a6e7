"""Collapse against SciPy's entropy and against embeddings of known rank."""

import numpy as np
import pytest
from scipy.stats import entropy

from scaling.training.collapse import collapse_warning, describe_embeddings, effective_rank, spread


def test_effective_rank_is_the_exponential_of_the_entropy_of_the_singular_values() -> None:
    z = np.random.default_rng(0).normal(size=(40, 12)) * np.geomspace(1, 1e-3, 12)
    singular = np.sqrt(np.linalg.eigvalsh(z.T @ z))
    assert effective_rank(z) == pytest.approx(np.exp(entropy(singular)), rel=1e-3)


@pytest.mark.parametrize("rank", [1, 3, 12])
def test_effective_rank_of_equal_orthogonal_directions_is_their_number(rank: int) -> None:
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(20, 20)))[0][:rank, :12]
    directions = np.linalg.qr(basis.T)[0].T
    assert effective_rank(np.tile(directions, (5, 1))) == pytest.approx(rank, rel=1e-3)


def test_spread_is_one_for_random_directions_and_nought_for_one() -> None:
    z = np.random.default_rng(0).normal(size=(4000, 32)).astype(np.float32)
    assert spread(z) == pytest.approx(1, abs=0.02)
    assert spread(7 * z) == pytest.approx(spread(z), rel=1e-5)
    assert spread(np.tile(z[:1], (50, 1))) < 1e-6


def test_collapsed_embeddings_are_told_in_one_sentence_and_healthy_ones_are_not() -> None:
    z = np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32)
    collapsed = z[:1] + 1e-4 * z
    run = "pretrain/momentum-xxs-seed0-320"
    (sentence,) = collapse_warning(run, 64, True, **describe_embeddings(collapsed))
    assert "temperature" in sentence
    (masked,) = collapse_warning(run, 64, False, **describe_embeddings(collapsed))
    assert "temperature" not in masked
    assert sentence.startswith("the embeddings of pretrain/momentum-xxs-seed0-320 have collapsed")
    assert not collapse_warning("run", 64, True, **describe_embeddings(z))
    assert np.isfinite(list(describe_embeddings(np.zeros((8, 4), np.float32)).values())).all()


@pytest.mark.parametrize("scans", [1, 3, 7])
def test_few_held_out_scans_raise_no_alarm(scans: int) -> None:
    alike = np.ones((scans, 32), np.float32)
    assert describe_embeddings(alike)["embedding_std"] < 1e-6
    assert collapse_warning("run", scans, False, **describe_embeddings(alike)) == []
