"""The Chinchilla law refitted to the 245 runs of Hoffmann et al. (2022), figure 4: our engine
against SciPy's BFGS.

Shows: the point estimate, standard errors and 95 % intervals of the replication by Epoch AI
(Besiroglu et al. 2024, arXiv 2404.10102; sum of Huber losses, delta 0.001; 4,000 bootstrap
resamples), and the time both procedures take, alternating. Costs: about a minute, nearly all of
it SciPy's. Needs the published table and answers (`chinchilla_epoch/`), which are not ours to
redistribute. Command:

    python experiments/benchmarks/chinchilla.py FOLDER/chinchilla_epoch
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import minimize

from scaling.laws.arrays import FloatArray
from scaling.laws.curves.forms import CHINCHILLA
from scaling.laws.curves.losses import huber
from scaling.laws.curves.newton import Fits, fit_batch

DELTA, RESAMPLES, ROUNDS = 1e-3, 4000, 4


def runs(folder: Path) -> tuple[FloatArray, FloatArray]:
    """log N and log D [2, 240], and log loss [240]: the five largest losses are left out, as in
    the replication."""
    table = pd.read_csv(folder / "svg_extracted_data.csv")
    table = table[table["loss"] < table["loss"].nlargest(5).iloc[-1]]
    N, flop = table["Model Size"].to_numpy(float), table["Training FLOP"].to_numpy(float)
    return np.log([N, flop / (6 * N)]), np.log(table["loss"].to_numpy(float))


def resamples(n: int) -> FloatArray:
    """The replication's own resamples, as how often each holds each run [4000, n]."""
    rng = np.random.RandomState(42)
    return np.stack([np.bincount(rng.choice(n, n), minlength=n) for _ in range(RESAMPLES)]).astype(
        float
    )


def point_estimate(log_x: FloatArray, y: FloatArray) -> Fits:
    """The fit to all runs, from 50 global starts."""
    return fit_batch(
        CHINCHILLA,
        log_x - log_x.mean(1, keepdims=True),
        y,
        np.ones((1, len(y))),
        huber(DELTA),
        starts=50,
    )


def bootstrap(log_x: FloatArray, y: FloatArray, weights: FloatArray, point: Fits) -> Fits:
    """Each resample from its own global start or from the point estimate, whichever is lower."""
    t = log_x - log_x.mean(1, keepdims=True)
    return fit_batch(CHINCHILLA, t, y, weights, huber(DELTA), starts=1, extra=point.theta, polish=1)


def ours(log_x: FloatArray, y: FloatArray, weights: FloatArray) -> tuple[Fits, Fits]:
    """The point estimate and the fits to all resamples."""
    point = point_estimate(log_x, y)
    return point, bootstrap(log_x, y, weights, point)


def natural(theta: FloatArray, log_x: FloatArray) -> dict[str, FloatArray]:
    log_A, alpha, log_B, beta, log_E = theta.T
    centre = log_x.mean(1)
    values = (
        np.exp(log_A + alpha * centre[0]),
        np.exp(log_B + beta * centre[1]),
        np.exp(log_E),
        alpha,
        beta,
    )
    return dict(zip(("A", "B", "E", "alpha", "beta"), values, strict=True))


def scipy_fit(log_x: FloatArray, y: FloatArray) -> tuple[FloatArray, float]:
    """The replication's procedure: BFGS with the analytic gradient from Hoffmann's parameters (a,
    b, e, alpha, beta)."""

    def loss(p: FloatArray) -> tuple[float, FloatArray]:
        terms = np.stack([p[0] - p[3] * log_x[0], p[1] - p[4] * log_x[1], np.full(len(y), p[2])])
        top = terms.max(0)
        shares = np.exp(terms - top)
        total = shares.sum(0)
        shares /= total
        r = y - top - np.log(total)
        psi = np.clip(r, -DELTA, DELTA)
        a, b, e = -(psi * shares)
        return float((psi * (r - psi / 2)).sum()), np.array(
            [a.sum(), b.sum(), e.sum(), -a @ log_x[0], -b @ log_x[1]]
        )

    result = minimize(
        loss, [6.0073404, 6.0179186, 0.5267228, 0.33917084, 0.2849083], jac=True, method="BFGS"
    )
    return result.x, result.fun


def main(folder: Path) -> None:
    published = json.loads((folder / "published.json").read_text())
    log_x, y = runs(folder)
    weights = resamples(len(y))
    point = point_estimate(log_x, y)
    seconds, scipy_seconds, theirs = [], 0.0, []
    for block in np.split(np.arange(RESAMPLES), ROUNDS):
        start = time.perf_counter()
        fits = bootstrap(log_x, y, weights, point)
        middle = time.perf_counter()
        seconds.append(middle - start)
        for w in weights[block].astype(int):
            theirs.append(scipy_fit(np.repeat(log_x, w, axis=1), np.repeat(y, w)))
        scipy_seconds += time.perf_counter() - middle
    start = time.perf_counter()
    subprocess.run([sys.executable, __file__, str(folder), "--ours-alone"], check=True)
    cold = time.perf_counter() - start

    print(
        f"objective {point.objective[0]:.13f} (published "
        f"{published['grid_fit_published']['objective']:.13f})"
    )
    estimate, samples = natural(point.theta, log_x), natural(fits.theta, log_x)
    raw = np.array([x for x, _ in theirs])
    reference = {
        **dict(zip(("A", "B", "E"), np.exp(raw[:, :3]).T, strict=True)),
        "alpha": raw[:, 3],
        "beta": raw[:, 4],
    }
    rows = []
    for name, values in samples.items():
        theirs_published = [
            published["grid_fit_published"][name],
            published["bootstrap"]["se_published"][name],
        ]
        theirs_published += published["bootstrap"]["ci95_published"][name]
        mine = [estimate[name][0], values.std(ddof=1), *np.percentile(values, [2.5, 97.5])]
        again = [np.nan, reference[name].std(ddof=1), *np.percentile(reference[name], [2.5, 97.5])]
        for what, a, b, c in zip(
            ("estimate", "se", "2.5 %", "97.5 %"), mine, theirs_published, again, strict=True
        ):
            rows.append((name, what, a, b, f"{a / b - 1:+.3%}", c))
    print(
        pd.DataFrame(
            rows, columns=["", "what", "ours", "published", "off by", "SciPy again"]
        ).to_string(index=False)
    )
    excess = fits.objective / np.array([f for _, f in theirs]) - 1
    better = int((excess < -1e-9).sum())
    print(
        f"converged {fits.converged.mean():.2%}; objective at most {excess.max():+.1e} of "
        f"SciPy's, lower by > 1e-9 in {better} resamples"
    )
    mine_s = float(np.median(seconds))
    print(
        f"{RESAMPLES} resamples: ours {mine_s:.2f} s warm (median of {ROUNDS}), {cold:.1f} s in a "
        f"new process; SciPy {scipy_seconds:.1f} s"
    )
    print(f"ratio {scipy_seconds / mine_s:.0f}")


if __name__ == "__main__":
    if "--ours-alone" in sys.argv:
        log_x, y = runs(Path(sys.argv[1]))
        ours(log_x, y, resamples(len(y)))
    else:
        main(Path(sys.argv[1]))
