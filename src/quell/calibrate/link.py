"""From inflammation lowered to events prevented: a hierarchical meta-regression over trials and genes that disagree.

    log HR of trial j of pathway p ~ N(-b_p x_j, se_j^2 + tau^2)        x_j: log C-reactive protein lowered
    b_p = 0 with probability 1 - pi ("nothing"), else N(beta, omega^2)
    per allele of IL6R (lifelong): log OR ~ N(-g b x, se^2), g the factor by which a lifetime outdoes a trial

Priors: beta ~ N(0, 0.5), omega ~ half-normal(0.3), tau ~ half-normal(0.15), pi ~ uniform, ln g ~ N(ln 2, 0.5): one to the
threefold of cholesterol (Ference 2012). A NEW pathway, such as interleukin-2's, gets b = 0 with probability 1 - pi, else a
draw of N(beta, omega^2). That is ``crp_hazard`` of a calibrated world; ``uptake_hazard`` is its prior times b over the
table's ``crp_hazard``: what is nothing for events is nothing through the wall as well. It rests on very few pathways.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import io
import json
import pathlib
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import polars as pl

import quell
from quell import keys
from quell.calibrate.rows import Z95, figures_used
from quell.delivery import write_whole
from quell.keys import jax
from quell.parquet import read_parquet
from quell.posterior import LABEL, MOST_BYTES, REMADE, PosteriorError, digest_of_draws
from quell.sentences import BadInput

PATHWAYS = ("interleukin-1", "colchicine", "methotrexate", "interleukin-6")
TRIALS = ("E121.150", "E124", "E126", "E128", "E130")  # one comparison of each trial
SHARED = (
    0.37  # of the variance of a CANTOS comparison is the placebo arm's: 3,344 people to about 2,240 a dose (recalled)
)
SPIKE = 0.0  # what "nothing" is worth
KEY, FILE = 5, "link.parquet"
SAMPLED = ("beta", "omega", "tau", "real", "longer", "unsure")


class Comparison(NamedTuple):
    """One randomised comparison (or allele) on the log scale."""

    source: str
    pathway: str
    trial: str
    effect: float  # log hazard or odds ratio
    error: float
    lowered: float  # log C-reactive protein, active over control, sign changed
    lifelong: bool = False


class Pooled(NamedTuple):
    """A random-effects summary (DerSimonian and Laird 1986): ratio with 95 % interval, spread, and for a new trial."""

    ratio: float
    lower: float
    upper: float
    tau: float
    new_lower: float
    new_upper: float


class Linked(NamedTuple):
    """Posterior draws of the meta-regression, of shape (draws,) or (draws, pathways), and of a new pathway."""

    beta: np.ndarray
    omega: np.ndarray
    tau: np.ndarray
    real: np.ndarray  # pi: the chance that a pathway does anything
    effects: np.ndarray  # b of each pathway, 0 where it does nothing
    new: np.ndarray  # b of a new pathway
    chains: dict[str, np.ndarray]  # (chains, draws) of what was sampled, for diagnostics
    divergences: int


def _ratio(id_: str) -> tuple[float, float]:
    """Log of a published ratio and its standard error."""
    (one,) = figures_used((id_,), "before-ivory")
    low, high = one.interval or (np.nan, np.nan)
    return float(np.log(one.value)), float(np.log(high / low)) / (2 * Z95)


def comparisons() -> list[Comparison]:
    """What the link is learned from: CANTOS (three doses), COLCOT, LoDoCo2, CLEAR, CIRT and the IL6R allele.

    >>> [round(one.lowered, 2) for one in comparisons()][:3]
    [0.3, 0.46, 0.53]
    """
    found = []
    for dose in ("50", "150", "300"):
        (crp,) = figures_used((f"E120.{dose}",), "before-ivory")
        lowered = -float(np.log1p(crp.value / 100))
        found.append(Comparison(f"E121.{dose}", "interleukin-1", "CANTOS", *_ratio(f"E121.{dose}"), lowered))
    change, level = figures_used(("E129", "E129.placebo"), "before-ivory")
    lowered = -float(np.log1p(change.value / level.value))
    for id_, trial in (("E124", "COLCOT"), ("E126", "LoDoCo2"), ("E128", "CLEAR")):
        found.append(Comparison(id_, "colchicine", trial, *_ratio(id_), lowered))
    found.append(Comparison("E130", "methotrexate", "CIRT", *_ratio("E130"), 0.0))
    crp, odds = figures_used(("E132.crp", "E132.chd"), "before-ivory")
    low, high = odds.interval or (np.nan, np.nan)
    error = float(np.log1p(high / 100) - np.log1p(low / 100)) / (2 * Z95)
    effect, lowered = float(np.log1p(odds.value / 100)), -float(np.log1p(crp.value / 100))
    return [*found, Comparison("E132.chd", "interleukin-6", "IL6R", effect, error, lowered, lifelong=True)]


def pooled(ids: tuple[str, ...] = TRIALS) -> Pooled:
    """Random effects by DerSimonian and Laird (1986), with the interval for a new trial (Higgins 2009, t on k - 2).

    >>> one = pooled()
    >>> f"{one.ratio:.2f} ({one.lower:.2f} to {one.upper:.2f}), tau {one.tau:.3f}"
    '0.85 (0.75 to 0.97), tau 0.115'
    """
    from scipy import stats

    effects, errors = (np.array(x) for x in zip(*map(_ratio, ids), strict=True))
    w = errors**-2
    fixed = (w * effects).sum() / w.sum()
    q, k = (w * (effects - fixed) ** 2).sum(), len(ids)
    tau2 = max(0.0, (q - (k - 1)) / (w.sum() - (w**2).sum() / w.sum()))
    v = 1 / (errors**2 + tau2)
    mean, se = (v * effects).sum() / v.sum(), v.sum() ** -0.5
    reach = stats.t.ppf(0.975, k - 2) * np.sqrt(tau2 + se**2)
    ends = (mean, mean - Z95 * se, mean + Z95 * se)
    ratio, lower, upper = (float(np.exp(one)) for one in ends)
    return Pooled(ratio, lower, upper, float(np.sqrt(tau2)), float(np.exp(mean - reach)), float(np.exp(mean + reach)))


def _model(rows: list[Comparison]) -> Any:
    import numpyro
    import numpyro.distributions as dist

    change, level = figures_used(("E129", "E129.placebo"), "before-ivory")
    low, high = change.interval or (np.nan, np.nan)
    blur = float((high - low) / (2 * Z95) / (level.value + change.value))

    def model() -> None:
        beta = numpyro.sample("beta", dist.Normal(0, 0.5))
        omega = numpyro.sample("omega", dist.HalfNormal(0.3))
        tau = numpyro.sample("tau", dist.HalfNormal(0.15))
        real = numpyro.sample("real", dist.Uniform(0, 1))
        longer = jnp.exp(numpyro.sample("longer", dist.Normal(np.log(2), 0.5)))
        unsure = numpyro.sample("unsure", dist.Normal(0, blur))  # of how much colchicine lowers
        turn = numpyro.sample("turn", dist.Normal(0, 1).expand([len(PATHWAYS)]))
        both = pathway_likelihoods(rows, beta + omega * turn, tau, longer, unsure)
        chance = jnp.logaddexp(jnp.log(real) + both[:, 0], jnp.log1p(-real) + both[:, 1])
        numpyro.factor("evidence", chance.sum())
        numpyro.deterministic("something", jax.nn.sigmoid(jnp.log(real / (1 - real)) + both[:, 0] - both[:, 1]))

    return model


def pathway_likelihoods(rows: list[Comparison], effects: Any, tau: Any, longer: Any, unsure: Any) -> Any:
    """Log likelihood of each pathway's comparisons if it has its effect, and if it has none; shape (pathways, 2)."""
    found = []
    for place, pathway in enumerate(PATHWAYS):
        mine = [one for one in rows if one.pathway == pathway]
        y, se = (np.array([getattr(one, what) for one in mine]) for what in ("effect", "error"))
        x = np.array([one.lowered for one in mine]) + (unsure if pathway == "colchicine" else 0.0)
        x = x * jnp.where(np.array([one.lifelong for one in mine]), longer, 1.0)
        covariance = _covariance(mine, se, tau)
        found.append(jnp.stack([_normal(y + b * x, covariance) for b in (effects[place], SPIKE)]))
    return jnp.stack(found)


