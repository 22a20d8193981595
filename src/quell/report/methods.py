"""How each number on a page was made, and where the method is published."""

from __future__ import annotations

from collections.abc import Iterable

from quell.protocol import Protocol

METHODS: dict[str, tuple[str, str]] = {
    "ancova": (
        "Analysis of covariance: the outcome on arm and baseline covariates by least squares, Student-t interval.",
        "Vickers and Altman 2001, doi:10.1136/bmj.323.7321.1123",
    ),
    "ancova on logs": (
        "Analysis of covariance of logarithms; the difference is turned back into a ratio of geometric means.",
        "Keene 1995, doi:10.1002/sim.4780140810",
    ),
    "two-sample t": (
        "Difference of means, not adjusted for baseline; unequal variances, Welch's degrees of freedom.",
        "Welch 1947, doi:10.1093/biomet/34.1-2.28",
    ),
    "slope on dose": (
        "Dose as a number in the analysis of covariance: the slope of the outcome on dose.",
        "ICH E4 (1994)",
    ),
    "score interval": (
        "Difference of two proportions with a score interval, which needs no event in either arm.",
        "Miettinen and Nurminen 1985, doi:10.1002/sim.4780040211",
    ),
    "fisher exact": ("Fisher’s exact test of two proportions.", "Fisher 1922, doi:10.2307/2340521"),
    "kaplan-meier difference": (
        "Difference of Kaplan–Meier event probabilities at a landmark; the arms' log-log intervals are joined.",
        "Zou and Donner 2008, doi:10.1002/sim.3095",
    ),
    "log-rank": ("Log-rank test of equal event curves.", "Mantel 1966, Cancer Chemother Rep 50:163"),
    "cox": ("Cox’s proportional hazards regression, Efron’s ties.", "Cox 1972, doi:10.1111/j.2517-6161.1972.tb00899.x"),
    "firth cox": (
        "Cox regression with Firth’s penalty and a profile-likelihood interval: finite where an arm has no event.",
        "Heinze and Schemper 2001, doi:10.1111/j.0006-341X.2001.00114.x",
    ),
    "restricted mean": (
        "Difference of areas under the event-free curves up to a horizon.",
        "Royston and Parmar 2013, doi:10.1186/1471-2288-13-152",
    ),
}

REPORTING = (
    ("Flow of people and baseline table, without p-values", "CONSORT 2025, doi:10.1136/bmj-2024-081123"),
    ("Estimands in five attributes", "ICH E9(R1) (2019)"),
)

REGRESSION = (
    "Change against baseline: the dashed line is the least-squares line of the control arm. High first readings fall and "
    "low ones rise with no treatment at all; an effect is the distance from this line.",
    "Bland and Altman 1994, doi:10.1136/bmj.308.6942.1499",
)
CURVES = (
    "Event curves: one minus Kaplan and Meier’s estimate, log-log intervals; deaths that the endpoint does not count are censored.",
    "Kaplan and Meier 1958, doi:10.1080/01621459.1958.10501452",
)


def used(protocol: Protocol, *, pairs: bool, curves: bool) -> Iterable[tuple[str, str, str]]:
    """The methods a page rests on: which claims, what was done, and its reference."""
    for method in dict.fromkeys(one.method for one in protocol.analyses):
        what, reference = METHODS.get(method, (method, ""))
        names = [one.name for one in protocol.analyses if one.method == method]
        yield ", ".join(names), what, reference
    if pairs:
        yield "Figures of change", *REGRESSION
    if curves:
        yield "Figures of events", *CURVES
    for what, reference in REPORTING:
        yield "This page", what + ".", reference
