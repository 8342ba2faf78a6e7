"""Have the embeddings collapsed? Two numbers that say so, in NumPy, on embeddings on the host."""

import numpy as np
from jaxtyping import Float

# Share of the standard deviation of random directions. Pooled tokens of brains are alike: those of
# a random ViT vary by 0.03 to 0.07, those of a healthy MAE by 0.02.
COLLAPSED = 1e-3
FEWEST_SCANS = 8  # fewer embeddings are alike by chance


def effective_rank(embeddings: Float[np.ndarray, "n E"]) -> float:
    """RankMe (Garrido et al. 2023, eq. 1), between 1 and min(n, E).

    It is the exponential of the entropy of the normalised singular values.
    """
    singular = np.linalg.svd(np.asarray(embeddings, np.float64), compute_uv=False)
    share = singular / max(singular.sum(), 1e-300) + 1e-7
    return float(np.exp(-(share * np.log(share)).sum()))


def spread(embeddings: Float[np.ndarray, "n E"]) -> float:
    """How much the directions of embeddings differ (Chen and He 2021, section 4.1).

    It is the standard deviation of each dimension of the embeddings scaled to length 1, averaged
    over dimensions, times sqrt(E): 0 when all are the same, 1 when their directions are random.
    """
    exact = np.asarray(embeddings, np.float64)
    unit = exact / np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), 1e-12)
    return float(unit.std(0).mean() * np.sqrt(exact.shape[1]))


def describe_embeddings(embeddings: Float[np.ndarray, "n E"]) -> dict[str, float]:
    """Both numbers, as they are logged."""
    return {"embedding_rank": effective_rank(embeddings), "embedding_std": spread(embeddings)}


def collapse_warning(
    run: str, scans: int, has_temperature: bool, embedding_rank: float, embedding_std: float
) -> list[str]:
    """One sentence if the embeddings of a run have collapsed, else none.

    The spread of a few `scans` says nothing (that of one is 0): below `FEWEST_SCANS` nothing is
    said. `has_temperature`: whether the objective has one that could be raised.
    """
    if scans < FEWEST_SCANS or embedding_std >= COLLAPSED:
        return []
    contrast = ", raise the batch or the temperature, or augment more" if has_temperature else ""
    return [
        f"the embeddings of {run} have collapsed: {scans} held-out scans differ by "
        f"{embedding_std:.2g} of what random directions would (1), effective rank "
        f"{embedding_rank:.3g}; lower pretrain.learning_rate or train longer{contrast}"
    ]
