"""What ``quell calibrate --study`` does: the model of one person fitted to the user's own study, and everybody foretold."""

from __future__ import annotations

import pathlib
import shutil
import threading
from collections.abc import Callable, Sequence
from typing import Any

from quell import __version__, store
from quell.delivery import check_folder, deliver, to_json, versions
from quell.protocol import Protocol

Tell = Callable[[str, float | None], None]
KEY, UNFINISHED = 2026, "unfinished"


def own_study(
    path: pathlib.Path,
    name: str,
    *,
    folder: pathlib.Path | None,
    key: int = KEY,
    quick: bool = False,
    quantities: Sequence[str] = (),
    tell: Tell,
) -> dict[str, Any]:
    """Fit a study and write draws, predictions, a page and JSON; a fit that was stopped goes on where it was.

    ``quantities`` are those to fit, of ``followed.KINDS``; by default the usual ones that the study holds.
    Raises BadInput, in a sentence, where the study cannot be read, lacks what is needed, or is too short.
    """
    from quell.exchange import read_study

    protocol = Protocol.load(name)
    folder = folder or pathlib.Path("out") / f"{protocol.name}-own-study"
    check_folder(folder)
    tell("reading the study", None)
    study = read_study(path, protocol)
    tell("waking the simulator", None)
    from quell import figures
    from quell.calibrate import groups, individual, own_study
    from quell.report import own as page

    threading.Thread(target=figures.prepare, daemon=True).start()
    store.keep()
    effort = individual.QUICK if quick else individual.FULL
    how: dict[str, Any] = {"key": key, "quantities": quantities, "effort": effort, "folder": folder / UNFINISHED}
    fitted = individual.fit_study(study, protocol, **how, tell=tell)
    tell("foretelling everybody", None)
    predicted, seen = own_study.predictions(fitted), own_study.seen(fitted)
    found = own_study.summary(fitted, study, predicted) | {"key": key, "quick": quick, "version": __version__}
    tell("writing the page", None)
    built = page.build(page.Told(found, predicted, seen), versions("scipy", "jax", "numpyro"))
    files: dict[str, bytes | str] = {f"data/{one}": content for one, content in built.files.items()}
    files |= {"report.html": built.html, "fit.json": to_json(found) + "\n"}
    files |= {"predictions.parquet": groups.parquet(predicted), "readings.parquet": groups.parquet(seen)}
    written = [*deliver(folder, files), *groups.write(fitted, folder)]
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
    found |= {"files": sorted({str(one) for one in map(_whole, written)})}
    return found | {"lines": [page.sentence(found), *_said(found), f"report: {folder / 'report.html'}"]}


def _whole(path: pathlib.Path) -> pathlib.Path:
    """A store of many files is named as one."""
    return next((one for one in path.parents if one.suffix == ".zarr"), path)


def _said(found: dict[str, Any]) -> list[str]:
    return [f"  {fault}" for fault in found["faults"]] or ["  no fault found"]