def _covariance(mine: list[Comparison], se: np.ndarray, tau: Any) -> Any:
    """Errors of comparisons; those of one trial share its placebo arm and its deviation. An allele has no trial of its own."""
    same = np.array([[a.trial == b.trial for b in mine] for a in mine], float)
    errors = np.outer(se, se) * (np.eye(len(se)) + SHARED * (same - np.eye(len(se))))
    return errors + tau**2 * same * (not mine[0].lifelong)


def _normal(gap: Any, covariance: Any) -> Any:
    root = jnp.linalg.cholesky(covariance)
    scaled = jax.scipy.linalg.solve_triangular(root, gap, lower=True)
    return -0.5 * (scaled**2).sum() - jnp.log(jnp.diagonal(root)).sum() - 0.5 * gap.shape[0] * np.log(2 * np.pi)


def fit(key: int | keys.Key = KEY, draws: int = 2000, chains: int = 4) -> Linked:
    """The posterior of the link by NUTS (Hoffman and Gelman 2014), whether each pathway is real summed out exactly."""
    import numpyro
    from numpyro.infer import MCMC, NUTS

    here = keys.at(key, "link")
    sampler = NUTS(_model(comparisons()), target_accept_prob=0.99)
    run = MCMC(
        sampler, num_warmup=1000, num_samples=draws, num_chains=chains, chain_method="vectorized", progress_bar=False
    )
    numpyro.enable_x64()
    run.run(keys.at(here, "sampler"), extra_fields=("diverging",))
    apart = {name: np.asarray(value) for name, value in run.get_samples(group_by_chain=True).items()}
    flat = {name: value.reshape(-1, *value.shape[2:]) for name, value in apart.items()}
    slab = flat["beta"][:, None] + flat["omega"][:, None] * flat["turn"]
    chance = np.asarray(jax.random.uniform(keys.at(here, "real"), slab.shape))
    coin, turn = (np.asarray(draw(keys.at(here, "new", what), flat["real"].shape)) for what, draw in _NEW)
    new = np.where(coin < flat["real"], flat["beta"] + flat["omega"] * turn, SPIKE)
    return Linked(
        beta=flat["beta"],
        omega=flat["omega"],
        tau=flat["tau"],
        real=flat["real"],
        effects=np.where(chance < flat["something"], slab, SPIKE),
        new=new,
        chains={name: apart[name] for name in SAMPLED},
        divergences=int(np.asarray(run.get_extra_fields()["diverging"]).sum()),
    )


