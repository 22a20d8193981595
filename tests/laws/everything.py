"""A protocol that uses every declared method, made by a table: method, endpoint, summary and what else it needs."""

import pathlib

from quell.protocol import Protocol
from quell.questions import METHODS

ENDPOINT = {
    "continuous": "index vessel TBRmax",
    "longitudinal": "Treg share over time",
    "responder": "hsCRP below 2 mg/L",
    "composite": "MACE",
    "recurrent": "every cardiovascular event",
    "hierarchical": "death, then events, then inflammation",
}
WORKS = {"adjust": ["baseline"]}
MORE = {
    "two-sample t": {},
    "stratified score interval": {"strata": ["site"]},
    "standardised logistic": {"adjust": ["age"]},
    "conditional mean imputation": WORKS | {"assume": "jump to reference"},
    "multiple imputation": WORKS | {"assume": "copy reference"},
    "cox": {"adjust": ["age"], "strata": ["site"]},
    "log-rank": {"strata": ["site"]},
    "negative binomial": {"adjust": ["age"]},
    "proportional rates": {"adjust": ["age"]},
}


def asked() -> list[tuple[str, str, str]]:
    """Every method with each summary it estimates, and an endpoint it can read."""
    return [
        (name, summary, next(ENDPOINT[kind] for kind in way.kinds if kind in ENDPOINT))
        for name, way in METHODS.items()
        for summary in way.summaries
    ]


def everything(folder: pathlib.Path) -> Protocol:
    """The protocol, and its path for the command line, in a folder."""
    text = (pathlib.Path(__file__).parent / "everything.toml").read_text()
    for number, (method, summary, endpoint) in enumerate(asked()):
        name = f"{method}, {summary}"
        measured = endpoint in (ENDPOINT["continuous"], ENDPOINT["longitudinal"])
        more = MORE.get(method, WORKS if measured else {})
        until = "" if measured or endpoint == ENDPOINT["responder"] else 'until = "2 years"\n'
        text += (
            f'\n[[estimands]]\nname = "{name}"\nendpoint = "{endpoint}"\nactive = ["aldesleukin"]\ncontrol = "placebo"\n'
            f'summary = "{summary}"\n{until}'
            'intercurrent_events = [{ event = "stopping the drug", strategy = "treatment policy" }]\n'
            f'\n[[analyses]]\nname = "{name}"\nestimand = "{name}"\nmethod = "{method}"\n'
            f'role = "{"primary" if number == 0 else "exploratory"}"\n'
            + "".join(f"{key} = {value!r}\n".replace("'", '"') for key, value in more.items())
        )
    path = folder / "everything.toml"
    path.write_text(text)
    return Protocol.load(path)
