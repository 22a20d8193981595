"""Robust ("empirical", sandwich) covariance of the coefficients of a repeated-measures model, person by person.

    Phi [ sum_i z_i z_i' ] Phi,    z_i = X~_i' A_i r~_i,    X~ = W^1/2 X,  r~ = W^1/2 (y - X b),  W = V^-1,

with A_i = I (CR0: Liang and Zeger 1986, doi:10.1093/biomet/73.1.13), (I - H_ii)^-1 (CR3, the jackknife) or
(I - H_ii)^-1/2 (CR2: Bell and McCaffrey 2002; Pustejovsky and Tipton 2018, doi:10.1080/07350015.2016.1247004), H the
leverage. CR2 needs the square root of a matrix, of which there are several: mmrm takes the symmetric one of I - H_ii, and
clubSandwich (K (I - H_ii) K)^-1/2 K with K = L'L, V = LL'. Degrees of freedom are Satterthwaite's under the working covariance, as in those papers, mmrm and clubSandwich.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from quell.analysis.reml import Fit

POWERS = {
    "empirical": 0.0,
    "empirical-bias-reduced": -0.5,
    "empirical-bias-reduced-clubsandwich": -0.5,
    "empirical-jackknife": -1.0,
}


class Sandwich(NamedTuple):
    """A robust covariance (..., q, q), with what its degrees of freedom need: A X~ and X~, both (..., n, visits, q)."""

    covariance: np.ndarray
    bread: np.ndarray
    adjusted: np.ndarray
    whitened: np.ndarray

    def degrees(self, rows: np.ndarray) -> np.ndarray:
        """tr(M)^2 / tr(M^2) for l'b, M = G'G with G_i = (I - H)_.i A_i X~_i Phi l; rows (..., q)."""
        with np.errstate(all="ignore"):
            direction = self.bread @ rows[..., None]
            force = (self.adjusted @ direction[..., None, :, :])[..., 0]
            own = np.sum(force**2, -1)
            through = np.einsum("...ntq,...nt->...nq", self.whitened, force)
            carried = through @ self.bread
            shared = np.sum(carried * through, -1)
            cross = np.swapaxes(through, -1, -2) @ carried
            trace = np.sum(own, -1) - np.einsum("...qq->...", cross)
            squares = np.sum(own**2 - 2 * own * shared, -1) + np.einsum("...qr,...rq->...", cross, cross)
            return trace**2 / squares


def sandwich(outcome: np.ndarray, design: np.ndarray, fit: Fit, group: np.ndarray, method: str) -> Sandwich:
    """The robust covariance of a fit: outcome (..., n, visits) NaN where not used, design (..., n, visits, q).

    group (..., n) says which covariance matrix each person has. method is one of `POWERS`.
    """
    observed = np.isfinite(outcome) & np.isfinite(design).all(-1)
    visits = outcome.shape[-1]
    known = fit.converged[..., None, None, None]
    v = np.where(known, fit.visit_covariance, np.eye(visits))
    whose = np.clip(np.broadcast_to(group, observed.shape[:-1]), 0, v.shape[-3] - 1)
    own = np.take_along_axis(v, whose[..., None, None], axis=-3)
    both = observed[..., :, None] & observed[..., None, :]
    factor = np.linalg.cholesky(np.where(both, own, np.eye(visits)))
    root = np.linalg.inv(factor)
    x = np.where(observed[..., None], design, 0.0)
    beta = np.where(fit.converged[..., None], fit.coefficients, 0.0)
    residual = np.where(observed, outcome - (x @ beta[..., None, :, None])[..., 0], 0.0)
    whitened = root @ x
    bread = np.where(fit.converged[..., None, None], fit.covariance, np.nan)
    turn = np.swapaxes(factor, -1, -2) @ factor if method.endswith("clubsandwich") else None
    adjusted = _adjust(whitened, np.nan_to_num(bread), POWERS[method], turn)
    score = np.einsum("...ntq,...nt->...nq", adjusted, (root @ residual[..., None])[..., 0])
    meat = np.swapaxes(score, -1, -2) @ score
    return Sandwich(bread @ meat @ bread, bread, adjusted, whitened)


def _adjust(whitened: np.ndarray, bread: np.ndarray, power: float, turn: np.ndarray | None) -> np.ndarray:
    """A_i' X~_i: (I - H_ii) to a power, turned by K where given; directions of leverage one are left out."""
    if power == 0:
        return whitened
    kept = np.eye(whitened.shape[-2]) - whitened @ bread[..., None, :, :] @ np.swapaxes(whitened, -1, -2)
    values, vectors = np.linalg.eigh(kept if turn is None else turn @ kept @ turn)
    small = values <= 1e-8 * np.maximum(values[..., -1:], 0.0)
    scaled = np.where(small, 0.0, np.where(small, 1.0, values) ** power)
    result = vectors @ (scaled[..., None] * (np.swapaxes(vectors, -1, -2) @ whitened))
    return result if turn is None else turn @ result
