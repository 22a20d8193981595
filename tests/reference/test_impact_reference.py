"""The Markov engine against published worked examples, to the digits they print.

HIV and hip: Briggs, Claxton and Sculpher, Decision Modelling for Health Economic Evaluation, Oxford 2006, examples 2.5
and 3.5; the digits are those of the book's spreadsheets, as kept in the tests of the R package heemod (test_dmhee.R).
Sick-Sicker: Alarid-Escudero et al. 2023, Med Decis Making 43:3, doi:10.1177/0272989X221103163, table 5.
Life table: Office for National Statistics, National life tables, UK, 2018 to 2020, bulletin of 23 September 2021.
"""

import numpy as np
import pytest

from quell import evidence
from quell.impact import Inputs, markov, worth

# -- HIV: zidovudine alone, or with lamivudine for two years (Chancellor 1997) -------------------------------------------
ALONE = np.array(
    [
        [1251 / 1734, 350 / 1734, 116 / 1734, 17 / 1734],
        [0, 731 / 1258, 512 / 1258, 15 / 1258],
        [0, 0, 1312 / 1749, 437 / 1749],
        [0, 0, 0, 1],
    ]
)
CARE, ZIDOVUDINE, LAMIVUDINE = np.array([2756.0, 3052.0, 9007.0, 0.0]), 2278.0, 2086.5


def combined(relative: float) -> np.ndarray:
    """The matrix with every move away multiplied by a relative risk."""
    found = ALONE * relative
    np.fill_diagonal(found, 0)
    np.fill_diagonal(found, 1 - found.sum(axis=1))
    return found


def hiv(relative: float, extra: float) -> tuple[float, float]:
    """Cost (6 %) and life years (0 %) over 20 years, counted at the end of each; treatment for the first two."""
    lived = markov.occupancy(
        np.array([[1.0, 0, 0, 0]]), lambda year: combined(relative if year < 2 else 1.0)[None], cycles=20
    )
    alive = np.array([1.0, 1.0, 1.0, 0.0])
    prices = np.tile(CARE + ZIDOVUDINE * alive, (21, 1))
    prices[1:3] += extra * alive
    ends, years = markov.counted(20, "end"), np.arange(21)
    cost = markov.worth(lived, prices, ends, markov.discounted(years, 0.06))
    return float(cost[0]), float(markov.worth(lived, alive, ends, markov.discounted(years, 0.0))[0])


def test_hiv_monotherapy_against_combination() -> None:
    (cost, years), (cost_both, years_both) = hiv(1.0, 0.0), hiv(0.509, LAMIVUDINE)
    assert cost == pytest.approx(44663.4535637, abs=5e-7)
    assert years == pytest.approx(7.9912066, abs=5e-8)
    assert cost_both == pytest.approx(50601.6513312, abs=5e-7)
    assert years_both == pytest.approx(8.9373889, abs=5e-8)
    gain = worth.Gain(np.array([years_both - years]), np.zeros(1), np.array([cost_both - cost]))
    assert worth.ratio(gain, 0.0)["value"] == pytest.approx(6275.95560, abs=5e-5)


# -- hip: standard prosthesis, or a new one; a hazard that changes with time and mortality with age ------------------------
MORTALITY = {35: 0.99, 45: 2.6, 55: 6.7, 65: 19.3, 75: 53.5, 85: 154.8}  # women, per 1,000 a year


def hip(relative: float, price: float) -> tuple[float, float]:
    """Cost (6 %) and QALYs (1.5 %) of a woman of 60 over 60 years, counted at the end of each."""
    scale, shape = np.exp(-5.490935 - 0.0367022 * 60), np.exp(0.3740968)

    def matrix(year: int) -> np.ndarray:
        dies = MORTALITY[max(age for age in MORTALITY if age <= 60 + year + 1)] / 1000
        revised = 1 - np.exp(scale * relative * (year**shape - (year + 1) ** shape))
        return np.array(
            [
                [0, 0.98, 0, 0, 0.02],
                [0, 1 - revised - dies, revised, 0, dies],
                [0, 0, 0, 1 - 0.02 - dies, 0.02 + dies],
                [0, 0, 0.04, 1 - 0.04 - dies, dies],
                [0, 0, 0, 0, 1],
            ]
        )[None]

    lived = markov.occupancy(np.array([[1.0, 0, 0, 0, 0]]), matrix, cycles=60)
    ends, years = markov.counted(60, "end"), np.arange(61)
    cost = markov.worth(lived, np.array([0, 0, 5294.0, 0, 0]), ends, markov.discounted(years, 0.06))
    qalys = markov.worth(lived, np.array([0, 0.85, 0.30, 0.75, 0]), ends, markov.discounted(years, 0.015))
    return price + float(cost[0]), float(qalys[0])


