"""What an unseen value is taken to be: missing at random, or as in the reference arm after the event.

Each subject's outcomes over the visits are multivariate normal given the covariates and the arm. After the event the
means, and the covariances where the arms have their own, are made from those of the subject's arm and of the reference
arm (Carpenter, Roger and Kenward 2013, doi:10.1080/10543406.2013.834911), as R's rbmi does:

    MAR   own mean throughout            J2R   own before, the reference arm's mean after (jump to reference)
    CR    the reference arm's throughout CIR   own before, then the reference arm's increments (copy increments)
    LMCF  own before, the last of those means after (last mean carried forward)

Unseen values are then drawn from (or set to the mean of) that normal distribution given the subject's seen values:

    mean = m_u + S_us S_ss^-1 (y_s - m_s),    covariance = S_uu - S_us S_ss^-1 S_su      (u unseen, s seen)
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import numpy as np

from quell.analysis.claim import ClaimError

Rule = Literal["MAR", "J2R", "CR", "CIR", "LMCF"]
RULES: tuple[str, ...] = get_args(Rule)
# How a rule is said in the method of a claim.
WORDS: dict[str, str] = {
    "MAR": "missing at random",
    "J2R": "jump to reference",
    "CR": "copy reference",
    "CIR": "copy increments in reference",
    "LMCF": "last mean carried forward",
}


class Assumption(NamedTuple):
    """What is assumed of values nobody saw: the rule, the arm that is the reference, and a shift of what is imputed.

    `delta` is added to every imputed value and broadcasts to (..., n, visits): a number, or for one arm only
    ``np.where(arm == 1, delta, 0.0)[..., None]``. The reference arm itself is always imputed at random.
    `covariance` is "pooled" over the arms, or "by arm": then each arm has a regression of its own too.
    """

    rule: Rule = "MAR"
    reference: int = 0
    delta: np.ndarray | float = 0.0
    covariance: Literal["pooled", "by arm"] = "pooled"

    def checked(self) -> Assumption:
        """Itself, or ClaimError where a word is not one of its words."""
        if self.rule not in RULES:
            raise ClaimError(f"The imputation rule is '{self.rule}'; choose {', '.join(map(repr, RULES))}.")
        if self.covariance not in ("pooled", "by arm"):
            raise ClaimError(f"The covariance is '{self.covariance}'; choose 'pooled' or 'by arm'.")
        return self


AT_RANDOM = Assumption()


class Normal(NamedTuple):
    """The outcomes of every arm for each of `draws` sets of parameters, for trials flattened to one axis.

    coefficients (trials, draws, arms, p, visits) are of a design (1, covariates) per subject; covariance is
    (trials, draws, arms, visits, visits).
    """

    coefficients: np.ndarray
    covariance: np.ndarray

    def means(self, design: np.ndarray, arm: np.ndarray) -> np.ndarray:
        """Mean (trials, draws, n, visits) of subjects with design (trials, n, p) were they in `arm` (trials, n)."""
        result = np.zeros((*self.coefficients.shape[:2], design.shape[1], self.coefficients.shape[-1]))
        for code in range(self.coefficients.shape[2]):
            member = (arm == code)[:, None, :, None]
            if member.any():
                result += np.where(member, design[:, None] @ self.coefficients[:, :, code], 0.0)
        return result


class Subjects(NamedTuple):
    """Who is imputed, for trials flattened to one axis: outcome (trials, n, visits), the rest (trials, n).

    `affected` is the first visit after the event, the number of visits where there is none; `design` (trials, n, p) is
    (1, covariates), zero where not `kept`.
    """

    outcome: np.ndarray
    arm: np.ndarray
    affected: np.ndarray
    design: np.ndarray
    kept: np.ndarray

    @property
    def after(self) -> np.ndarray:
        """Which values come after the event, (trials, n, visits)."""
        return np.arange(self.outcome.shape[-1]) >= self.affected[..., None]


def mean_under(rule: Rule, own: np.ndarray, reference: np.ndarray, affected: np.ndarray) -> np.ndarray:
    """Marginal mean (..., visits) of a subject with an event, from the means of the own and of the reference arm.

    affected (...) is the first visit after the event. An event before the first visit leaves nothing to add increments
    to, so that CIR is then J2R (as in rbmi), and nothing to carry forward, so that LMCF is then NaN.

    >>> own, reference = np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.5, 0.7])
    >>> [mean_under(rule, own, reference, np.array(1)).round(3).tolist() for rule in ("J2R", "CIR", "LMCF")]
    [[1.0, 0.5, 0.7], [1.0, 1.5, 1.7], [1.0, 1.0, 1.0]]
    """
    visits = own.shape[-1]
    affected = np.broadcast_to(affected, own.shape[:-1])[..., None]
    after, never, first = np.arange(visits) >= affected, affected >= visits, affected == 0
    before = np.clip(affected - 1, 0, visits - 1)
    if rule == "MAR":
        return own
    if rule == "J2R":
        return np.where(after, reference, own)
    if rule == "CR":
        return np.where(never, own, reference)
    last = np.take_along_axis(own, before, -1)
    if rule == "LMCF":
        return np.where(after, np.where(first, np.nan, last), own)
    step = reference - np.take_along_axis(reference, before, -1)
    return np.where(after, np.where(first, reference, last + step), own)


def covariance_under(rule: Rule, own: np.ndarray, reference: np.ndarray, affected: int) -> np.ndarray:
    """Marginal covariance (..., visits, visits) of a subject whose event precedes visit `affected`.

    For J2R and CIR it is the own arm's before the event, and what follows has the reference arm's regression on what
    was before, and its scatter about that (Carpenter, Roger and Kenward 2013, section 4.3); CR has the reference arm's.

    >>> own, reference = np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([[1.0, 0.5], [0.5, 1.0]])
    >>> covariance_under("J2R", own, reference, 1).tolist()
    [[2.0, 1.0], [1.0, 1.25]]
    """
    visits = own.shape[-1]
    if rule in ("MAR", "LMCF") or affected >= visits:
        return own
    if rule == "CR" or affected == 0:
        return reference
    slope = np.linalg.solve(reference[..., :affected, :affected], reference[..., :affected, affected:])
    first = own[..., :affected, :affected]
    cross = first @ slope
    scatter = reference[..., affected:, affected:] - np.swapaxes(slope, -1, -2) @ reference[..., :affected, affected:]
    last = scatter + np.swapaxes(slope, -1, -2) @ cross
    return np.block([[first, cross], [np.swapaxes(cross, -1, -2), last]])


def given_seen(covariance: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Regression of every visit on the seen, and a root of the covariance left to the unseen: (..., visits, visits).

    The mean of unseen values is m + weights (y - m) with y - m zero where unseen; root root' is their covariance. seen
    (visits,) is the same for the whole batch.

    >>> weights, root = given_seen(np.array([[4.0, 2.0], [2.0, 3.0]]), np.array([True, False]))
    >>> weights.tolist(), (root @ root.T).round(12).tolist()
    ([[0.0, 0.0], [0.5, 0.0]], [[0.0, 0.0], [0.0, 2.0]])
    """
    weights, root = np.zeros(covariance.shape), np.zeros(covariance.shape)
    s, u = np.flatnonzero(seen), np.flatnonzero(~np.asarray(seen))
    within = covariance[..., s[:, None], s]
    across = covariance[..., s[:, None], u]
    slope = np.linalg.solve(within, across)
    left = covariance[..., u[:, None], u] - np.swapaxes(across, -1, -2) @ slope
    weights[..., u[:, None], s] = np.swapaxes(slope, -1, -2)
    root[..., u[:, None], u] = root_of(left)
    return weights, root


