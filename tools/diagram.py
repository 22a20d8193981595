"""The model as a drawing: what acts on what."""

from __future__ import annotations

import pathlib
from typing import NamedTuple

import matplotlib

matplotlib.use("svg")
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

COLOURS = {
    "drug": "#dcebec",
    "cells": "#e6efd9",
    "inflammation": "#f6e3d7",
    "heart": "#e9e1f0",
    "risk": "#f3dede",
    "seen": "#ffffff",
}
INK = "#1d2529"


class Box(NamedTuple):
    """A box: where its middle is, what it says, and to what it belongs."""

    x: float
    y: float
    text: str
    kind: str


BOXES = {
    "depot": Box(1.2, 9.2, "subcutaneous\ndepot", "drug"),
    "il2": Box(3.9, 9.2, "interleukin-2\nin blood", "drug"),
    "treg": Box(3.9, 7.2, "regulatory\nT cells", "cells"),
    "ilc2": Box(6.4, 7.2, "ILC2", "cells"),
    "others": Box(1.2, 7.2, "effector T,\nNK, CD56bright", "cells"),
    "eosinophils": Box(8.9, 7.2, "interleukin-5,\neosinophils", "cells"),
    "infarction": Box(1.2, 3.0, "infarction", "risk"),
    "surge": Box(3.9, 5.0, "surge: IL-6,\nC-reactive protein", "inflammation"),
    "supply": Box(3.9, 3.0, "marrow and\nspleen supply", "inflammation"),
    "wall": Box(6.6, 4.3, "artery wall,\nvessel by vessel", "inflammation"),
    "tbr": Box(9.2, 5.3, "FDG uptake,\nTBR by slice", "seen"),
    "healing": Box(3.9, 1.0, "neutrophils,\nmacrophages, fibroblasts", "heart"),
    "scar": Box(6.8, 1.0, "infarct and scar", "heart"),
    "ejection": Box(9.2, 1.0, "ejection fraction,\nvolumes", "heart"),
    "hazards": Box(9.2, 3.0, "hazards, events", "risk"),
}
ARROWS = (
    ("depot", "il2", "", 0), ("il2", "treg", "", 0), ("il2", "ilc2", "", 0), ("il2", "others", "high dose", 0),
    ("treg", "il2", "consume", 0.45), ("ilc2", "eosinophils", "", 0), ("treg", "wall", "calm", 0), ("ilc2", "wall", "calm", 0),
    ("treg", "surge", "calm", 0), ("infarction", "surge", "", 0), ("infarction", "supply", "", 0), ("supply", "wall", "", 0),
    ("wall", "tbr", "", 0), ("wall", "hazards", "", 0), ("surge", "hazards", "", 0.2), ("infarction", "healing", "", 0),
    ("healing", "scar", "", 0), ("scar", "ejection", "", 0), ("scar", "hazards", "", 0), ("hazards", "infarction", "the loop", -0.22),
)  # fmt: skip
CALMS = {"calm", "consume"}


def draw(path: pathlib.Path) -> None:
    """Write the drawing as SVG (or PNG, by the name)."""
    matplotlib.rcParams |= {
        "svg.hashsalt": "quell",
        "svg.fonttype": "none",
        "font.family": "DejaVu Sans",
        "font.size": 10,
    }
    figure = Figure(figsize=(10, 8.6), dpi=100)
    place = figure.add_axes((0, 0, 1, 1))
    place.set(xlim=(0, 10.5), ylim=(-0.3, 10.3))
    place.axis("off")
    shapes = {}
    for name, box in BOXES.items():
        shape = FancyBboxPatch((box.x - 1.05, box.y - 0.42), 2.1, 0.84, boxstyle="round,pad=0.03,rounding_size=0.12")
        shape.set(facecolor=COLOURS[box.kind], edgecolor="#5b666c", linewidth=1.0)
        place.add_patch(shape)
        shapes[name] = shape
        place.text(box.x, box.y, box.text, ha="center", va="center", color=INK, linespacing=1.25)
    for source, target, text, bend in ARROWS:
        _arrow(place, (BOXES[source], BOXES[target]), (shapes[source], shapes[target]), text, bend)
    for i, (kind, colour) in enumerate(COLOURS.items()):
        place.add_patch(
            FancyBboxPatch(
                (6.0 + 1.5 * (i % 3), 9.65 - 0.45 * (i // 3)),
                0.2,
                0.14,
                boxstyle="square,pad=0",
                facecolor=colour,
                edgecolor="#5b666c",
            )
        )
        place.text(6.35 + 1.5 * (i % 3), 9.72 - 0.45 * (i // 3), kind, va="center")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _arrow(place, boxes: tuple[Box, Box], shapes: tuple, text: str, bend: float) -> None:
    source, target = boxes
    calms = text in CALMS
    arrow = FancyArrowPatch(
        (source.x, source.y), (target.x, target.y), connectionstyle=f"arc3,rad={bend}", patchA=shapes[0], patchB=shapes[1], shrinkA=1, shrinkB=3,
        arrowstyle="|-|,widthA=0,widthB=4" if calms else "-|>", mutation_scale=12 if not calms else 1,
        color="#0b6e75" if calms else "#5b666c", linewidth=1.5, zorder=0.5,
    )  # fmt: skip
    place.add_patch(arrow)
    if text:
        dx, dy = target.x - source.x, target.y - source.y
        x = (source.x + target.x) / 2 + bend * dy / 2
        y = (source.y + target.y) / 2 - bend * dx / 2
        place.text(x, y, text, fontsize=9, color="#0b6e75" if calms else INK, ha="center", va="center",
                   bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})  # fmt: skip
