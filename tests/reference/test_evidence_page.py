"""The kept figures of the evidence page against a new run of fewer patients: they must agree within Monte Carlo error."""

import json
import math
import pathlib

from quell.body import parameters
from tools import evidence_page, evidence_runs

KEPT = json.loads((pathlib.Path(evidence_page.__file__).parent.parent / "docs" / "evidence.json").read_text("utf-8"))


def test_a_new_run_agrees_with_the_page():
    for name, (value, error) in evidence_runs.everything(parameters.load(), 0.2).items():
        kept = KEPT["values"][name]
        allowed = (
            5 * math.hypot(error, kept["error"]) + 1e-6 * abs(value) + (0.26 if name == "tmax" else 0)
        )  # read each quarter hour
        assert abs(value - kept["value"]) <= allowed, (name, value, kept)