_FIELDS = {"version": str, "key": int, "divergences": int, "comparisons": str, "draws": str}  # of a file's provenance
_NEW = (("coin", jax.random.uniform), ("turn", jax.random.normal))


# -- kept as a file --------------------------------------------------------------------------------------------------
def write(path: pathlib.Path, found: Linked, key: int = KEY) -> None:
    """Write the draws as one Parquet file, whole or not at all, with what they follow from and their digest inside."""
    table = _table(found)
    told = {"version": quell.__version__, "key": key, "divergences": found.divergences}
    told |= {"comparisons": _digest_of_comparisons(), "draws": digest_of_draws(table)}
    content = io.BytesIO()
    table.write_parquet(content, compression="zstd", metadata={LABEL: json.dumps(told, sort_keys=True)})
    write_whole(path, content.getvalue())


def read(path: pathlib.Path) -> Linked:
    """The draws of a file; raises PosteriorError in a sentence where it is damaged, altered, or of other comparisons.

    >>> import tempfile
    >>> copy = pathlib.Path(tempfile.mkdtemp()) / FILE
    >>> write(copy, shipped())
    >>> bool((read(copy).new == shipped().new).all())
    True
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise PosteriorError(f"{path.name} is larger than the {MOST_BYTES:,} bytes that are read. {REMADE}")
        table = read_parquet(path)
        told = json.loads(pl.read_parquet_metadata(path).get(LABEL, ""))
    except FileNotFoundError:
        raise PosteriorError(f"{path.name} is not there. {REMADE}") from None
    except PosteriorError:
        raise
    except BadInput as error:
        raise PosteriorError(f"{error} {REMADE}") from None
    except (ValueError, OSError, pl.exceptions.PolarsError):
        told = None
    if not isinstance(told, dict) or not _FIELDS.items() <= {one: type(told[one]) for one in told}.items():
        raise PosteriorError(f"{path.name} does not say where its draws come from, so they cannot be trusted. {REMADE}")
    _agrees(path.name, table, told)
    return _linked(table, told["divergences"])


@functools.cache
def shipped() -> Linked:
    """The link shipped with the package, made by ``quell calibrate`` with ``fit`` at its usual key.

    >>> shipped().divergences, shipped().effects.shape
    (0, (8000, 4))
    """
    return read(pathlib.Path(str(importlib.resources.files("quell.posterior") / FILE)))


def _table(found: Linked) -> pl.DataFrame:
    """One row a draw: its chain, what was sampled, the effect of each pathway and of a new one."""
    chains, draws = found.chains["beta"].shape
    columns: dict[str, Any] = {"chain": np.repeat(np.arange(chains), draws)}
    columns |= {name: found.chains[name].ravel() for name in SAMPLED}
    columns |= {f"effect: {name}": found.effects[:, i] for i, name in enumerate(PATHWAYS)}
    return pl.DataFrame(columns | {"new": found.new})


def _linked(table: pl.DataFrame, divergences: int) -> Linked:
    flat = {name: table[name].to_numpy() for name in SAMPLED}
    chains = {name: one.reshape(table["chain"].n_unique(), -1) for name, one in flat.items()}
    effects = table.select(f"effect: {name}" for name in PATHWAYS).to_numpy()
    beta, omega, tau, real = (flat[name] for name in ("beta", "omega", "tau", "real"))
    return Linked(beta, omega, tau, real, effects, table["new"].to_numpy(), chains, divergences)


def _agrees(name: str, table: pl.DataFrame, told: dict[str, Any]) -> None:
    """Raises PosteriorError where the contents are not those written, or follow from other comparisons than today's."""
    if digest_of_draws(table) != told["draws"]:
        raise PosteriorError(
            f"{name} was changed after it was made: its draws do not agree with the digest inside. {REMADE}"
        )
    wanted = ["chain", *SAMPLED, *(f"effect: {one}" for one in PATHWAYS), "new"]
    if table.columns != wanted or not all(np.isfinite(table[one].to_numpy()).all() for one in wanted[1:]):
        raise PosteriorError(f"{name} does not hold the draws of the link that this version reads. {REMADE}")
    if not table.height or table["chain"].value_counts()["count"].n_unique() != 1:
        raise PosteriorError(f"{name} holds chains of different lengths, or none. {REMADE}")
    if told["comparisons"] != _digest_of_comparisons():
        raise PosteriorError(f"{name} follows from other published comparisons than this version's. {REMADE}")


def _digest_of_comparisons() -> str:
    """SHA-256 of what the link is learned from: the comparisons and how far colchicine lowered inflammation."""
    told = [*comparisons(), *(one.value for one in figures_used(("E129", "E129.placebo"), "before-ivory"))]
    return hashlib.sha256(repr(told).encode()).hexdigest()


def summary(found: Linked) -> dict[str, Any]:
    """What the link says, as numbers: by pathway, for a new one, and the random-effects summary beside it."""
    lost = found.new <= 0
    return {
        "pathways": {
            name: {**_quantiles(one), "nothing": float((one == SPIKE).mean())}
            for name, one in zip(PATHWAYS, found.effects.T, strict=True)
        },
        "new": {**_quantiles(found.new), "nothing": float((found.new == SPIKE).mean()), "no_benefit": float(lost.mean())},
        "hyper": {name: _quantiles(getattr(found, name)) for name in ("beta", "omega", "tau", "real")},
        "pooled": pooled()._asdict(),
        "divergences": found.divergences,
    }  # fmt: skip


def _quantiles(values: np.ndarray) -> dict[str, float]:
    low, mid, high = np.quantile(values, (0.05, 0.5, 0.95))
    return {"lower": float(low), "median": float(mid), "upper": float(high)}
