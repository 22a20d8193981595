"""The body against published facts: each test names its evidence and its tolerance, the published error widened for
differences of model and population (stated beside it)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from quell import keys
from quell.body import course, immunity, parameters, population

P = parameters.load()


@functools.cache
def draw(count: int, name: str):
    one = jax.jit(jax.vmap(lambda i: population.draw(keys.at(11, "subject", i), P, population.POPULATIONS[name])))
    return jax.tree.map(np.asarray, one(jnp.arange(count)))


def at(days: float, count: int, name: str = "ivory"):
    """Patients so many days after their index event on study day 1."""
    return draw(count, name)._replace(days_since_infarction=np.full(count, float(days)))


@jax.jit
@jax.vmap
def now(patient):
    return course.observe(course.start(patient, P, 1), course.person(patient, P))


@functools.cache
def percent_change(dose_per: str, dose: float, doses: int, since: float):
    """Mean change of regulatory T cells, % of CD4, on study days 2 to 8 after daily doses from day 1."""
    count = 1000
    patients = at(since, count)
    amount = dose * (patients.body_surface_area if dose_per == "m2" else np.ones(count))
    grid = course.mesh(tuple(range(1, doses + 1)), tuple(range(1, 9)), 9)
    seen = course.many(patients, np.tile(amount[:, None], doses), P, grid).observed.treg_percent
    return seen[:, 1:] / seen[:, :1] - 1


def test_interleukin_2_after_a_subcutaneous_dose_e095():
    """E095: 12 to 18 MIU; Tmax 4.4 (1.8) h, half-life 3.3 (0.9) h, Cmax 22 to 113 IU/mL (n = 18)."""
    count, per_day = 400, 96
    seen = course.trajectory(at(7.0, count), np.full((count, 1), 15.0), P, (1,), 2, per_day).il2
    peak, hours = seen.argmax(axis=1), 24 / per_day
    top = seen.max(axis=1)
    fall = np.log(seen[:, 12 * per_day // 24] / seen[:, 18 * per_day // 24]) / 6
    assert 21.9 < np.median(top) < 112.9
    assert abs(np.median(peak) * hours - 4.4) < 1.8
    assert abs(np.median(np.log(2) / fall) - 3.3) < 0.9


def test_five_daily_doses_raise_regulatory_cells_by_three_quarters_e071():
    """E071 (LILACS): 1.46 MIU (1.06 to 1.87) for +75 %. When it was read is not known: 1 to 3 days after the last dose.

    Tolerance 0.10 on the log of the fold, from the spread between the ends of the dose interval and the reading day.
    """
    mean = percent_change("absolute", 1.46, 5, 7.0).mean(axis=0)[4:7].mean()
    assert abs(np.log1p(mean) - np.log(1.75)) < 0.10


def test_single_doses_for_ten_and_twenty_percent_e078_e079():
    """E078, E079 (DILT1D): 0.101 and 0.497 MIU/m2 raise the weekly maximum by 10 and 20 %; tolerance 6 points.

    The dose for +10 % has SE 0.078 on 0.101: 0.02 to 0.26 MIU/m2, which is 7 to 16 % at the observed slope.
    """
    low, high = (percent_change("m2", dose, 1, 3000.0).max(axis=1).mean() for dose in (0.101, 0.497))
    assert abs(low - 0.10) < 0.06
    assert abs(high - 0.20) < 0.06
    assert low < high


def test_regulatory_cells_leave_the_blood_for_a_day_e080():
    """E080 (DILT1D): mean change after a day -11.6 % (SE 2.3) over doses 0.04 to 1.5 MIU/m2; above baseline to day 7."""
    changes = [percent_change("m2", dose, 1, 3000.0).mean(axis=0) for dose in (0.04, 0.101, 0.497, 1.5)]
    assert abs(np.mean([change[0] for change in changes]) + 0.116) < 2 * 0.023 + 0.01
    assert all(change[1] > 0 and change[6] > 0 for change in changes)


def test_low_doses_reach_regulatory_cells_first_e082():
    """E082: 0.015 to 0.24 IU/mL acts on regulatory T cells alone."""
    response = immunity.response(P)
    low, high = (immunity.signal(P.picomolar_per_unit * level, 1.0, response) for level in (0.015, 0.24))
    assert low.treg > 0.05 and high.treg > 0.5
    assert max(low.teff, low.nk, low.bright) < 0.02
    assert high.treg > 3 * max(high.teff, high.nk, high.bright)


def test_wall_after_infarction_and_in_stable_patients_e106():
    """E106: aortic TBR 2.15 (0.30) after infarction, 1.84 (0.18) stable, n = 40 each; STEMI 2.24, NSTEMI 2.02.

    The day of the scan is not known: day 7. Reading noise 0.11 (E104) is added to the spread. Tolerance: two standard
    errors of a mean of 40, 0.10 and 0.06; and 30 % of a standard deviation.
    """
    count = 4000
    infarct = at(7.0, count)._replace(infarct_type=np.where(np.arange(count) % 100 < 59, 2.0, 1.0))
    ill = np.asarray(now(infarct).tbr_ascending_aorta)
    stable = np.asarray(now(at(3000.0, count)).tbr_ascending_aorta)
    assert abs(ill.mean() - 2.15) < 0.10 and abs(stable.mean() - 1.84) < 0.06
    assert abs(np.hypot(ill.std(), 0.11) / 0.30 - 1) < 0.3 and abs(np.hypot(stable.std(), 0.11) / 0.18 - 1) < 0.3
    assert abs(ill[infarct.infarct_type == 2].mean() - 2.24) < 0.10
    assert abs(ill[infarct.infarct_type == 1].mean() - 2.02) < 0.12


def test_the_wall_answers_within_weeks_e108():
    """E108: on 80 mg of atorvastatin 4 weeks reach 12.5 / 14.42 = 87 % of the fall at 12 weeks; tolerance 5 points."""
    who = at(3000.0, 200)._replace(statin_intensified=np.ones(200))
    walls = course.many(who, np.zeros((200, 0)), P, course.mesh((), (1, 29, 85), 90)).observed.tbr_ascending_aorta
    fall = walls[:, :1] - walls[:, 1:]
    assert abs((fall[:, 0] / fall[:, 1]).mean() - 12.5 / 14.42) < 0.05
    assert abs((fall[:, 1] / walls[:, 0]).mean() - 0.106) < 0.02  # used to set its size: a check, no prediction


def test_inflammation_after_infarction_and_a_year_later_e107_e139():
    """E107: 6.5 (2.0 to 12.75) mg/L after infarction; E139: 30.4 % of 1,209 above 2 mg/L at 12 months (no screen).

    Tolerance 0.35 on the log of the median (n = 40, day of sampling unknown), 5 points on the share.
    """
    count = 4000
    infarct = at(7.0, count)._replace(infarct_type=np.where(np.arange(count) % 100 < 59, 2.0, 1.0))
    assert abs(np.log(np.median(now(infarct).crp) / 6.5)) < 0.35
    assert abs(np.mean(now(at(365.0, count)).crp > 2) - 0.304) < 0.05


def test_infarcts_heal_e142():
    """E142: 25 (17) g in the first week, 17 (12) at 4 months, 15 (11) at 14 months, n = 66; STEMI. Two standard errors."""
    count = 4000
    stemi = draw(count, "ivory")._replace(infarct_type=np.full(count, 2.0), previous_infarction=np.zeros(count))
    for days, mean, spread in ((4.0, 25, 17), (122.0, 17, 12), (426.0, 15, 11)):
        mass = np.asarray(now(stemi._replace(days_since_infarction=np.full(count, days))).infarct_mass)
        assert abs(mass.mean() - mean) < 2 * spread / np.sqrt(66)
        assert abs(mass.std() / spread - 1) < 0.25


def test_second_infarctions_in_england_e136():
    """E136, E137: men, second infarction 5.6 % in a year, 13.9 % in seven (n = 387,452). Calibrated to, so: 0.8, 1.2 points.

    Reckoned as England did: cause-specific hazard summed over the months, death censoring.
    """
    count = 15000
    patients = draw(count, "post-mi")._replace(days_since_infarction=np.zeros(count))
    events = course.many(patients, np.zeros((count, 0)), P, course.mesh((), (1,), 2557)).events
    death = np.minimum(events.cardiovascular_death, events.other_death)
    second, man = events.infarction[:, 0], patients.female == 0
    hazard, risk = [], np.minimum(second, death)
    for month in range(84):
        begin, end = month * 30.44, (month + 1) * 30.44
        hit = man & (second > begin) & (second <= end)
        hazard.append(hit.sum() / (man & (risk > begin)).sum())
    assert abs(-np.expm1(-np.sum(hazard[:12])) - 0.056) < 0.008
    assert abs(-np.expm1(-np.sum(hazard)) - 0.139) < 0.012


def screened(count: int):
    """Candidates for IVORY who pass its screen on study day -3: hsCRP above 2 mg/L, 18 to 85 years (E005, E006)."""
    candidates = draw(count, "ivory")
    early = jax.jit(jax.vmap(lambda who: course.observe(course.start(who, P, -3), course.person(who, P))))(candidates)
    keep = (np.asarray(early.crp) > 2) & (candidates.age >= 18) & (candidates.age <= 85)
    return jax.tree.map(lambda x: x[keep], candidates)


def test_the_screened_reproduce_table_1_e027_to_e047():
    """E027 to E047: both arms together, n = 63; every covariate within two standard errors of a sample of 63."""
    who, n = screened(20000), 63
    shares = {
        "female": 10, "hypertension": 61, "hypercholesterolaemia": 61, "previous_angioplasty": 7, "previous_stroke": 2,
        "diabetes": 2, "statin": 62, "beta_blocker": 58, "renin_angiotensin_inhibitor": 59, "angioplasty_for_index": 61,
    }  # fmt: skip
    for name, number in shares.items():
        share = number / n
        assert abs(getattr(who, name).mean() - share) < 2 * np.sqrt(share * (1 - share) / n) + 1e-3, name
    for name, counts in {"infarct_type": (2, 26, 35), "smoker": (24, 22, 17), "ethnicity": (57, 4, 1, 1)}.items():
        for code, number in enumerate(counts):
            share = number / n
            seen = (getattr(who, name) == code).mean()
            assert abs(seen - share) < 2 * np.sqrt(share * (1 - share) / n), (name, code)
    for name, mean, spread in (("bmi", 29.7, 5.75), ("grace", 95.7, 22.0)):
        values = getattr(who, name)
        assert abs(values.mean() - mean) < 2 * spread / np.sqrt(n), name
        assert abs(values.std() / spread - 1) < 2 / np.sqrt(2 * n), name
    for name, median, spread in (
        ("age", np.log(55.8), 0.17),
        ("ldl", np.log(1.95), 0.39),
        ("troponin", np.log(63), 1.93),
    ):
        logs = np.log(getattr(who, name))
        assert abs(np.median(logs) - median) < 2 * 1.253 * spread / np.sqrt(n), name
        assert abs(logs.std() / spread - 1) < 2 / np.sqrt(2 * n) + 0.1, name
