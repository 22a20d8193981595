"""The command line: the same few verbs as the library. JSON goes to standard output, everything else to standard error.

Exit codes: 0 done, 2 the input is wrong (in a sentence), 1 anything else.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer

from quell.sentences import BadInput

app = typer.Typer(
    name="quell",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Plan, simulate, run and read trials of immune-targeted therapy after a heart attack. "
    "For research and trial planning, not for treating a patient.",
)

Out = Annotated[
    pathlib.Path | None, typer.Option("--out", help="Folder for the results; made if needed.", metavar="DIR")
]
Key = Annotated[
    int, typer.Option("--key", help="Any whole number: the same key gives the same result.", min=0, max=2**63 - 1)
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
World = Annotated[
    str,
    typer.Option("--world", help="What is known of the body: prior (central values), before-ivory, or after-ivory."),
]
Without = Annotated[str, typer.Option("--without", help="A world without 'efficacy', the 'drug', or the 'loop'.")]


@app.command()
def run(
    protocol: Annotated[str, typer.Argument(help="A built-in protocol (ivory, ivory-finale) or a TOML file.")],
    out: Out = None,
    key: Key = 2026,
    world: World = "prior",
    without: Without = "",
    repeats: Annotated[
        int,
        typer.Option(
            "--repeats", help="Simulated trials behind the published-against-simulated figure.", min=0, max=100_000
        ),
    ] = 100,
    as_json: Json = False,
) -> None:
    """Simulate one trial, analyse it, and write a report."""
    from quell import verbs

    with _telling("quell run") as tell:
        found = verbs.run(protocol, folder=out, key=key, world=world, without=without, repeats=repeats, tell=tell)
    _finish(found, as_json)


@app.command()
def analyse(
    study: Annotated[
        pathlib.Path, typer.Argument(help="A folder with a study: quell tables, or CDISC ADaM Dataset-JSON.")
    ],
    protocol: Annotated[
        str, typer.Option("--protocol", help="The protocol the study followed: built-in name or TOML file.")
    ],
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Carry out a protocol's analyses on a real study, and write a report."""
    from quell import verbs

    with _telling("quell analyse") as tell:
        found = verbs.analyse(study, protocol, folder=out, tell=tell)
    _finish(found, as_json)


