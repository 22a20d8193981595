"""What ``quell exam`` does: IVORY and IVORY-FINALE predicted, and their published results held against it."""

from __future__ import annotations

import pathlib
import threading
from collections.abc import Callable
from typing import Any

from quell import __version__, store
from quell.delivery import check_folder, deliver, to_json, versions

Tell = Callable[[str, float | None], None]
TRIALS, KEY, WORLD = 2000, 1, "before-ivory"


def exam(
    *, folder: pathlib.Path | None, trials: int = TRIALS, key: int = KEY, world: str = WORLD, tell: Tell
) -> dict[str, Any]:
    """Simulate both trials many times in a world, its prior, and one of chance alone; hold what is published against them."""
    if folder:
        check_folder(folder)
    tell("waking the simulator", None)
    from quell import figures
    from quell.exam import sitting, worlds
    from quell.report import exam as page
    from quell.report import examined

    threading.Thread(target=figures.prepare, daemon=True).start()
    store.keep()
    found = sitting.sit(worlds.worlds(world), trials=trials, key=key, tell=tell) | {"version": __version__}
    lines = [examined.sentence(found), *(f"  outside: {one}" for one in examined.misses(found))]
    if folder:
        tell("writing the page", None)
        built = page.build(found, versions("scipy", "jax"))
        files: dict[str, bytes | str] = {f"data/{name}": content for name, content in built.files.items()}
        written = deliver(folder, files | {"report.html": built.html, "exam.json": to_json(found) + "\n"})
        found |= {"files": [str(path) for path in written]}
        lines.append(f"report: {folder / 'report.html'}")
    return found | {"lines": lines}
