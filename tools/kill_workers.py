"""Three runs of one command that must give the same files: this machine's threads, Dask's processes, and those killed.

``python -m tools.kill_workers FOLDER -- quell repeat ivory-3 --trials 10000``: each run gets its own ``--out`` under the
folder and its own QUELL_CACHE, so that people are made anew as well; in the last, two workers are killed on the way.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import signal
import subprocess
import sys
import time

import psutil

WORKERS, KILLED, PAUSE = 4, 2, 3.0  # seconds between two deaths


def main() -> int:
    """Run three times, compare, and say what differs."""
    folder, command = pathlib.Path(sys.argv[1]), sys.argv[sys.argv.index("--") + 1 :]
    dask = ["--engine", "dask", "--workers", str(WORKERS)]
    runs = {"local": (["--engine", "local"], 0), "dask": (dask, 0), "killed": (dask, KILLED)}
    found = {name: run(folder / name, [*command, *extra], kills) for name, (extra, kills) in runs.items()}
    differ = sorted(
        {path for each in found.values() for path, known in each.items() if known != found["local"].get(path)}
    )
    differ += sorted(path for path in found["local"] if any(path not in each for each in found.values()))
    print(f"{len(found['local'])} files, {len(set(differ))} differ: {', '.join(differ) or 'none'}")
    return 1 if differ else 0


def run(place: pathlib.Path, command: list[str], kills: int) -> dict[str, str]:
    """One run; the SHA-256 of every file it left."""
    began = time.monotonic()
    environment = os.environ | {"QUELL_CACHE": str(place / "cache")}
    started = subprocess.Popen([*command, "--out", str(place / "out")], env=environment)
    for _ in range(kills):
        while started.poll() is None and not (any(place.rglob("SHA256SUMS")) and processes(started.pid)):
            time.sleep(0.2)  # until something is finished
        if started.poll() is None:
            eldest = processes(started.pid)[0]
            print(f"killing worker {eldest}", file=sys.stderr)
            os.kill(eldest, signal.SIGKILL)
            time.sleep(PAUSE)
    if started.wait():
        raise SystemExit(f"{' '.join(command)} ended with {started.returncode}")
    print(f"{place.name}: {time.monotonic() - began:.0f} s")
    roots = (place / "out", place / "cache" / "banks")
    every = [path for root in roots for path in sorted(root.rglob("*")) if path.is_file()]
    return {str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest() for path in every}


def processes(parent: int) -> list[int]:
    """Dask's workers among a process's children, the eldest first."""
    return [one.pid for one in psutil.Process(parent).children() if "spawn_main" in " ".join(one.cmdline())]


if __name__ == "__main__":
    sys.exit(main())
