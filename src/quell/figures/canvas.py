"""The one visual language: colours by arm, type, ticks, and a matplotlib figure as a small inline SVG."""

from __future__ import annotations

import dataclasses
import functools
import html
import io
import math
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec

from quell.protocol import Protocol

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")

INK, FAINT, GRID = "#1d2529", "#5b666c", "#dfe4e6"
TEAL, GREY = "#0b6e75", "#80705f"
# Okabe and Ito's colours that are told apart from teal and grey, darkened where text needs contrast
FURTHER = ("#0072b2", "#b34f00", "#a3527f", "#7a6a00", "#3f5fa8", "#5d3a9b")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))

WIDTH = 4.4  # inches: one panel, which fills a narrow page and stands twice on a wide one
POINT = 72  # SVG user units in an inch
SIZE = 10.0  # 10 units are 11.3 px where the panel is 358 px wide
MOST_PEOPLE = 150  # individual lines or points drawn per arm; beyond that they are a blur

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "quell",
    "font.family": "DejaVu Sans",
    "font.size": SIZE,
    "text.parse_math": False,
    "text.color": INK,
    "path.simplify": False,
}


class Look(NamedTuple):
    """How one arm is drawn everywhere: its label, colour, marker and line, so that grey print still tells them apart."""

    label: str
    colour: str
    marker: str
    dash: Any


def looks(protocol: Protocol) -> dict[str, Look]:
    """A look for each arm: the control grey and dashed, the first active arm teal, further arms from Okabe and Ito.

    >>> looks(Protocol.load("ivory"))["placebo"].colour
    '#80705f'
    """
    found, active = {}, 0
    for arm in protocol.arms:
        if arm.control:
            found[arm.name] = Look(arm.shown, GREY, MARKERS[1], DASHES[1])
            continue
        colour = TEAL if active == 0 else FURTHER[(active - 1) % len(FURTHER)]
        place = active if active == 0 else active + 1
        found[arm.name] = Look(arm.shown, colour, MARKERS[place % len(MARKERS)], DASHES[place % len(DASHES)])
        active += 1
    return {arm.name: found[arm.name] for arm in sorted(protocol.arms, key=lambda one: one.control)}


def prepare() -> None:
    """Load matplotlib, which takes about a second: call it in a thread while something else computes."""
    import matplotlib.backends.backend_svg
    import matplotlib.figure  # noqa: F401


