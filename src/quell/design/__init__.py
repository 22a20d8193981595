"""Designing a trial: one trial many times, and many designs against each other, each answer with its Monte Carlo error."""

from __future__ import annotations

import importlib
from typing import Any

_WHERE = {
    "Design": "quell.design.declared",
    "Verdict": "quell.design.verdict",
    "Performance": "quell.design.repeats",
    "Rate": "quell.design.repeats",
    "Repeats": "quell.design.repeats",
    "Watch": "quell.design.repeats",
}

__all__ = ["Design", "Performance", "Rate", "Repeats", "Verdict", "Watch", "repeat"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"quell.design has no '{name}'; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def repeat(what: Any, world: Any = None, **asked: Any) -> Any:
    """Many trials of a design in all its worlds (a ``Verdict``), or of a protocol in one world (``Repeats``).

    For a design: ``trials``, ``key``, and if wanted ``engine`` ("local", "dask", an address, ...) and ``folder``; see
    ``verdict.judge``. For a protocol see ``repeats.repeat``. Raises BadInput in sentences.
    """
    from quell.protocol import Protocol

    if isinstance(what, Protocol):
        from quell.design import repeats

        return repeats.repeat(what, world, **asked)
    from quell import store
    from quell.design import engine, verdict

    asked["engine"] = engine.named(asked.get("engine", "local"))
    asked["folder"] = asked.get("folder") or store.folder() / "trials"
    return verdict.judge(what, **asked)
