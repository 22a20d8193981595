"""What an exam says in words: the score, what failed and why, what could not have been foreseen. Data in, sentences out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quell.report import words

Found = Mapping[str, Any]


def scored(found: Found) -> list[dict[str, Any]]:
    """The figures that count."""
    return [one for one in found["figures"] if one["scored"]]


def inputs(found: Found) -> list[dict[str, Any]]:
    """The figures that described the people or the conduct."""
    return [one for one in found["figures"] if one["role"] == "input"]


def readings(found: Found) -> list[dict[str, Any]]:
    """Second readings of figures that count elsewhere."""
    return [one for one in found["figures"] if one["reading"]]


def missed(found: Found) -> list[dict[str, Any]]:
    """The figures that count and lie outside the 90 % interval."""
    return [one for one in scored(found) if not one["inside_90"]]


def places(one: Found) -> int:
    """Decimals for a figure and its interval."""
    return 0 if one.get("unit") in ("people", "events") else words.decimals((one["upper"] - one["lower"]) / 2)


def value(one: Found) -> str:
    """The published number as it was published; to one decimal where it was worked out from a count.

    >>> value({"published": -0.171}), value({"published": 200 / 31}), value({"published": 7.0})
    ('−0.171', '6.5', '7')
    """
    given = one["published"]
    as_written = f"{given:.4f}".rstrip("0").split(".")[1]
    return words.number(given, len(as_written) if abs(given - round(given, 4)) < 1e-9 else 1)


def published(one: Found) -> str:
    """The published number with its unit."""
    return f"{value(one)} {one['unit']}".strip()


def named(one: Found) -> str:
    """The name of a figure with its unit, where the name does not say it.

    >>> named({"name": "age", "unit": "years"}), named({"name": "people with a stroke", "unit": "people"})
    ('age, years', 'people with a stroke')
    """
    return one["name"] if one["unit"] in one["name"] else f"{one['name']}, {one['unit']}"


def interval(one: Found, low: str = "lower", high: str = "upper") -> str:
    """Two ends of an interval.

    >>> interval({"lower": -0.31, "upper": 0.05})
    '−0.31 to 0.05'
    """
    at = places(one)
    return f"{words.number(one[low], at)} to {words.number(one[high], at)}"


def seen(found: Found) -> bool:
    """Whether the world had learned from the very results it is held against: then this is a check of the fit, no exam."""
    return found["examined"] == "after-ivory"


def sentence(found: Found) -> str:
    """The answer: how many results lay where they were said to lie."""
    every = found["score"]["all"]
    wide, half = every["inside_90"], every["inside_50"]
    status = (
        "which this world has learned from (so this is no exam)"
        if seen(found)
        else "none of which set a number of the model"
    )
    return (
        f"Of {every['figures']} published results of IVORY and IVORY-FINALE, {status}, {wide['inside']} lie "
        f"within the interval that holds 90 % of simulated trials and {half['inside']} within the one that holds 50 %."
    )


def sure(found: Found) -> list[str]:
    """How good that is, and how much was risked in saying it."""
    every, once = found["score"]["all"], found["score"]["once"]
    wide, half, before = every["inside_90"], every["inside_50"], every["prior_inside_90"]
    lines = [
        f"If the model were right, {_range(wide)} of {wide['of']} would lie within the 90 % interval in nine trials out of ten, and "
        f"{_range(half)} within the 50 % interval. {_as_few(wide)}",
        f"Inside 90 %: {_share(wide)}; inside 50 %: {_share(half)} (exact 95 % intervals, as if figures were independent; they are not).",
        f"Counting each figure once ({once['figures']} that are not worked out from others): {once['inside_90']['inside']} within 90 %, "
        f"{once['inside_50']['inside']} within 50 %.",
        f"Interval score (width and fines, in standard deviations; less is better): {every['interval_score']:.2f}, before the evidence "
        f"{every['prior_interval_score']:.2f}. Before it {before['inside']} of {before['of']} were inside.",
    ]
    return [*lines, narrowness(found)]


def narrowness(found: Found) -> str:
    """How many intervals say less than half of what was open before the evidence, and how many could not."""
    counted = [one for one in scored(found) if one["rests_on"]]
    wide = [one for one in counted if not _under_half(one["width_ratio"])]
    floor = sum(not _under_half(one["chance_ratio"]) for one in wide)
    less = sum(_under_half(one["doubt_left"]) for one in counted)
    return (
        f"{len(counted) - len(wide)} of {len(counted)} intervals are narrower than half of those before the evidence. Of the "
        f"others {floor} could not be: in a trial of some sixty people chance alone fills more than half. With chance taken out, less than "
        f"half of the doubt about the model is left in {less}."
    )


def _under_half(ratio: float | None) -> bool:
    return ratio is not None and ratio < 0.5


def _range(one: Found) -> str:
    return f"{one['expected_low']:.0f} to {one['expected_high']:.0f}"


def _share(one: Found) -> str:
    at = [f"{100 * one[name]:.0f}" for name in ("lower", "upper")]
    return f"{100 * one['inside'] / one['of']:.0f} % ({at[0]} to {at[1]})"


def _as_few(one: Found) -> str:
    return f"So few or fewer ({one['inside']}) happen in {100 * one['as_few']:.0f} % of trials of a right model."


def beware(found: Found) -> list[str]:
    """What not to conclude."""
    return [
        "A wide interval is easily right: read each width against what was open before the evidence, and against what chance alone does to a small trial.",
        "The people are drawn to be like IVORY's Table 1 and the conduct is IVORY's; those figures are inputs and count for nothing.",
        "Only the likelihood was kept from IVORY's results. Those who built the model had read them.",
        "Nothing here says that the drug prevents heart attacks.",
    ]


def misses(found: Found) -> list[str]:
    """One sentence for each figure outside, with the reason where one is known."""
    return [
        f"{_capital(one['name'])}: published {published(one)}, predicted {interval(one)}. {_capital(one['why'] or 'No reason is known')}."
        for one in missed(found)
    ]


def unforeseen(found: Found) -> list[tuple[str, list[str]]]:
    """Each reason why a finding could not be foreseen, with the findings."""
    reasons: dict[str, list[str]] = {}
    for one in scored(found):
        if one["beyond"]:
            reasons.setdefault(one["beyond"], []).append(one["name"])
    return list(reasons.items())


def second_infarction(found: Found) -> list[str]:
    """0 % against 11 % for what it is."""
    told = found["second_infarction"]
    first = told["readings"][0]
    active, control = first["intervals"]["active"], first["intervals"]["control"]
    return [
        f"{_two(first)} is a difference of {_points(first['difference'])} percentage points (95 % interval {_points(first['lower'])} to "
        f"{_points(first['upper'])}; exact {_points(first['exact_lower'])} to {_points(first['exact_upper'])}), Fisher's exact "
        f"p = {first['p']:.2f}: if the drug did nothing, so large a difference would come in about one trial of nine.",
        f"The risk on aldesleukin may be anything up to {_percent(active[1])}, on placebo from {_percent(control[0])} to {_percent(control[1])} "
        f"(exact). The sizes of the arms are not published; {_two(told['readings'][1])} gives p = {told['readings'][1]['p']:.2f}.",
        f"In this world the drug's effect on the wall has waned by then: {_often(told['simulated'])} of simulated trials show nobody on "
        f"aldesleukin and three or more on placebo, and {_often(told['reversed'])} the reverse.",
        f"Seven MACE on placebo against none: had they been seven people ({_two(told['if_seven_were_people'])}) p would be "
        f"{told['if_seven_were_people']['p']:.3f}; the title of the abstract speaks of a trend only, so they were probably events.",
    ]


def _two(one: Found) -> str:
    return f"{one['active'][0]} of {one['active'][1]} against {one['control'][0]} of {one['control'][1]}"


def _points(share: float) -> str:
    return words.number(100 * share, 1)


def _percent(share: float) -> str:
    return f"{_points(share)} %"


def _often(rate: Found) -> str:
    return f"{100 * rate['value']:.1f} % ± {100 * rate['error']:.1f}"


def place(one: Found) -> str:
    """The share of simulated trials below the published figure."""
    return f"{100 * one['place']:.0f} %"


def ratio(value: float | None) -> str:
    """A width as a share of another.

    >>> ratio(0.4321), ratio(None)
    ('0.43', '–')
    """
    return words.number(value, 2)


def rests(one: Found) -> str:
    """What the prediction rests on."""
    return one["rests_on"] or "nothing"


def _capital(text: str) -> str:
    """A sentence's first letter, unless the first word has capitals of its own (hsCRP)."""
    return text[:1].upper() + text[1:] if text.split(" ")[0].rstrip(",.;:").islower() else text


def joined(names: Sequence[str]) -> str:
    """Names in a row.

    >>> joined(["a", "b", "c"])
    'a; b; c'
    """
    return "; ".join(names)
