"""The body's own value of every term in many worlds, block by block; finished blocks are kept in a folder and picked up."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.resources
import io
import pathlib
from collections.abc import Callable

import numpy as np

from quell.calibrate import settings
from quell.calibrate.ivory import ivory
from quell.calibrate.rows import ROWS_AFTER, Term, natural
from quell.calibrate.settings import Setting
from quell.calibrate.space import Space, worlds
from quell.delivery import write_whole

BLOCK = 32  # worlds in a block
ROOMS = (
    "body",
    "machine",
    "measure",
    "calibrate/settings.py",
    "calibrate/people.py",
    "calibrate/rows.py",
    "calibrate/ivory.py",
    "evidence.toml",
)
Tell = Callable[[str, float | None], None]  # what is being done, and the share of it that is


def silent(step: str, share: float | None) -> None:
    """Tells nobody."""


def _lilacs(p: settings.Parameters, count: int) -> settings.Values:
    return settings.daily(p, count, (1.46,))


SETTINGS: dict[str, tuple[Setting, int]] = {
    "drug": (settings.drug, 64),
    "lilacs": (_lilacs, 64),
    "single": (settings.single, 64),
    "walls": (settings.walls, 64),
    "blood": (settings.blood, 256),
    "hearts": (settings.hearts, 128),
    "events": (settings.events, 96),
    "harms": (settings.harms, 256),
    "affinities": (settings.affinities, 1),
    "constants": (settings.constants, 1),
}


AFTER = tuple(row.key for row in ROWS_AFTER)


@functools.cache
def source() -> str:
    """The digest of all that a summary follows from, so that a stale block is never picked up."""
    found, root = hashlib.sha256(), pathlib.Path(str(importlib.resources.files("quell")))
    for room in ROOMS:
        place = root / room
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.suffix in (".py", ".toml"):
                found.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return found.hexdigest()


class Summaries:
    """Simulated summaries on their natural scale, shape (worlds, terms); what was worked out once is not again."""

    def __init__(
        self, terms: list[Term], where: Space, folder: pathlib.Path | None = None, tell: Tell = silent
    ) -> None:
        self.terms, self.where, self.folder, self.tell = terms, where, folder, tell
        later = any(one.key in AFTER for one in terms)
        self.settings = SETTINGS | ({"ivory": (ivory, 64)} if later else {})
        self.lived = 0  # worlds worked out, not picked up

    def __call__(self, z: np.ndarray, structures: np.ndarray, what: str = "") -> np.ndarray:
        starts = range(0, len(z), BLOCK)
        found = []
        for done, start in enumerate(starts, 1):
            found.append(self._block(z[start : start + BLOCK], structures[start : start + BLOCK]))
            if what:
                self.tell(what, done / len(starts))
        return np.concatenate(found)

    def _block(self, z: np.ndarray, structures: np.ndarray) -> np.ndarray:
        name = hashlib.sha256(
            source().encode() + z.tobytes() + structures.astype(np.int64).tobytes() + repr([t.key for t in self.terms]).encode()
        ).hexdigest()[:24]  # fmt: skip
        kept = self._kept(name, len(z))
        if kept is not None:
            return kept
        values = settings.together(self.settings, worlds(z, structures, self.where))
        found = np.stack([natural(values[one.key][0], one.scale) for one in self.terms], axis=1)
        self.lived += len(z)
        if self.folder:
            content = io.BytesIO()
            np.save(content, found, allow_pickle=False)
            with contextlib.suppress(OSError):
                write_whole(self.folder / "blocks" / f"{name}.npy", content.getvalue())
        return found

    def _kept(self, name: str, count: int) -> np.ndarray | None:
        """A finished block, or None where there is none or it is damaged."""
        if not self.folder:
            return None
        try:
            found = np.load(self.folder / "blocks" / f"{name}.npy", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return found if found.shape == (count, len(self.terms)) and found.dtype == np.float64 else None
