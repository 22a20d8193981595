"""quell: plan, simulate, run and read trials of immune-targeted therapy after a heart attack.

For research and trial planning, not for treating a patient. Names are loaded when they are first used, so that
``quell --help`` does not wake the simulator.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import Any

__version__ = importlib.metadata.version("quell")

_WHERE = {
    "Protocol": "quell.protocol",
    "Study": "quell.study",
    "Claim": "quell.analysis.claim",
    "Claims": "quell.analysis.claim",
    "World": "quell.trial",
    "run": "quell.trial",
    "truth": "quell.trial",
    "analyse": "quell.analysis.plan",
    "repeat": "quell.design",
    "Design": "quell.design.declared",
    "respond": "quell.response",
    "read_study": "quell.exchange",
    "page": "quell.report:build",
    "BadInput": "quell.sentences",
}

__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"quell has no '{name}'; it has {', '.join(sorted(_WHERE))}")
    module, _, attribute = _WHERE[name].partition(":")
    return getattr(importlib.import_module(module), attribute or name)


def __dir__() -> list[str]:
    return sorted(__all__)