def root_of(matrix: np.ndarray) -> np.ndarray:
    """A root R of R R' = matrix (..., k, k): Cholesky's, or where one matrix of the batch is singular, by eigenvalues.

    >>> float(root_of(np.array([[4.0]]))[0, 0]), root_of(np.ones((2, 2))).round(3).shape
    (2.0, (2, 2))
    """
    try:
        return np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        finite = np.isfinite(matrix).all((-1, -2), keepdims=True)
        values, vectors = np.linalg.eigh(np.where(finite, matrix, np.eye(matrix.shape[-1])))
        return vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]


def completed(
    subjects: Subjects, normal: Normal, assumption: Assumption, noise: np.ndarray | None = None
) -> np.ndarray:
    """Outcomes with every unseen value filled in, for each set of parameters: (trials, draws, n, visits).

    Without `noise` unseen values are set to their conditional mean; with standard normal noise of the shape of the
    result they are drawn. Values of subjects that are not kept stay as they are. Delta is added to what is filled in.
    """
    unseen = np.isnan(subjects.outcome) & subjects.kept[..., None]
    means = _means(subjects, normal, assumption)
    residual = np.where(np.isnan(subjects.outcome)[:, None], 0.0, subjects.outcome[:, None] - means)
    residual = np.where(np.isfinite(residual), residual, 0.0)
    filled = means
    for who, arm, affected, seen in _kinds(subjects, unseen, assumption):
        covariance = normal.covariance[:, :, arm]
        if assumption.covariance == "by arm":
            other = normal.covariance[:, :, assumption.reference]
            covariance = covariance_under(assumption.rule, covariance, other, affected)
        weights, root = given_seen(covariance, seen)
        some = np.flatnonzero(who.any(0))
        part = residual[:, :, some] @ np.swapaxes(weights, -1, -2)
        if noise is not None:
            part = part + noise[:, :, some] @ np.swapaxes(root, -1, -2)
        filled[:, :, some] += np.where(who[:, None, some, None], part, 0.0)
    delta = np.broadcast_to(assumption.delta, subjects.outcome.shape)[:, None]
    return np.where(unseen[:, None], filled + delta, subjects.outcome[:, None])


def _means(subjects: Subjects, normal: Normal, assumption: Assumption) -> np.ndarray:
    own = normal.means(subjects.design, subjects.arm)
    if assumption.rule == "MAR":
        return own
    other = normal.means(subjects.design, np.full(subjects.arm.shape, assumption.reference))
    affected = np.where(subjects.arm == assumption.reference, own.shape[-1], subjects.affected)
    return mean_under(assumption.rule, own, other, np.broadcast_to(affected[:, None], own.shape[:-1]))


def _kinds(
    subjects: Subjects, unseen: np.ndarray, assumption: Assumption
) -> list[tuple[np.ndarray, int, int, np.ndarray]]:
    """Subjects alike in what is seen (and, with covariances by arm, in arm and event): who, arm, affected, seen.

    With one covariance for all arms, every rule leaves it as it is, so that only what is seen matters.
    """
    visits = unseen.shape[-1]
    code = (~unseen).astype(np.int64) @ (1 << np.arange(visits))
    arm, affected = np.zeros_like(code), np.full_like(code, visits)
    if assumption.covariance == "by arm":
        arm = np.maximum(subjects.arm, 0)
        affected = np.where(arm == assumption.reference, visits, subjects.affected)
    label = (arm * (visits + 1) + affected) << visits | code
    kinds = []
    for one in np.unique(label[unseen.any(-1)]):
        seen = (int(one) >> np.arange(visits)) & 1 == 1
        rest = int(one) >> visits
        kinds.append((label == one, rest // (visits + 1), rest % (visits + 1), seen))
    return kinds
