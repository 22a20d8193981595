"""The Bayesian twin of a declared analysis: its estimate, read with the prior that the protocol states."""

from __future__ import annotations

from quell.analysis.bayes import effect, reading, surprise
from quell.analysis.borrowing import robust
from quell.analysis.claim import Estimate
from quell.analysis.mixtures import NormalMixture, normal
from quell.analysis.request import Request
from quell.questions import LONGER_IS_BETTER, Prior


def prior_of(prior: Prior) -> NormalMixture:
    """The declared prior as a distribution: a normal, or a normal and a vague one about no effect.

    >>> prior_of(Prior(mean=-0.2, sd=0.1, weight=0.5, vague_sd=1.0)).weights.tolist()
    [0.5, 0.5]
    """
    believed = normal(prior.mean, prior.sd)
    return believed if prior.vague_sd is None else robust(believed, normal(0.0, prior.vague_sd), 1 - prior.weight)


def twin(request: Request, found: Estimate, words: str, ratio: bool) -> tuple[Estimate, str]:
    """The posterior median and equal-tailed credible interval after an estimate, and how they were made in words.

    The estimate's own likelihood is used: Student's t where it has degrees of freedom, normal where it has none. A ratio
    is read on the log scale, where its prior lives. One study is also told the posterior chance of benefit.
    """
    prior = request.analysis.prior
    if prior is None:
        return found, words
    believed = prior_of(prior)
    posterior = effect(found, believed, ratio=ratio)
    _, conflict = surprise(found, believed, ratio=ratio)
    read = reading(posterior, found.n, level=found.level, ratio=ratio, warnings=found.warnings | conflict)
    scale = " of the logarithm" if ratio else ""
    source = f" ({prior.source})" if prior.source else ""
    said = f"{words}; Bayesian, prior{scale}: {believed.words}{source}; credible interval"
    if read.estimate.ndim == 0:
        above = request.endpoint.better == "higher" or request.estimand.summary in LONGER_IS_BETTER
        chance = float(posterior.above(0) if above else posterior.below(0))
        said += f"; posterior chance of benefit {chance:.3f}"
    return read, said
