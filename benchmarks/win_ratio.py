"""How fast a hierarchical composite is compared: win ratio, trials per second on one core, beside a NumPy array per trial.

Run: python -m benchmarks.win_ratio
"""

from __future__ import annotations

import numpy as np

from benchmarks.clock import seconds
from quell.analysis import win_ratio as wins

YEAR = 365.0


def made(trials: int, patients: int) -> dict[str, np.ndarray]:
    """Two arms over a year: death in one of ten, infarction in one of six, and a walk at the end."""
    draw = np.random.default_rng(1)
    shape = (trials, patients)
    arm = np.broadcast_to(np.arange(patients) % 2, shape)
    death, infarction = (np.ceil(draw.exponential(YEAR / rate, shape)) for rate in (0.1, 0.17))
    until = np.minimum(death, YEAR)
    walk = np.where(death > YEAR, np.round(draw.normal(400 + 10 * arm, 60)), np.nan)
    return {
        "arm": arm,
        "until": until,
        "died": death <= YEAR,
        "time": np.minimum(infarction, until),
        "infarction": infarction <= until,
        "walk": walk,
    }


def ours(data: dict[str, np.ndarray]) -> np.ndarray:
    death = wins.Survival(data["until"], data["died"])
    infarction = wins.Survival(data["time"], data["infarction"])
    contest = wins.compare([death, infarction, wins.Measure(data["walk"], margin=30)], data["arm"])
    return wins.win_ratio(contest).p


def one_array_per_trial(data: dict[str, np.ndarray], k: int) -> tuple[float, float]:
    """Log win ratio and its error for one trial, all pairs in one array (the usual way to write it)."""
    active, control = data["arm"][k] == 1, data["arm"][k] == 0

    def pair(name: str) -> tuple[np.ndarray, np.ndarray]:
        return data[name][k][active][:, None], data[name][k][control][None]

    score = np.zeros((active.sum(), control.sum()))
    for time_name, event_name in (("until", "died"), ("time", "infarction")):
        (t1, t0), (e1, e0) = pair(time_name), pair(event_name)
        win = e0 & ((t1 > t0) | ((t1 == t0) & ~e1))
        loss = e1 & ((t0 > t1) | ((t1 == t0) & ~e0))
        score = np.where(score == 0, win.astype(float) - loss, score)
    w1, w0 = pair("walk")
    score = np.where(score == 0, (w1 - w0 >= 30).astype(float) - (w0 - w1 >= 30), score)
    win, loss = score == 1, score == -1
    p, q = win.mean(), loss.mean()
    parts = [(win.mean(axis) / p - loss.mean(axis) / q) for axis in (1, 0)]
    return float(np.log(p / q)), float(np.sqrt(sum(np.sum(part**2) / len(part) ** 2 for part in parts)))


def main() -> dict[str, float]:
    """Trials per second, ours and the peer's, for a small, a middling and a large trial."""
    speeds = {}
    for patients, trials, peer_trials in ((60, 4000, 400), (600, 400, 40), (9000, 3, 2)):
        data = made(trials, patients)
        speeds[f"win ratio, {patients} patients"] = trials / seconds(lambda data=data: ours(data))  # type: ignore[misc]
        spent = seconds(lambda data=data, m=peer_trials: [one_array_per_trial(data, k) for k in range(m)], 2)  # type: ignore[misc]
        speeds[f"one array per trial, {patients} patients"] = peer_trials / spent
    for name, speed in speeds.items():
        print(f"{name}: {speed:,.1f} trials/s")
    return speeds


if __name__ == "__main__":
    main()
