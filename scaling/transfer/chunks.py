"""Cases a chunk at a time, so that one compiled program serves any number of them."""

from collections.abc import Iterator

import numpy as np

CHUNK = 8  # cases predicted at a time


def in_chunks(n: int) -> Iterator[np.ndarray]:
    """Places int [CHUNK] of n cases, a chunk at a time, the last one filled up with the last
    case.
    """
    for first in range(0, n, CHUNK):
        yield np.minimum(np.arange(first, first + CHUNK), n - 1)
