"""Have the embeddings collapsed? Two numbers that say so, in NumPy, on the few embeddings that are sent to the host."""

import numpy as np
from jaxtyping import Float

# Share of the standard deviation of random directions. Pooled tokens of brains are alike: those of a random ViT vary by 0.03 to 0.07, those
# of a healthy MAE by 0.02.
COLLAPSED = 1e-3


def effective_rank(embeddings: Float[np.ndarray, "n E"]) -> float:
    """RankMe (Garrido et al. 2023, eq. 1): exponential of the entropy of the normalised singular values. Between 1 and min(n, E)."""
    singular = np.linalg.svd(np.asarray(embeddings, np.float64), compute_uv=False)
    share = singular / max(singular.sum(), 1e-300) + 1e-7
    return float(np.exp(-(share * np.log(share)).sum()))


def spread(embeddings: Float[np.ndarray, "n E"]) -> float:
    """Standard deviation of the dimensions of the embeddings scaled to length 1, mean over dimensions, times sqrt(E): 0 when all are
    the same, 1 when their directions are random (Chen and He 2021, section 4.1).
    """
    exact = np.asarray(embeddings, np.float64)
    unit = exact / np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), 1e-12)
    return float(unit.std(0).mean() * np.sqrt(exact.shape[1]))


def describe_embeddings(embeddings: Float[np.ndarray, "n E"]) -> dict[str, float]:
    """Both numbers, as they are logged."""
    return {"embedding_rank": effective_rank(embeddings), "embedding_std": spread(embeddings)}


def collapse_warning(run: str, embedding_rank: float, embedding_std: float) -> list[str]:
    """One sentence if the embeddings of a run have collapsed, else none."""
    if embedding_std >= COLLAPSED:
        return []
    return [
        f"the embeddings of {run} have collapsed: held-out scans differ by {embedding_std:.2g} of what random directions would (1), "
        f"effective rank {embedding_rank:.3g}; lower pretrain.learning_rate, raise the batch or the temperature, or augment more"
    ]