def test_hip_prostheses() -> None:
    (cost, qalys), (cost_new, qalys_new) = hip(1.0, 394), hip(np.exp(-1.344474), 579)
    assert cost == pytest.approx(512.434658, abs=5e-7)
    assert qalys == pytest.approx(14.6531896, abs=5e-8)
    assert cost_new == pytest.approx(610.311818, abs=5e-7)
    assert qalys_new == pytest.approx(14.69770986, abs=5e-9)
    gain = worth.Gain(np.array([qalys_new - qalys]), np.zeros(1), np.array([cost_new - cost]))
    assert worth.ratio(gain, 0.0)["value"] == pytest.approx(2198.486665, abs=5e-4)


# -- Sick-Sicker: hazards that compete, and a within-cycle correction ------------------------------------------------------
def sick_sicker(costs: list[float], qualities: list[float], progression: float) -> tuple[float, float]:
    """Cost and QALYs (both 3 %) from 25 to 100 by yearly cycles, with the tutorial's weights of the ends of cycles."""
    dies, sick, well = 0.002, 0.15, 0.5
    healthy, ill, iller = (float(markov.competing(np.array([dies * ratio]), 1.0)[0]) for ratio in (1, 3, 10))
    falls, recovers, worsens = (-np.expm1(-rate) for rate in (sick, well, 0.105 * progression))
    table = np.array(
        [
            [(1 - healthy) * (1 - falls), (1 - healthy) * falls, 0, healthy],
            [(1 - ill) * recovers, (1 - ill) * (1 - recovers - worsens), (1 - ill) * worsens, ill],
            [0, 0, 1 - iller, iller],
            [0, 0, 0, 1],
        ]
    )[None]
    lived = markov.occupancy(np.array([[1.0, 0, 0, 0]]), lambda _: table, cycles=75)
    weights = np.where(np.arange(1, 77) % 2, 4 / 3, 2 / 3)  # as the tutorial prints it
    weights[[0, -1]] = 1 / 3
    discount = markov.discounted(np.arange(76), 0.03)
    return tuple(float(markov.worth(lived, np.array(one), weights, discount)[0]) for one in (costs, qualities))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("costs", "qualities", "progression", "cost", "qalys"),
    [
        ([2000, 4000, 15000, 0], [1, 0.75, 0.5, 0], 1.0, 151580, 20.711),
        ([2000, 16000, 27000, 0], [1, 0.95, 0.5, 0], 1.0, 284805, 21.499),
        ([2000, 17000, 28000, 0], [1, 0.75, 0.5, 0], 0.6, 259100, 22.184),
        ([2000, 29000, 40000, 0], [1, 0.95, 0.5, 0], 0.6, 378875, 23.137),
    ],
)
def test_sick_sicker(costs: list[float], qualities: list[float], progression: float, cost: float, qalys: float) -> None:
    found = sick_sicker(costs, qualities, progression)
    assert found[0] == pytest.approx(cost, abs=0.5)
    assert found[1] == pytest.approx(qalys, abs=5e-4)


# -- the inputs --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("column", "years"), [("men", 18.5), ("women", 21.0)])
def test_life_table_gives_the_published_expectation_at_65(column: str, years: float) -> None:
    table = Inputs.load().life_table
    rates = np.array(getattr(table, column))[65 - table.first_age :]
    alive = np.exp(-np.concatenate([[0.0], rates.cumsum()]))
    beyond = alive[-1] / rates[-1]
    assert (-np.diff(alive) / rates).sum() + beyond == pytest.approx(years, abs=0.05)


def test_inputs_are_the_evidence_they_name() -> None:
    supposed = Inputs.load()
    for one in supposed.inputs:
        figures = [evidence.figure(name) for name in one.evidence]
        total = sum(figure.value / 100 if figure.unit == "%" else figure.value for figure in figures)
        assert not figures or one.value == pytest.approx(total, rel=1e-12), one.name
        if len(figures) == 1 and figures[0].interval:
            assert (one.lower, one.upper) == figures[0].interval, one.name
