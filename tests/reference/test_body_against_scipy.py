"""The engine against SciPy's LSODA at 1e-10 on the same equations, written out here a second time, without the engine."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp

from quell import keys
from quell.body import course, parameters, population

P = parameters.load()
DOSES, READINGS = (1, 2, 3, 4, 5, 12, 19), (2, 5, 6, 7, 12, 13, 19, 20, 26)
STATE = [
    "depot", "transit", "il2", "dividing", "expanded", "reserve", "cd122", "away", "teff", "nk", "bright", "ilc2",
    "marrow", "eosinophils", "calming", "resident", "recruited", "crp", "soluble",
]  # fmt: skip


def patients(count):
    draw = jax.vmap(lambda i: population.draw(keys.at(3, "subject", i), P, population.POPULATIONS["ivory"]))
    drawn = jax.tree.map(np.asarray, jax.jit(draw)(jnp.arange(count)))
    return drawn._replace(thresholds=jax.tree.map(lambda x: x * np.inf, drawn.thresholds))


def equations(p, begun):
    """The right-hand side for one patient; what only decays after the infarction is written in closed form."""
    cells = ("teff", "nk", "bright", "ilc2")
    keff = {c: p.intermediate_affinity / (1 + getattr(p, f"{c}_cd25") / p.cd25_doubling) for c in ("treg", *cells)}
    deficit, surge = float(begun.blood.deficit), float(begun.tissue.surge)
    supply, delay = float(begun.tissue.supply), float(begun.tissue.delay)

    def slope(t, y):
        x = dict(zip(STATE, y, strict=True))
        low = deficit * np.exp(-t / p.treg_deficit_time)
        free = 1 / (1 + x["soluble"] * p.soluble_receptor / p.soluble_affinity)
        treg, level = 1 - low + x["expanded"], p.picomolar_per_unit * free * x["il2"]
        occupied = {c: level / (level + keff[c]) for c in keff}
        strength = p.amplification * x["cd122"] * occupied["treg"]
        u = strength / (1 + strength)
        by_cells = (
            p.treg_seen
            * treg
            * x["cd122"]
            * p.treg_cd122
            * p.internalisation
            * 1e12
            / (6.02214076e23 * (keff["treg"] + level))
        )
        signals = {}
        for c in cells:
            balance = p.cd122_recovery / (p.cd122_recovery + p.cd122_loss * occupied[c])
            signals[c] = p.amplification * balance * occupied[c] / (1 + p.amplification * balance * occupied[c])
        births = p.growth * u * x["reserve"] * treg / (1 + x["expanded"] / p.niche)
        grown = {
            c: getattr(p, f"{c}_turnover") * (1 - x[c] + p.growth * getattr(p, f"{c}_response") * signals[c] * x[c]
                                              / (1 + (x[c] - 1) / p.niche)) for c in cells
        }  # fmt: skip
        calm = 1 + p.calming * x["calming"]
        arriving = supply * np.exp(-p.recruitment_decay * t) - delay * np.exp(
            -(p.recruitment_decay + p.recruitment_rise) * t
        )
        drive = (p.residual_crp + surge * np.exp(-p.surge_decay * t)) / (1 + p.calm_blood * p.calming * x["calming"])
        offered = p.calm_treg * x["expanded"] / (1 - low) + p.calm_ilc2 * (x["ilc2"] - 1)
        return [
            -p.absorption * x["depot"],
            p.absorption * x["depot"] - p.transit * x["transit"],
            (1000 * p.transit * x["transit"] - free * (p.clearance + by_cells) * x["il2"]) / p.volume,
            p.cycle_exit * (births - x["dividing"]),
            p.treg_return * (x["dividing"] - x["expanded"]),
            p.replenishment * (1 - x["reserve"]) - p.depletion * p.treg_return * p.growth * u * x["reserve"],
            p.cd122_recovery * (1 - x["cd122"]) - p.cd122_loss * occupied["treg"] * x["cd122"],
            p.margination * u * (1 - x["away"]) - p.margination_return * x["away"],
            *grown.values(),
            p.marrow_turnover * (x["ilc2"] * (1 + p.il5_response * signals["ilc2"]) - x["marrow"]),
            p.eosinophil_turnover * (x["marrow"] - x["eosinophils"]),
            p.tissue_entry * (offered - x["calming"]),
            p.wall_turnover * (1 / calm - x["resident"]),
            p.wall_turnover * (arriving / calm - x["recruited"]),
            p.crp_turnover * (drive - x["crp"]),
            p.soluble_turnover * (treg * (1 + p.soluble_response * u) - x["soluble"]),
        ]

    return slope


def reference(who, dose):
    """States at the readings, shape (readings, states)."""
    p = parameters.Parameters(*map(float, parameters.personal(P, who.own)))
    begun = course.start(who, P, 1)
    y = np.array(
        [
            0,
            0,
            0,
            0,
            0,
            1,
            1,
            0,
            1,
            1,
            1,
            1,
            1,
            1,
            0,
            1,
            begun.tissue.recruited,
            p.residual_crp + begun.tissue.crp,
            1 + begun.blood.soluble,
        ],
        float,
    )
    slope, enters = equations(p, begun), [day - 1 + P.absorption_lag for day in DOSES]
    stops = sorted({*enters, *(day - 1.0 for day in READINGS)})
    time, seen = 0.0, []
    for stop in stops:
        y = solve_ivp(slope, (time, stop), y, method="LSODA", rtol=1e-10, atol=1e-13).y[:, -1]
        if stop in enters:
            y[0] += p.bioavailability * dose
        else:
            seen.append(y.copy())
        time = stop
    return p, np.array(seen)


def test_readings_agree_with_lsoda():
    """Relative error of readings on whole days below 1e-4 (interleukin-2: above a floor of 0.01 IU/mL)."""
    count = 4
    people = patients(count)
    grid = course.mesh(DOSES, READINGS, 26)
    seen = course.many(people, np.full((count, len(DOSES)), 1.5), P, grid).observed
    for i in range(count):
        p, y = reference(jax.tree.map(lambda x, i=i: x[i], people), 1.5)
        truth = dict(zip(STATE, y.T, strict=True))
        expected = {
            "ilc2": p.ilc2_count * truth["ilc2"],
            "nk_bright": p.bright_count * truth["bright"] * (1 - truth["away"]) ** p.nk_margination,
            "eosinophils": p.eosinophil_count * truth["eosinophils"] * (1 - truth["away"]) ** p.eosinophil_margination,
            "crp": truth["crp"],
            "tbr_ascending_aorta": 1 + p.uptake_ascending_aorta * (truth["resident"] + truth["recruited"]),
        }
        for name, values in expected.items():
            np.testing.assert_allclose(getattr(seen, name)[i], values, rtol=1e-4, err_msg=name)
        days = np.array(READINGS) - 1.0
        begun = course.start(jax.tree.map(lambda x, i=i: x[i], people), P, 1)
        low = float(begun.blood.deficit) * np.exp(-days / p.treg_deficit_time)
        treg = p.cd4_count * p.treg_share * (1 - low + truth["expanded"]) * (1 - truth["away"])
        np.testing.assert_allclose(seen.treg[i], treg, rtol=1e-4)
        assert (np.abs(seen.il2[i] - truth["il2"]) < 1e-4 * (truth["il2"] + 0.01)).all()