def drawn(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw in quell's style, whatever the user's matplotlib settings are."""

    @functools.wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        import matplotlib

        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return styled


def sketch(height: float, width: float = WIDTH) -> Figure:
    """An empty figure of one panel's width, in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=POINT)


def axes(figure: Figure, left: float, bottom: float, right: float, top: float) -> Axes:
    """Axes inside margins given in inches."""
    width, height = figure.get_size_inches()
    return figure.add_axes((left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height))


def svg(figure: Figure, alt: str, key: str) -> str:
    """The figure as inline SVG: text stays text, no ids clash within a page, the same figure gives the same bytes."""
    import matplotlib
    from matplotlib.backends.backend_svg import RendererSVG

    width, height = (float(inches * POINT) for inches in figure.get_size_inches())
    written = io.StringIO()
    with matplotlib.rc_context(STYLE):
        renderer = RendererSVG(width, height, written, image_dpi=POINT, metadata={"Date": None})
        figure.draw(renderer)
        renderer.finalize()
    return _slim(written.getvalue(), width, height, alt, key)


def _slim(text: str, width: float, height: float, alt: str, key: str) -> str:
    """Only what a page needs of an SVG document: no prolog, metadata, page-wide styles or unused ids."""
    body = text[text.index("<svg") :]
    body = body[body.index(">") + 1 : body.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = re.sub(r"\s*font(-family)?: ?[^;\"]*DejaVu Sans[^;\"]*;?", _font_size, body)
    body = re.sub(r' id="([^"]+)"', rf' id="{key}-\1"', body)
    body = re.sub(r'"url\(#([^)]+)\)"', rf'"url(#{key}-\1)"', body)
    body = body.replace('href="#', f'href="#{key}-').replace("<defs/>", "")
    body = re.sub(r"<defs>\s*</defs>", "", body)
    body = re.sub(r"<[^>]+>", _fewer_digits, body)
    body = re.sub(r"\n\s*", "\n", body)
    label = html.escape(alt, quote=True)
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{label}">{body}</svg>'


def _fewer_digits(tag: re.Match[str]) -> str:
    """Coordinates to a hundredth of a point; what stands between the tags is for people and stays as it is."""
    return re.sub(r"(\d+\.\d{2})\d+", r"\1", tag.group(0))


def _font_size(found: re.Match[str]) -> str:
    size = re.search(r"([\d.]+px)", found.group(0))
    weight = "font-weight: bold; " if "bold" in found.group(0) or " 700 " in found.group(0) else ""
    return f" {weight}font-size: {size.group(1)};" if size else ""


# -- numbers on an axis -----------------------------------------------------------------------------------------------
def number(value: float, decimals: int | None = None) -> str:
    """A number for a label: a true minus, no needless zeros.

    >>> number(-0.5), number(1500.0), number(0.25, 1)
    ('−0.5', '1500', '0.2')
    """
    text = f"{value:.{decimals}f}" if decimals is not None else f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if text.startswith("-") and not text.strip("-0."):
        text = text[1:]
    return text.replace("-", "−")


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values inside a range, about so many.

    >>> ticks(0.0, 1.0, 5)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    from matplotlib.ticker import MaxNLocator

    found = MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    edge = 1e-9 * max(abs(low), abs(high), 1e-12)
    return [round(float(tick), 12) for tick in found if low - edge <= tick <= high + edge]


def log_ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Values 1, 2, 5 times powers of ten inside a range, thinned to powers of ten where there are many."""
    for steps in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        found = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
        if len(found) <= count:
            break
    return [float(f"{tick:.6g}") for tick in (found if len(found) > 1 else (low, high))]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """What stands along one axis: where the ticks are, how they read, the axis' name, and whether to draw a grid."""

    at: Sequence[float] = ()
    labels: Sequence[str] | None = None
    name: str = ""
    grid: bool = False
    line: bool = True


def frame(place: Axes, x: Scale, y: Scale) -> None:
    """Axis lines, ticks, labels and grid, drawn as a few paths: matplotlib's own axes take most of a figure's time."""
    from matplotlib.transforms import IdentityTransform

    place.set_axis_off()
    identity = IdentityTransform()
    left, bottom, right, top = place.bbox.extents
    xs = [float(place.transData.transform((value, place.get_ylim()[0]))[0]) for value in x.at]
    ys = [float(place.transData.transform((place.get_xlim()[0], value))[1]) for value in y.at]
    grid = [((at, bottom), (at, top)) for at in xs if x.grid] + [((left, at), (right, at)) for at in ys if y.grid]
    strokes(place, grid, GRID, 0.6, 1.0, transform=identity, under=True)
    lines = [((left, bottom), (right, bottom))] * x.line + [((left, bottom), (left, top))] * y.line
    lines += [((at, bottom), (at, bottom - 3)) for at in xs if x.line] + [
        ((left, at), (left - 3, at)) for at in ys if y.line
    ]
    strokes(place, lines, FAINT, 0.8, 1.0, transform=identity)
    for at, text in zip(xs, x.labels if x.labels is not None else map(number, x.at), strict=True):
        place.text(at, bottom - 5, text, ha="center", va="top", transform=identity)
    for at, text in zip(ys, y.labels if y.labels is not None else map(number, y.at), strict=True):
        place.text(left - 5, at, text, ha="right", va="center_baseline", transform=identity)
    if x.name:
        place.text((left + right) / 2, bottom - 5 - 1.5 * SIZE, x.name, ha="center", va="top", transform=identity)
    if y.name:
        name = wrapped(y.name, int((top - bottom) / (0.55 * SIZE)), 1)
        place.text(1, (bottom + top) / 2, name, ha="left", va="center", rotation=90, transform=identity)


def spread(low: float, high: float, share: float = 0.06) -> tuple[float, float]:
    """A range with some air around it; never of no width."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return 0.0, 1.0
    air = (high - low) * share or abs(high) * 0.1 or 1.0
    return low - air, high + air


def wrapped(text: str, width: int, lines: int = 2) -> str:
    """Text on at most so many lines of so many characters."""
    return "\n".join(textwrap.wrap(text, width, max_lines=lines, placeholder=" …")) or text


def dots(place: Axes, x: Any, y: Any, colour: str, size: float = 2.6, alpha: float = 0.35) -> None:
    """Many points as one path: small to write and quick to draw."""
    strokes(place, [((a, b), (a, b)) for a, b in zip(x, y, strict=True)], colour, size, alpha)


def strokes(
    place: Axes,
    lines: Sequence[Any],
    colour: str,
    width: float,
    alpha: float,
    *,
    dash: Any = "-",
    transform: Any = None,
    under: bool = False,
) -> None:
    """Many separate lines, each a sequence of points, as one path (in data coordinates unless told otherwise)."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    if not lines:
        return
    points = [point for line in lines for point in line]
    codes = [Path.MOVETO if step == 0 else Path.LINETO for line in lines for step in range(len(line))]
    patch = PathPatch(
        Path(points, codes), facecolor="none", edgecolor=colour, linewidth=width, alpha=alpha, capstyle="round"
    )
    if dash != "-":
        patch.set_linestyle(dash)
    patch.set_zorder(0.5 if under else 1.5)
    patch.set_transform(transform or place.transData)
    place.add_artist(patch)
    if transform is not None:
        patch.set_clip_on(False)


def some(count: int, most: int = MOST_PEOPLE) -> range:
    """Positions of at most so many of the people, evenly spaced in the record's order."""
    return range(0, count, max(1, math.ceil(count / most)))


def apart(heights: Sequence[float], gap: float) -> list[float]:
    """Heights of labels moved as little as needed to stand a gap apart.

    >>> apart([1.0, 1.1, 3.0], 0.5)
    [0.8, 1.3, 3.0]
    """
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    placed = [float(heights[index]) for index in order]
    for _ in range(20):
        for lower in range(len(placed) - 1):
            short = gap - (placed[lower + 1] - placed[lower])
            if short > 1e-9:
                placed[lower] -= short / 2
                placed[lower + 1] += short / 2
    found = [0.0] * len(placed)
    for index, height in zip(order, placed, strict=True):
        found[index] = round(height, 9)
    return found
