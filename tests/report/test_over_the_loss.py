"""The sentence of the page on losses that foretell a metric."""

import numpy as np
import pandas as pd

from scaling.report.curves import over_the_loss


def _tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    size, duration = (
        axis.ravel() for axis in np.meshgrid(np.geomspace(1e6, 64e6, 4), np.geomspace(1e4, 8e4, 4))
    )
    names = [f"run{i}" for i in range(len(size))]
    loss = 0.3 + (size / 1e6) ** -0.3 + (duration / 1e4) ** -0.4
    score = 0.5 + 0.4 / (1 + np.exp(8 * (loss - 1.0)))
    runs = pd.DataFrame({"run": names, "size": size, "duration": duration, "value": score})
    return runs, pd.DataFrame({"run": names, "loss": loss})


def test_over_the_loss_all_losses_there_says_which_way_predicts_better() -> None:
    runs, pretraining = _tables()
    (sentence,) = over_the_loss(runs, pretraining, "Dice", (0.0, 1.0), False)
    assert "the way over the loss predicts better" in sentence


def test_over_the_loss_a_loss_missing_says_nothing() -> None:
    runs, pretraining = _tables()
    assert over_the_loss(runs, pretraining.iloc[1:], "Dice", (0.0, 1.0), False) == ()
    assert over_the_loss(runs.iloc[:3], pretraining, "Dice", (0.0, 1.0), False) == ()
