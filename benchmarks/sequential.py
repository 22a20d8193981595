"""How fast group-sequential designs are made, watched and read, beside SciPy's multivariate normal for the same chances.

Run: python -m benchmarks.sequential
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from benchmarks.clock import seconds
from quell.analysis import graphical, interim, multiple, sequential, stopped

LOOKS = np.array([0.3, 0.55, 0.8, 1.0])
TRIALS = 10_000


def by_scipy(design: sequential.Boundaries, drift: float) -> float:
    """Power as a sum of rectangles of the multivariate normal, at SciPy's default accuracy."""
    ratio = np.minimum.outer(LOOKS, LOOKS) / np.maximum.outer(LOOKS, LOOKS)
    total = 0.0
    for k in range(len(LOOKS)):
        normal = stats.multivariate_normal(drift * np.sqrt(LOOKS[: k + 1]), np.sqrt(ratio[: k + 1, : k + 1]))
        # the chance of staying below every earlier limit and passing this one
        last = np.append(design.upper[:k], np.inf)
        total += normal.cdf(last, lower_limit=np.append(np.full(k, -np.inf), design.upper[k]))
    return total


def designs() -> None:
    """Print how long designs take, and how far SciPy is and how long it takes for the same power."""
    spend, beta = sequential.spending("obrien-fleming", 0.025), sequential.spending("obrien-fleming", 0.1)
    design = sequential.by_spending(LOOKS, spend)
    for name, work in (
        ("boundaries by spending", lambda: sequential.by_spending(LOOKS, spend)),
        ("boundaries by shape", lambda: sequential.by_shape(LOOKS, 0.025)),
        ("with futility, and the drift it needs", lambda: sequential.with_futility(design, beta)),
        ("power at one drift", lambda: design.crossing(2.8)),
    ):
        took = seconds(work)
        print(f"{name:45s} {1000 * took:9.2f} ms {1 / took:12.0f} a second")
    drifts = np.linspace(-1, 5, TRIALS)
    took = seconds(lambda: design.crossing(drifts), 2)
    print(f"{'power at ten thousand drifts':45s} {1000 * took:9.2f} ms {TRIALS / took:12.0f} a second")
    theirs, mine = by_scipy(design, 2.8), float(design.crossing(2.8).power)
    slow, fast = seconds(lambda: by_scipy(design, 2.8), 3), seconds(lambda: design.crossing(2.8))
    print(
        f"{'SciPy multivariate normal, one drift':45s} {1000 * slow:9.2f} ms   {slow / fast:6.1f} x as long;"
        f" differs by {abs(theirs - mine):.1e}"
    )


def trials() -> None:
    """Print trials a second for what is said at a look, after a stop, and of several endpoints."""
    design, draw = sequential.by_spending(LOOKS, sequential.spending("obrien-fleming", 0.025)), np.random.default_rng(1)
    look, z = draw.integers(0, 4, TRIALS), draw.normal(2.3, 1.0, TRIALS)
    p, gate = draw.uniform(size=(TRIALS, 4)), graphical.parallel_gatekeeping_graph(2, 2)
    for name, work in (
        ("final p, median-unbiased estimate, interval", lambda: stopped.final_estimate(z, look, design, se=0.1)),
        ("final p alone", lambda: stopped.stagewise_p(z, look, design)),
        ("bias-adjusted estimate", lambda: stopped.bias_adjusted(z, look, design, se=0.1)),
        ("repeated interval", lambda: stopped.repeated_interval(z, 0.1, look, design)),
        ("conditional power, three looks to come", lambda: interim.conditional_power(z, 0.3, design)),
        ("Hommel, four endpoints", lambda: multiple.hommel(p)),
        ("graphical procedure, four endpoints", lambda: graphical.adjusted(p, gate)),
    ):
        took = seconds(work, 2)
        print(f"{name:45s} {1000 * took:9.2f} ms {TRIALS / took:12.0f} trials/s")


def main() -> None:
    """Print every figure; the batch is ten thousand trials."""
    designs()
    trials()


if __name__ == "__main__":
    main()
