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
        "Difference (or ratio) of areas under the event-free curves up to a horizon.",
        "Royston and Parmar 2013, doi:10.1186/1471-2288-13-152",
    ),
    "robust ancova": (
        "Analysis of covariance with errors that hold where spread differs between people (HC3).",
        "MacKinnon and White 1985, doi:10.1016/0304-4076(85)90158-7",
    ),
    "mmrm": (
        "Mixed model for repeated measures: arm by visit, covariates by visit, correlated visits of one person, fitted by REML; missing visits count as missing at random.",
        "Mallinckrodt et al. 2008, doi:10.1177/009286150804200402; degrees of freedom: Kenward and Roger 1997, doi:10.2307/2533558",
    ),
    "conditional mean imputation": (
        "Missing visits take their expected value under the stated assumption; analysis of covariance at the last visit; error by the jackknife over people.",
        "Wolbers et al. 2022, doi:10.1002/pst.2234",
    ),
    "multiple imputation": (
        "Missing visits drawn many times under the stated assumption; analysis of covariance in each; pooled by Rubin’s rules.",
        "Carpenter, Roger and Kenward 2013, doi:10.1080/10543406.2013.834911; Barnard and Rubin 1999, doi:10.1093/biomet/86.4.948",
    ),
    "stratified score interval": (
        "Difference of two proportions across strata, with a score interval.",
        "Miettinen and Nurminen 1985, doi:10.1002/sim.4780040211",
    ),
    "standardised logistic": (
        "Logistic regression on arm and covariates; the average risk were everybody on each arm, and its contrast (g-computation).",
        "Ge et al. 2011, doi:10.1177/009286151104500409; Ye et al. 2023, doi:10.1080/24754269.2023.2205802",
    ),
    "aalen-johansen difference": (
        "Difference of cumulative incidences at a landmark, where other events can come first.",
        "Aalen and Johansen 1978, Scand J Statist 5:141",
    ),
    "max-combo": (
        "The largest of several weighted log-rank tests, early, middle and late, with their joint distribution.",
        "Lin et al. 2020, doi:10.1080/19466315.2019.1697738",
    ),
    "gray": (
        "Test of equal cumulative incidence where other events can come first.",
        "Gray 1988, doi:10.1214/aos/1176350951",
    ),
    "fine-gray": (
        "Regression of the hazard of the subdistribution: people with a competing event stay at risk.",
        "Fine and Gray 1999, doi:10.1080/01621459.1999.10474144",
    ),
    "proportional rates": (
        "Proportional rates of repeated events (Andersen and Gill’s model), with errors that allow events of one person to depend on each other.",
        "Lin, Wei, Yang and Ying 2000, doi:10.1111/1467-9868.00259",
    ),
    "negative binomial": (
        "Negative binomial regression of the number of events, with the time followed as exposure.",
        "Keene et al. 2007, doi:10.1002/pst.250",
    ),
    "mean cumulative function": (
        "Mean number of events per person up to a horizon, with deaths counted as ends; difference between arms.",
        "Ghosh and Lin 2000, doi:10.1111/j.0006-341X.2000.00554.x",
    ),
    "win statistics": (
        "Every person on one arm is compared with every person on the other, on the most serious outcome first.",
        "Pocock et al. 2012, doi:10.1093/eurheartj/ehr352; Bebu and Lachin 2016, doi:10.1093/biostatistics/kxv032",
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
