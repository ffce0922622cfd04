"""What is served beside the page on its server, as the HTTP API is: routes with their rules and keys, and tabs of the
page that are made of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from starlette.routing import Route

from studio.service.gate import KeyChecker, RefusalBody, Rule, no_keys


@dataclass(frozen=True)
class Tab:
    """A tab of the page that the page itself knows nothing of. id: its title is the string tab.ID. body: html. script:
    run once with `element`, the element around the body; it follows the language in the document's lang."""

    id: str
    body: str
    script: str
    style: str


@dataclass(frozen=True)
class Endpoints:
    """Routes, what the gate lets through to them, who has a key, what refusals say there (see Gate), and tabs."""

    routes: Sequence[Route] = ()
    rules: Sequence[Rule] = ()
    keys: KeyChecker = no_keys
    bodies: Mapping[str, RefusalBody] = field(default_factory=dict)
    tabs: Sequence[Tab] = ()


NOTHING = Endpoints()


def joined(first: Endpoints, *others: Endpoints) -> Endpoints:
    """All of them; the keys are the first one's."""
    every = (first, *others)
    return Endpoints(
        routes=list(chain.from_iterable(one.routes for one in every)),
        rules=list(chain.from_iterable(one.rules for one in every)),
        keys=first.keys,
        bodies=dict(chain.from_iterable(one.bodies.items() for one in every)),
        tabs=list(chain.from_iterable(one.tabs for one in every)),
    )
