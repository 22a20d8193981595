"""Charts of what has already been computed: data first, then lines. No statistic is computed here.

Each function takes a frame and returns a matplotlib Figure of the width of one narrow panel; `canvas.svg` writes it.
"""

from quell.figures.canvas import Look, looks, prepare, svg
from quell.figures.effects import exam, forest
from quell.figures.events import incidence
from quell.figures.own import constants, individual
from quell.figures.people import answer, course, paired, versus_baseline
from quell.figures.plan import schedule
from quell.figures.predicted import predicted
from quell.figures.response import response

__all__ = [
    "Look",
    "answer",
    "constants",
    "course",
    "exam",
    "forest",
    "incidence",
    "individual",
    "looks",
    "paired",
    "predicted",
    "prepare",
    "response",
    "schedule",
    "svg",
    "versus_baseline",
]