@app.command()
def repeat(
    design: Annotated[
        str, typer.Argument(help="A design (ivory-3, or a TOML file), or a protocol: built-in name or TOML file.")
    ],
    trials: Annotated[
        int, typer.Option("--trials", help="How many trials to simulate, in each world.", min=2, max=10_000_000)
    ] = 2000,
    against: Annotated[
        list[str] | None, typer.Option("--against", help="Another design to compare with on the same trials.")
    ] = None,
    target: Annotated[
        float | None, typer.Option("--target", help="Chance of success, such as 0.9, whose smallest size is sought.")
    ] = None,
    engine: Annotated[
        str, typer.Option("--engine", help="local, dask, slurm, a scheduler's address, or a TOML file.")
    ] = "local",
    workers: Annotated[int | None, typer.Option("--workers", help="How many; as many as cores unless said.")] = None,
    out: Out = None,
    key: Key = 2026,
    world: World = "prior",
    without: Without = "",
    uncertain: Annotated[
        bool, typer.Option("--uncertain", help="Draw the body's parameters anew for every trial of a protocol.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Simulate and analyse many trials: success, size, time, bias and coverage, each with its Monte Carlo error."""
    from quell import design_verb, verbs

    with _telling("quell repeat") as tell:
        if design_verb.is_design(design):
            asked: dict[str, Any] = {"against": against or [], "target": target, "engine": engine, "workers": workers}
            found = design_verb.repeat(design, folder=out, trials=trials, key=key, tell=tell, **asked)
        else:
            how: dict[str, Any] = {"key": key, "world": world, "without": without, "uncertain": uncertain}
            found = verbs.repeat(design, folder=out, trials=trials, tell=tell, **how)
    _finish(found, as_json)


@app.command()
def optimise(
    protocol: Annotated[str, typer.Argument(help="Whose people: a built-in protocol or a TOML file.")] = "ivory",
    world: Annotated[str, typer.Option("--world", help="before-ivory or after-ivory.")] = "after-ivory",
    horizon: Annotated[str, typer.Option("--horizon", help='Over how long, such as "2 years".')] = "2 years",
    burden: Annotated[
        str, typer.Option("--burden", help='What one prevented event outweighs: "25000 injections; 500 fevers".')
    ] = "",
    limit: Annotated[
        list[str] | None, typer.Option("--limit", help='A limit, such as "teff=10 %" or "treg=none".')
    ] = None,
    beyond: Annotated[bool, typer.Option("--beyond", help="Doses above the highest studied, too.")] = False,
    draws: Annotated[int, typer.Option("--draws", help="Sets of the body's constants.", min=4, max=1500)] = 64,
    people: Annotated[int, typer.Option("--people", help="People of each draw.", min=4, max=1000)] = 16,
    out: Out = None,
    key: Key = 2026,
    as_json: Json = False,
) -> None:
    """The dose and schedule of the best benefit against burden within limits, and how sure that is."""
    from quell import design_verb

    asked: dict[str, Any] = {"stage": world, "horizon": horizon, "beyond": beyond, "draws": draws, "people": people}
    with _telling("quell optimise") as tell:
        found = design_verb.optimise(
            protocol, folder=out, key=key, worth=burden, limits=limit or [], tell=tell, **asked
        )
    _finish(found, as_json)


@app.command()
def impact(
    design: Annotated[str, typer.Argument(help="A design whose people's lives tell the effect, such as ivory-3.")] = "",
    hazard_ratio: Annotated[
        str, typer.Option("--hazard-ratio", help='Or the effect by hand: "0.7 (0.5 to 0.98)".')
    ] = "",
    lasts: Annotated[str, typer.Option("--lasts", help='How long it lasts: "2 years", or life.')] = "2 years",
    world: Annotated[str, typer.Option("--world", help="The design's world; its first unless said.")] = "",
    country: Annotated[str, typer.Option("--country", help="Whose numbers: uk.")] = "uk",
    inputs: Annotated[
        pathlib.Path | None, typer.Option("--inputs", help="A TOML file with other inputs.", metavar="FILE")
    ] = None,
    price: Annotated[float | None, typer.Option("--price", help="Of a course, if known.", min=0)] = None,
    draws: Annotated[int, typer.Option("--draws", help="Draws of all inputs.", min=20, max=20_000)] = 1000,
    out: Out = None,
    key: Key = 2026,
    as_json: Json = False,
) -> None:
    """What a trial's effect would mean for a country: events averted, number needed to treat, years of life, cost."""
    from quell import design_verb

    asked: dict[str, Any] = {"lasts": lasts, "country": country, "inputs": inputs, "price": price, "draws": draws}
    with _telling("quell impact") as tell:
        found = design_verb.impact(design, ratio=hazard_ratio, folder=out, key=key, world=world, tell=tell, **asked)
    _finish(found, as_json)


@app.command()
def respond(
    dose: Annotated[str, typer.Option("--dose", help='Such as "1.5 MIU", "0.25 MIU/m2" or "92 ug".')],
    days: Annotated[str, typer.Option("--days", help='Study days, such as "1..5, 12..54 every 7".')],
    patients: Annotated[int, typer.Option("--patients", help="Virtual patients.", min=2, max=10_000_000)] = 1000,
    population: Annotated[str, typer.Option("--population", help="Who they are: ivory or post-mi.")] = "ivory",
    until: Annotated[
        int | None, typer.Option("--until", help="Last study day; four weeks after the last dose.", min=1)
    ] = None,
    draws: Annotated[
        int, typer.Option("--draws", help="Sets of constants drawn to show what is not known.", min=0, max=10_000)
    ] = 20,
    structure: Annotated[
        list[str] | None, typer.Option("--structure", help='A structure of the body, such as "depletion=none".')
    ] = None,
    world: World = "prior",
    out: Out = None,
    key: Key = 2026,
    as_json: Json = False,
) -> None:
    """What a dose schedule does to patients: cells, inflammation, vessels, heart, by day."""
    from quell import verbs

    asked: dict[str, Any] = {"patients": patients, "population_name": population, "until": until, "draws": draws}
    asked |= {"structures": _pairs(structure or []), "world": world, "key": key}
    with _telling("quell respond") as tell:
        found = verbs.respond(dose, days, folder=out, tell=tell, **asked)
    _finish(found, as_json)


def _pairs(given: list[str]) -> dict[str, str]:
    """Options written "name=choice", as a dictionary."""
    for text in given:
        if text.count("=") != 1:
            raise BadInput(
                f"--structure: '{text}' is no choice. Write the question, '=', and the option: 'depletion=none'."
            )
    return dict(text.split("=") for text in given)


@app.command()
def exam(
    out: Out = None,
    trials: Annotated[int, typer.Option("--trials", help="Simulated trials of each kind.", min=20, max=100_000)] = 2000,
    world: World = "before-ivory",
    key: Key = 1,
    as_json: Json = False,
) -> None:
    """Predict IVORY and IVORY-FINALE from other people's studies, and hold what was published against the prediction."""
    from quell import exam_verb

    with _telling("quell exam") as tell:
        found = exam_verb.exam(folder=out, trials=trials, key=key, world=world, tell=tell)
    _finish(found, as_json)


@app.command()
def calibrate(
    out: Out = None,
    key: Key = 2026,
    quick: Annotated[
        bool, typer.Option("--quick", help="Every step with a twentieth of the work: a check, not for use.")
    ] = False,
    study: Annotated[
        pathlib.Path | None,
        typer.Option("--study", metavar="DIR", help="A folder with your own study: fit the model to its people."),
    ] = None,
    protocol: Annotated[str, typer.Option("--protocol", help="The protocol that study followed.")] = "ivory",
    quantity: Annotated[
        list[str] | None, typer.Option("--quantity", help="A quantity of the study to fit; the usual ones unless said.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Fit the body to published studies from scratch, or to your own study; what was stopped goes on where it was."""
    from quell import own_verb, verbs

    with _telling("quell calibrate") as tell:
        if study is None:
            found = verbs.calibrate(folder=out, key=key, quick=quick, tell=tell)
        else:
            how: dict[str, Any] = {"key": key, "quick": quick, "quantities": quantity or []}
            found = own_verb.own_study(study, protocol, folder=out, tell=tell, **how)
    _finish(found, as_json)


@app.command()
def convert(
    target: Annotated[pathlib.Path, typer.Argument(help="The file to write, such as model.sbml.")],
    protocol: Annotated[
        str, typer.Option("--protocol", help="Whose doses: a built-in protocol or a TOML file.")
    ] = "ivory",
    arm: Annotated[str, typer.Option("--arm", help="The arm; the first active one if none is named.")] = "",
    subject: Annotated[
        int | None, typer.Option("--subject", help="A drawn patient by number, instead of the typical one.", min=0)
    ] = None,
    key: Key = 2026,
    as_json: Json = False,
) -> None:
    """Write the model as SBML, for other people's tools."""
    from quell import verbs

    _finish(verbs.convert(target, protocol, arm=arm, subject=subject, key=key), as_json)


@app.command()
def check(
    what: Annotated[str, typer.Argument(help="A protocol (name or TOML file), a study folder, or one data file.")],
    protocol: Annotated[str, typer.Option("--protocol", help="For a study: the protocol to check it against.")] = "",
    show: Annotated[bool, typer.Option("--show", help="Print a protocol in its full canonical form.")] = False,
    as_json: Json = False,
) -> None:
    """Say what an input is and whether it can be used."""
    from quell import design_verb, verbs

    found = design_verb.check(what) if design_verb.is_design(what) else verbs.check(what, protocol)
    if show and "toml" in found:
        print(found["toml"], end="")
        return
    found.pop("toml", None)
    _finish(found, as_json)


def _version(wanted: bool) -> None:
    if wanted:
        from quell import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of quell itself."""


Tell = Callable[[str, float | None], None]


@contextlib.contextmanager
def _telling(title: str) -> Iterator[Tell]:
    """A way to say what is being done and how far it is: a live line on a terminal, nothing in a pipe."""
    if not sys.stderr.isatty():
        yield lambda step, share: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as live:
        task = live.add_task(title, total=None)

        def tell(step: str, share: float | None) -> None:
            live.update(task, description=step, total=None if share is None else 1.0, completed=share or 0.0)

        yield tell


def _finish(found: dict[str, Any], as_json: bool) -> None:
    """The result for a program, or in a few lines for a person."""
    lines = found.pop("lines", [])
    if as_json:
        from quell.delivery import to_json

        print(to_json(found))
    else:
        print("\n".join(lines), file=sys.stderr)
    if found.get("problems"):
        raise typer.Exit(2)


def main() -> None:
    """The entry point: errors of the input become a sentence and exit code 2."""
    gc.set_threshold(200_000, 20, 20)  # a short-lived program makes much and drops little: look for cycles less often
    try:
        app(standalone_mode=True)
    except BadInput as error:
        print(f"quell: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as stopped:
        print(f"quell: {stopped or 'interrupted; nothing was left half-written.'}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except MemoryError:
        print("quell: this needs more memory than the machine has. Ask for fewer trials or people.", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        if os.environ.get("QUELL_DEBUG"):
            raise
        print(
            f"quell: a fault of quell itself, not of your input: {type(error).__name__}: {error}\n"
            "Run again with QUELL_DEBUG=1 to see where, and please report it.",
            file=sys.stderr,
        )
        sys.exit(1)
