"""docs/reference/analyses.md: what a protocol may ask, made from what the code declares. Run: python -m tools.analyses_page"""

from __future__ import annotations

import pathlib

from quell.questions import METHODS
from quell.report.methods import METHODS as WORDS

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "reference" / "analyses.md"

HEAD = """# What a protocol may ask

*Made by `python -m tools.analyses_page` from what the code declares.*

An `[[analyses]]` entry names an estimand and a method. The estimand says what is estimated (its `summary`), of which endpoint, in
whom, and what is done about intercurrent events; the method must estimate that summary and read that kind of endpoint, or
the protocol is refused with the methods that would fit.

```toml
[[endpoints]]
name = "hsCRP over time"
kind = "longitudinal"
quantity = "hsCRP"
visits = ["day 26", "day 40", "day 61"]      # compared at the last, unless visit = "…" says otherwise

[[estimands]]
name = "hsCRP had nobody stopped"
endpoint = "hsCRP over time"
active = ["aldesleukin"]
control = "placebo"
summary = "difference in means"
intercurrent_events = [
    { event = "stopping the drug", strategy = "hypothetical", recorded = ["stopping treatment"] },
]

[[analyses]]
name = "hsCRP had nobody stopped"
estimand = "hsCRP had nobody stopped"
method = "mmrm"
adjust = ["baseline"]
covariance = "unstructured"
degrees = "kenward-roger-linear"
```

## Methods

| method | what it does | estimates | of an endpoint that is | published |
|---|---|---|---|---|
"""

TAIL = """
## What else an analysis may say

| entry | for | meaning |
|---|---|---|
| `adjust` | models | covariates; `baseline` is the endpoint's own |
| `factors`, `strata` | models; tests and Cox regression | categories: in a linear model both are factors; a log-rank test and Cox regression are stratified by `strata` |
| `level` | all | of the interval, 0.95 unless said |
| `role` | all | primary (exactly one), secondary, sensitivity, supplementary, exploratory |
| `covariance` | `mmrm` | unstructured (unless said), heterogeneous Toeplitz, Toeplitz, heterogeneous autoregressive, autoregressive, heterogeneous compound symmetry, compound symmetry, heterogeneous ante-dependence, ante-dependence |
| `degrees` | `mmrm` | kenward-roger-linear (unless said; what SAS's ddfm=kr gives for an unstructured covariance), kenward-roger (the full form, as R's mmrm), kenward-roger-sas (SAS's ddfm=kr for every structure), satterthwaite, empirical-jackknife |
| `assume` | imputation | missing at random, jump to reference, copy reference, copy increments in reference |
| `delta` | imputation | added to what is imputed on the active arm |
| `prior` | estimates | `{ mean = -0.1, sd = 0.2, source = "…" }`: the claim is then the posterior (median, credible interval, chance of benefit); of the logarithm for a ratio; `weight` and `vague_sd` make it a robust mixture |
| `subgroups` | ancova, Cox, score and exact risks | factors: the effect within each level as a claim of its own, and the test of interaction |
| `modifiers` | ancova | covariates (`baseline` too): how much the effect grows per unit, a difference of slopes |

## Several analyses under one error

```toml
[testing]
procedure = "fixed sequence"      # or bonferroni, holm, hochberg, hommel, co-primary, graphical (with weights and transitions)
analyses = ["index vessel TBRmax", "hsCRP"]
```

Their claims carry `adjusted_p` beside `p`; the page shows both and says what is not adjusted.

## Intercurrent events

| strategy | a measurement | a time to an event |
|---|---|---|
| treatment policy | values afterwards count | goes on |
| hypothetical | values afterwards are missing, and the method fills them as it must | ends there, without the event |
| while on treatment | the last value before it | ends there, without the event |
| composite | the worst value anybody had at that visit; no response | ends there, with an event |
| principal stratum | nothing can be done: who belongs to it is never seen; the claim says so | the same |

`recorded` says how the record shows it: kinds of events in the table `events`, `stopping treatment` (from the table `milestones`),
or `already derived` where the values stand as the strategy wants them. A strategy other than treatment policy without it is
only stated, and the claim warns. A composite's worst value is a choice that moves the mean: a ranked or trimmed analysis
(`quell.analysis.strategies.composite_trimmed`) asks only that the event is worse than any value.
"""


def page() -> str:
    """The page, from the declared methods."""
    rows = []
    for name, way in METHODS.items():
        what, source = WORDS[name]
        rows.append(f"| `{name}` | {what} | {', '.join(way.summaries)} | {', '.join(way.kinds)} | {source} |\n")
    return HEAD + "".join(rows) + TAIL


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
